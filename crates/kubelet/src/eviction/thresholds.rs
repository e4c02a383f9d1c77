//! What must stay free on a node, as upstream's `eviction-hard`, `eviction-soft` and what goes with them say it.
//!
//! A statement is a signal and an amount, which is a quantity or a share in percent. What is not named has no threshold,
//! nor has what is named with 0% or 100%.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use api::quantity::{Format, Quantity};

use super::Pressure;

/// What is looked at, in upstream's order of reclaiming: memory first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    /// Of what pods may use together.
    AllocatableMemoryAvailable,
    /// The disk of volumes and logs.
    NodefsAvailable,
    NodefsInodesFree,
    /// The disk of images.
    ImagefsAvailable,
    ImagefsInodesFree,
    /// The disk of what containers write to their root.
    ContainerfsAvailable,
    ContainerfsInodesFree,
    PidAvailable,
}

/// What runs short: its name in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Memory,
    EphemeralStorage,
    Inodes,
    Pids,
}

/// The names of signals, and what runs short when they are low.
const SIGNALS: [(Signal, &str, Resource); 9] = [
    (Signal::MemoryAvailable, "memory.available", Resource::Memory),
    (Signal::AllocatableMemoryAvailable, "allocatableMemory.available", Resource::Memory),
    (Signal::NodefsAvailable, "nodefs.available", Resource::EphemeralStorage),
    (Signal::NodefsInodesFree, "nodefs.inodesFree", Resource::Inodes),
    (Signal::ImagefsAvailable, "imagefs.available", Resource::EphemeralStorage),
    (Signal::ImagefsInodesFree, "imagefs.inodesFree", Resource::Inodes),
    (Signal::ContainerfsAvailable, "containerfs.available", Resource::EphemeralStorage),
    (Signal::ContainerfsInodesFree, "containerfs.inodesFree", Resource::Inodes),
    (Signal::PidAvailable, "pid.available", Resource::Pids),
];

impl Signal {
    pub fn name(self) -> &'static str {
        SIGNALS[self as usize].1
    }

    pub(crate) fn resource(self) -> Resource {
        SIGNALS[self as usize].2
    }
}

impl FromStr for Signal {
    type Err = ThresholdError;

    fn from_str(name: &str) -> Result<Self, ThresholdError> {
        let found = SIGNALS.iter().find(|(_, known, _)| *known == name).map(|(signal, ..)| *signal);
        found.ok_or_else(|| ThresholdError::Signal { signal: name.to_owned() })
    }
}

impl Resource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::EphemeralStorage => "ephemeral-storage",
            Self::Inodes => "inodes",
            Self::Pids => "pids",
        }
    }

    /// The condition of the node that tells of it.
    pub(crate) fn pressure(self) -> Pressure {
        let none = Pressure::default();
        match self {
            Self::Memory => Pressure { memory: true, ..none },
            Self::EphemeralStorage | Self::Inodes => Pressure { disk: true, ..none },
            Self::Pids => Pressure { pids: true, ..none },
        }
    }
}

/// How much: so much, or a share of all, where 1 is all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Amount {
    Whole(Quantity),
    Share(f32),
}

impl Amount {
    /// Of a capacity, rounded as upstream's.
    pub(crate) fn of(&self, capacity: u64) -> Quantity {
        match self {
            Self::Whole(quantity) => quantity.clone(),
            Self::Share(share) => {
                Quantity::from_i64((capacity as f64 * f64::from(*share)) as i64, Format::BinarySi).canonical()
            }
        }
    }

    /// A share in percent, else a quantity.
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(share) => share.parse::<f32>().ok().filter(|it| it.is_finite()).map(|it| Self::Share(it / 100.0)),
            None => text.parse().ok().map(Self::Whole),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(quantity) => quantity.fmt(f),
            // As it was written: what is stored of 0.15 is a little more.
            Self::Share(share) => write!(f, "{}%", (f64::from(*share) * 1e6).round() / 1e4),
        }
    }
}

/// Amounts by signal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds(BTreeMap<Signal, Amount>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("{0:?} is not SIGNAL{1}AMOUNT, such as nodefs.available{1}5%")]
    Form(String, char),
    #[error("unsupported eviction signal {signal:?}: it is one of {}", SIGNALS.map(|it| it.1).join(", "))]
    Signal { signal: String },
    #[error("{signal}: {amount}: the amount is a quantity above 0, such as 100Mi, or a share from 0% to 100%")]
    Amount { signal: String, amount: String },
    #[error("{signal}: {amount}: the least that is reclaimed is a quantity, such as 500Mi, or a share above 0%")]
    Reclaim { signal: String, amount: String },
    #[error("{signal}: {period:?} is no length of time, such as 1m30s")]
    Period { signal: String, period: String },
    #[error(
        "grace period must be specified for the soft eviction threshold {0}: say it with eviction-soft-grace-period"
    )]
    NoPeriod(&'static str),
}

/// `SIGNAL<AMOUNT` or `SIGNAL=AMOUNT`, separated by commas.
pub fn statements(text: &str, separator: char) -> Result<BTreeMap<String, String>, ThresholdError> {
    let each = text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(|statement| {
        let pair = statement.split_once(separator);
        let (signal, amount) = pair.ok_or_else(|| ThresholdError::Form(statement.to_owned(), separator))?;
        Ok((signal.trim().to_owned(), amount.trim().to_owned()))
    });
    each.collect()
}

impl Thresholds {
    /// What must stay free, by signal.
    pub fn least(stated: &BTreeMap<String, String>) -> Result<Self, ThresholdError> {
        let mut thresholds = BTreeMap::new();
        for (signal, amount) in stated {
            let wrong = || ThresholdError::Amount { signal: signal.clone(), amount: amount.clone() };
            let key = signal.parse()?;
            if matches!(amount.as_str(), "0%" | "100%") {
                continue;
            }
            let parsed = Amount::parse(amount).ok_or_else(wrong)?;
            let sound = match &parsed {
                Amount::Whole(quantity) => quantity.signum() > 0,
                Amount::Share(share) => (0.0..=1.0).contains(share),
            };
            thresholds.insert(key, if sound { parsed } else { return Err(wrong()) });
        }
        Ok(Self(thresholds))
    }

    /// How much more than the threshold is freed once it is met.
    pub fn reclaim(stated: &BTreeMap<String, String>) -> Result<Self, ThresholdError> {
        let mut amounts = BTreeMap::new();
        for (signal, amount) in stated {
            let wrong = || ThresholdError::Reclaim { signal: signal.clone(), amount: amount.clone() };
            let parsed = Amount::parse(amount).ok_or_else(wrong)?;
            let sound = match &parsed {
                Amount::Whole(quantity) => quantity.signum() >= 0,
                Amount::Share(share) => *share > 0.0,
            };
            amounts.insert(signal.parse()?, if sound { parsed } else { return Err(wrong()) });
        }
        Ok(Self(amounts))
    }

    /// How much of `whole` must stay free by any of these signals; 0 if none has a threshold.
    pub(crate) fn kept(&self, signals: &[Signal], whole: u64) -> u64 {
        let kept = signals.iter().filter_map(|signal| self.0.get(signal)).map(|amount| amount.of(whole).value());
        kept.max().and_then(|kept| u64::try_from(kept).ok()).unwrap_or(0)
    }

    /// As a KubeletConfiguration has them.
    pub fn texts(&self) -> BTreeMap<&'static str, String> {
        self.0.iter().map(|(signal, amount)| (signal.name(), amount.to_string())).collect()
    }

    /// These, with those of `below` for signals that are not named.
    pub fn over(mut self, below: Self) -> Self {
        for (signal, amount) in below.0 {
            self.0.entry(signal).or_insert(amount);
        }
        self
    }

    fn get(&self, signal: Signal) -> Option<&Amount> {
        self.0.get(&signal)
    }
}

/// What is done when something runs short.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// At once.
    pub hard: Thresholds,
    /// When it has been so for a while, with the grace that pods have.
    pub soft: Thresholds,
    pub soft_grace: BTreeMap<Signal, Duration>,
    pub minimum_reclaim: Thresholds,
    /// For how long the node is called short after it was seen so last.
    pub transition: Duration,
    /// The most seconds that a pod gets at a soft threshold; its own if negative.
    pub max_pod_grace: i64,
    /// What pods use together is held to what the node promises them.
    pub enforce_pods: bool,
    /// Limits on what a pod writes are kept.
    pub local_storage: bool,
}

/// Upstream's, but for the disk k3s's, which asks for less of it; and of process numbers a tenth.
impl Default for Policy {
    fn default() -> Self {
        let hard = [
            ("memory.available", "100Mi"),
            ("nodefs.available", "5%"),
            ("nodefs.inodesFree", "5%"),
            ("imagefs.available", "5%"),
            ("imagefs.inodesFree", "5%"),
            ("pid.available", "10%"),
        ];
        let stated = hard.map(|(signal, amount)| (signal.to_owned(), amount.to_owned())).into();
        Self {
            hard: Thresholds::least(&stated).unwrap_or_default(),
            soft: Thresholds::default(),
            soft_grace: BTreeMap::new(),
            minimum_reclaim: Thresholds::default(),
            transition: Duration::from_mins(5),
            max_pod_grace: 0,
            enforce_pods: true,
            local_storage: true,
        }
    }
}

impl Policy {
    /// The periods of soft thresholds, by signal.
    pub fn periods(stated: &BTreeMap<String, String>) -> Result<BTreeMap<Signal, Duration>, ThresholdError> {
        let each = stated.iter().map(|(signal, period)| {
            let key = signal.parse()?;
            let time = period.parse::<api::duration::Duration>().ok().and_then(api::duration::Duration::to_std);
            let wrong = || ThresholdError::Period { signal: signal.clone(), period: period.clone() };
            Ok((key, time.ok_or_else(wrong)?))
        });
        each.collect()
    }

    /// A soft threshold without a period says nothing.
    pub fn check(&self) -> Result<(), ThresholdError> {
        match self.soft.0.keys().find(|signal| !self.soft_grace.contains_key(signal)) {
            Some(signal) => Err(ThresholdError::NoPeriod(signal.name())),
            None => Ok(()),
        }
    }

    /// All thresholds. What pods use together has the memory's; containers write to the disk of volumes, or where images
    /// have a disk of their own to that one, and its thresholds are theirs.
    pub(super) fn thresholds(&self, own_image_disk: bool) -> Vec<Threshold> {
        let mut all = Vec::new();
        for (hard, stated) in [(true, &self.hard), (false, &self.soft)] {
            for (signal, ..) in SIGNALS {
                let source = match (signal, own_image_disk) {
                    (Signal::AllocatableMemoryAvailable, _) if hard && self.enforce_pods => {
                        let copied = stated.get(Signal::MemoryAvailable).map(|_| Signal::MemoryAvailable);
                        copied.unwrap_or(signal)
                    }
                    (Signal::ContainerfsAvailable, false) => Signal::NodefsAvailable,
                    (Signal::ContainerfsInodesFree, false) => Signal::NodefsInodesFree,
                    (Signal::ContainerfsAvailable, true) => Signal::ImagefsAvailable,
                    (Signal::ContainerfsInodesFree, true) => Signal::ImagefsInodesFree,
                    _ => signal,
                };
                let Some(least) = stated.get(source).cloned() else { continue };
                let grace =
                    if hard { Duration::ZERO } else { self.soft_grace.get(&source).copied().unwrap_or_default() };
                let reclaim = self.minimum_reclaim.get(source).cloned();
                all.push(Threshold { signal, least, grace, reclaim });
            }
        }
        all
    }
}

/// One threshold with all that is said of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) signal: Signal,
    pub(crate) least: Amount,
    /// None for a hard one.
    pub(crate) grace: Duration,
    pub(crate) reclaim: Option<Amount>,
}

impl Threshold {
    pub(crate) fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least(text: &str) -> Result<Thresholds, ThresholdError> {
        Thresholds::least(&statements(text, '<')?)
    }

    #[test]
    fn thresholds_are_written_as_upstreams() {
        let stated = least("memory.available<1Gi, nodefs.available<12.5%,imagefs.available<0%").unwrap();
        assert_eq!(stated.kept(&[Signal::MemoryAvailable], 1 << 40), 1 << 30);
        assert_eq!(stated.kept(&[Signal::NodefsAvailable], 1000), 125);
        assert_eq!(stated.kept(&[Signal::ImagefsAvailable, Signal::PidAvailable], 1000), 0, "not named: none");
        assert_eq!(least(""), Ok(Thresholds::default()));
        assert_eq!(
            stated.texts().into_iter().map(|(signal, amount)| format!("{signal}<{amount}")).collect::<Vec<_>>(),
            ["memory.available<1Gi", "nodefs.available<12.5%"]
        );
    }

    #[test]
    fn signals_stand_in_their_table_in_the_order_of_their_type() {
        for (at, (signal, name, _)) in SIGNALS.iter().enumerate() {
            assert_eq!((*signal as usize, name.parse::<Signal>().unwrap()), (at, *signal));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["memory.available", "disk<5%", "memory.available<-1%", "pid.available<101%", "nodefs.available<0"]
        {
            assert!(least(text).is_err(), "{text}");
        }
        let stated = |text: &str| statements(text, '=').unwrap();
        assert!(Thresholds::reclaim(&stated("nodefs.available=0%")).is_err());
        assert!(Thresholds::reclaim(&stated("nodefs.available=-1")).is_err());
        assert!(Policy::periods(&stated("memory.available=-1m")).is_err());
        let soft = Policy { soft: least("memory.available<1Gi").unwrap(), ..Policy::default() };
        assert_eq!(soft.check(), Err(ThresholdError::NoPeriod("memory.available")));
    }

    #[test]
    fn pods_memory_and_containers_disk_have_thresholds_derived_from_the_nodes() {
        let policy = Policy {
            soft: least("imagefs.available<10%").unwrap(),
            soft_grace: Policy::periods(&statements("imagefs.available=90s", '=').unwrap()).unwrap(),
            minimum_reclaim: Thresholds::reclaim(&statements("nodefs.available=1Gi", '=').unwrap()).unwrap(),
            ..Policy::default()
        };
        let text = |own_image_disk: bool| {
            let each = policy.thresholds(own_image_disk).into_iter().map(|it| {
                let reclaim = it.reclaim.map(|it| format!(" and {it}")).unwrap_or_default();
                format!("{}<{}{reclaim} after {:?}\n", it.signal.name(), it.least, it.grace)
            });
            each.collect::<String>()
        };
        expect_test::expect![[r#"
            memory.available<100Mi after 0ns
            allocatableMemory.available<100Mi after 0ns
            nodefs.available<5% and 1Gi after 0ns
            nodefs.inodesFree<5% after 0ns
            imagefs.available<5% after 0ns
            imagefs.inodesFree<5% after 0ns
            containerfs.available<5% and 1Gi after 0ns
            containerfs.inodesFree<5% after 0ns
            pid.available<10% after 0ns
            imagefs.available<10% after 90s
        "#]]
        .assert_eq(&text(false));
        assert!(text(true).contains("containerfs.available<5% after 0ns"), "{}", text(true));
        assert!(text(true).contains("containerfs.available<10% after 90s"), "{}", text(true));
    }
}
