//! Requests that show no credentials.

use serde::Deserialize;

use crate::health;

/// Which of them are let in, as `system:anonymous`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anonymous {
    /// Those that ask how the server is.
    #[default]
    Health,
    All,
    None,
    /// Those for these very paths.
    Paths(Vec<String>),
}

/// How an AuthenticationConfiguration says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AnonymousConfig {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

impl AnonymousConfig {
    /// Paths on which nobody is let in.
    pub(super) fn is_contradictory(&self) -> bool {
        !self.enabled && !self.conditions.is_empty()
    }
}

impl Anonymous {
    pub(crate) fn lets_in(&self, path: &str) -> bool {
        match self {
            Self::Health => health::is_path(path),
            Self::All => true,
            Self::None => false,
            Self::Paths(paths) => paths.iter().any(|known| known == path),
        }
    }
}

impl From<AnonymousConfig> for Anonymous {
    fn from(config: AnonymousConfig) -> Self {
        match (config.enabled, config.conditions.is_empty()) {
            (false, _) => Self::None,
            (true, true) => Self::All,
            (true, false) => Self::Paths(config.conditions.into_iter().map(|condition| condition.path).collect()),
        }
    }
}
