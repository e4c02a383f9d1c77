//! What must stay free on a node, written as upstream's `eviction-hard`: below it the node is under pressure and takes no
//! more pods, and pods are never promised it.
//!
//! `SIGNAL<AMOUNT`, separated by commas; an amount is a quantity or a share in percent. What is not named has no
//! threshold, nor has what is named with 0% or 100%.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::quantity;

/// Upstream's signals. `imagefs` and `containerfs` are the same file system as `nodefs` here.
const SIGNALS: [&str; 9] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "pid.available",
    "allocatableMemory.available",
];

/// The thresholds of a node, by signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(BTreeMap<String, Amount>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Whole(u64),
    /// Hundredths.
    Share(f64),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("{0:?} is not SIGNAL<AMOUNT, such as nodefs.available<5%")]
    Form(String),
    #[error("unsupported eviction signal {signal:?}: it is one of {}", SIGNALS.join(", "))]
    Signal { signal: String },
    #[error("{signal}<{amount}: the amount is a quantity above 0, such as 100Mi, or a share from 0% to 100%")]
    Amount { signal: String, amount: String },
}

/// Upstream's, but for the disk k3s's, which asks for less of it; and of process numbers a tenth.
impl Default for Thresholds {
    fn default() -> Self {
        let thresholds = [
            ("memory.available", Amount::Whole(100 << 20)),
            ("nodefs.available", Amount::Share(5.0)),
            ("nodefs.inodesFree", Amount::Share(5.0)),
            ("imagefs.available", Amount::Share(5.0)),
            ("imagefs.inodesFree", Amount::Share(5.0)),
            ("pid.available", Amount::Share(10.0)),
        ];
        Self(thresholds.map(|(signal, amount)| (signal.to_owned(), amount)).into())
    }
}

impl FromStr for Thresholds {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let mut thresholds = BTreeMap::new();
        for statement in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let (signal, amount) =
                statement.split_once('<').ok_or_else(|| ThresholdError::Form(statement.to_owned()))?;
            let (signal, amount) = (signal.trim(), amount.trim());
            if !SIGNALS.contains(&signal) {
                return Err(ThresholdError::Signal { signal: signal.to_owned() });
            }
            let wrong = || ThresholdError::Amount { signal: signal.to_owned(), amount: amount.to_owned() };
            let amount = match amount.strip_suffix('%') {
                Some("0" | "100") => continue,
                Some(share) => {
                    Amount::Share(share.parse().ok().filter(|it| (0.0..=100.0).contains(it)).ok_or_else(wrong)?)
                }
                None => Amount::Whole(quantity::parse(amount).filter(|it| *it > 0.0).ok_or_else(wrong)? as u64),
            };
            thresholds.insert(signal.to_owned(), amount);
        }
        Ok(Self(thresholds))
    }
}

impl Thresholds {
    /// How much of `whole` must stay free by any of these signals; 0 if none has a threshold.
    pub(crate) fn kept(&self, signals: &[&str], whole: u64) -> u64 {
        let kept = signals.iter().filter_map(|signal| self.0.get(*signal)).map(|amount| match amount {
            Amount::Whole(amount) => *amount,
            Amount::Share(share) => (whole as f64 * share / 100.0) as u64,
        });
        kept.max().unwrap_or(0)
    }

    /// Whether less is free than must be.
    pub(crate) fn are_met(&self, signals: &[&str], free: u64, whole: u64) -> bool {
        free < self.kept(signals, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_written_as_upstreams() {
        let stated: Thresholds = "memory.available<1Gi, nodefs.available<12.5%,imagefs.available<0%".parse().unwrap();
        assert_eq!(stated.kept(&["memory.available"], 1 << 40), 1 << 30);
        assert_eq!(stated.kept(&["nodefs.available"], 1000), 125);
        assert_eq!(stated.kept(&["imagefs.available", "pid.available"], 1000), 0, "what is not named has none");
        assert!(stated.are_met(&["nodefs.available", "imagefs.available"], 124, 1000));
        assert!(!stated.are_met(&["nodefs.available", "imagefs.available"], 125, 1000));
        assert!(!stated.are_met(&["nodefs.inodesFree"], 0, 1000));
        assert_eq!("".parse(), Ok(Thresholds(BTreeMap::new())));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["memory.available", "disk<5%", "memory.available<-1%", "pid.available<101%", "nodefs.available<0"]
        {
            assert!(text.parse::<Thresholds>().is_err(), "{text}");
        }
    }
}
