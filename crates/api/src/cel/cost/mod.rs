//! What expressions cost, in the units that Kubernetes limits: about one per step, a tenth per character looked at.
//!
//! [`estimate`] bounds the cost of an expression before it runs, from the sizes that schemas allow; [`runtime`] says
//! what a call did cost. Both are cel-go's and Kubernetes's to the unit, as an expression that upstream accepts must
//! be accepted, and one that it stops must stop.

mod calls;
mod estimate;
mod library;
pub(super) mod runtime;

pub(super) use estimate::estimate;

/// What looking at one character costs.
pub(super) const TRAVERSAL: f64 = 0.1;

/// What matching with one character of a regular expression costs.
pub(super) const PATTERN: f64 = 0.25;

pub(super) const NAME: u64 = 1;
pub(super) const LIST: u64 = 10;
pub(super) const MAP: u64 = 30;
pub(super) const OBJECT: u64 = 40;

/// Bounds of how large a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SizeEstimate {
    pub(super) min: u64,
    pub(super) max: u64,
}

/// Bounds of what an expression may cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CostEstimate {
    pub min: u64,
    pub max: u64,
}

/// `size * factor`, rounded up, saturating.
pub(super) fn scaled(size: u64, factor: f64) -> u64 {
    // A double that is too large becomes the largest whole number.
    (size as f64 * factor).ceil() as u64
}

impl SizeEstimate {
    pub(super) const UNKNOWN: Self = Self { min: 0, max: u64::MAX };
    /// What a union starts with.
    pub(super) const EMPTY_UNION: Self = Self { min: u64::MAX, max: 0 };

    pub(super) fn fixed(size: u64) -> Self {
        Self { min: size, max: size }
    }

    pub(super) fn add(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(super) fn multiply(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(super) fn scale(self, factor: f64) -> CostEstimate {
        CostEstimate { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }

    pub(super) fn times(self, cost: CostEstimate) -> CostEstimate {
        CostEstimate { min: self.min.saturating_mul(cost.min), max: self.max.saturating_mul(cost.max) }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

impl CostEstimate {
    pub(super) fn fixed(cost: u64) -> Self {
        Self { min: cost, max: cost }
    }

    pub(super) fn add(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(super) fn multiply(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(super) fn scale(self, factor: f64) -> Self {
        Self { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}
