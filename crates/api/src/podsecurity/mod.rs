//! The Pod Security Standards: what a Pod may ask of its node at each level (`k8s.io/pod-security-admission`).
//!
//! A [`Policy`] comes from a namespace's labels; a [`LevelVersion`] judges a Pod's metadata and spec. The checks and
//! since which version each holds are one table, [`table::CHECKS`].

mod baseline;
mod containers;
mod restricted;
mod table;

use std::fmt;

use serde_json::Value;

use crate::status::Cause;
use crate::validation::quote;

const LABEL: &str = "pod-security.kubernetes.io/";
/// What upstream says is valid.
const VALID_LEVELS: &str = "must be one of privileged, baseline, restricted";
const VALID_VERSIONS: &str = "must be \"latest\" or \"v1.x\"";

/// How much is allowed, the strictest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version of Kubernetes whose rules count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `v1.x`
    Minor(u32),
    Latest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

/// What a namespace wants of its Pods: what is refused, what is noted, what is warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

/// One rule that a Pod breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What it is, in a word or two: all Pods that break the rule share it.
    pub reason: String,
    /// What in this Pod breaks it.
    pub detail: String,
}

/// The rules that a Pod breaks, in the order of the checks' names, baseline first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(pub Vec<Violation>);

impl Level {
    fn parse(text: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted].into_iter().find(|level| level.to_string() == text)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        })
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Self::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let canonical = minor == "0" || minor.starts_with(|first: char| matches!(first, '1'..='9'));
        let digits = minor.bytes().all(|byte| byte.is_ascii_digit());
        if canonical && digits { minor.parse().ok().map(Self::Minor) } else { None }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Minor(minor) => write!(f, "v1.{minor}"),
        }
    }
}

impl LevelVersion {
    pub const UNLIMITED: Self = Self { level: Level::Privileged, version: Version::Latest };

    /// What of this level the Pod, or the template of Pods, breaks.
    pub fn violations(self, metadata: &Value, spec: &Value) -> Violations {
        let checks = table::checks(self.level, self.version);
        Violations(checks.filter_map(|check| check(metadata, spec)).collect())
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What counts where nothing is said: everything is allowed.
impl Default for Policy {
    fn default() -> Self {
        Self { enforce: LevelVersion::UNLIMITED, audit: LevelVersion::UNLIMITED, warn: LevelVersion::UNLIMITED }
    }
}

impl Policy {
    /// Reads a namespace's labels, where nothing else is said.
    pub fn of_labels(labels: &Value) -> (Self, Vec<Cause>) {
        Self::default().with_labels(labels)
    }

    /// Reads a namespace's labels over this; those that cannot be read are told, and count as the strictest where Pods
    /// would be refused and as nothing where they would only be spoken of.
    pub fn with_labels(self, labels: &Value) -> (Self, Vec<Cause>) {
        let mut policy = self;
        let mut causes = Vec::new();
        let unreadable = [("enforce", Level::Restricted), ("audit", Level::Privileged), ("warn", Level::Privileged)];
        for (mode, unreadable) in unreadable {
            let target = match mode {
                "enforce" => &mut policy.enforce,
                "audit" => &mut policy.audit,
                _ => &mut policy.warn,
            };
            let label = format!("{LABEL}{mode}");
            if let Some(text) = labels[&label].as_str() {
                target.level = Level::parse(text).unwrap_or_else(|| {
                    causes.push(invalid(&label, text, VALID_LEVELS));
                    unreadable
                });
            }
            let label = format!("{LABEL}{mode}-version");
            if let Some(text) = labels[&label].as_str() {
                target.version = Version::parse(text).unwrap_or_else(|| {
                    causes.push(invalid(&label, text, VALID_VERSIONS));
                    Version::Latest
                });
            }
        }
        let states = |label: &str| labels[format!("{LABEL}{label}")].as_str();
        let enforced = states("enforce").and_then(Level::parse);
        // Who is about to be refused shall hear of it at the workload already.
        if states("warn").is_none() && enforced.is_some_and(|level| level > policy.warn.level) {
            policy.warn.level = policy.enforce.level;
            if states("warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, causes)
    }

    /// True when nothing is refused, noted or warned of.
    pub fn is_unlimited(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }
}

impl Violations {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `host ports, privileged`
    pub fn reasons(&self) -> String {
        self.0.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// `host ports (8080, 9090), privileged`
    pub fn details(&self) -> String {
        let said = self.0.iter().map(|violation| match violation.detail.as_str() {
            "" => violation.reason.clone(),
            detail => format!("{} ({detail})", violation.reason),
        });
        said.collect::<Vec<_>>().join(", ")
    }
}

fn invalid(label: &str, text: &str, why: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {}: {why}", quote(text)),
        field: format!("metadata.labels[{label}]"),
    }
}

#[cfg(test)]
mod tests;
