//! What bounds an evaluation beside its cost.
//!
//! Costs are upstream's, so that the same expressions are refused; they say nothing of what some steps really take
//! (comparing what shares its parts, joining lists). Those steps are counted here, and so every evaluation ends.

use super::value::EvaluationError;

/// The most small steps of one evaluation: a fraction of a second's.
const STEPS: u64 = 2_000_000;

/// The most bytes of a text, or items of a list, that an expression may make: ten times what a request may bring.
pub(super) const MAX_SIZE: usize = 32 << 20;

#[derive(Debug)]
pub(super) struct Work {
    steps: u64,
}

impl Work {
    pub(super) fn new() -> Self {
        Self { steps: STEPS }
    }

    /// Counts steps before they are made.
    pub(super) fn spend(&mut self, steps: u64) -> Result<(), EvaluationError> {
        self.steps = self.steps.checked_sub(steps).ok_or(EvaluationError::CostExceeded)?;
        Ok(())
    }

    /// Counts the making of a text of this length.
    pub(super) fn make_text(&mut self, length: usize) -> Result<(), EvaluationError> {
        match length > MAX_SIZE {
            true => Err(EvaluationError::CostExceeded),
            false => self.spend(length as u64 / 16),
        }
    }
}
