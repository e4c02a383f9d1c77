//! Why an image could not be pulled, in the form that containerd's users know.

use std::time::Duration;

use http::StatusCode;

/// Why an image could not be pulled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to pull and unpack image \"{image}\": {message}")]
pub struct PullError {
    image: String,
    message: String,
    pub reason: Reason,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    NotFound,
    Denied,
    /// Nobody answered, or somebody who could not.
    Unavailable,
    /// What came is no image that may be used.
    Unusable,
    /// This node failed.
    Node,
}

impl PullError {
    /// The manifest could not be had.
    pub(super) fn unresolved(image: &str, why: Trouble) -> Self {
        let reason = why.reason();
        let why = match why {
            Trouble::NotFound(_) => format!("{image}: not found"),
            Trouble::Denied(said) => {
                format!("pull access denied, repository does not exist or may require authorization: {said}")
            }
            other => other.to_string(),
        };
        Self { image: image.to_owned(), message: format!("failed to resolve reference \"{image}\": {why}"), reason }
    }

    /// What the manifest leads to could not be had or used.
    pub(super) fn failed(image: &str, why: &Trouble) -> Self {
        Self { image: image.to_owned(), message: why.to_string(), reason: why.reason() }
    }
}

/// Why something of a pull failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("{0}: not found")]
    NotFound(String),
    #[error("pull access denied: {0}")]
    Denied(String),
    /// No answer came, or it was cut off.
    #[error("{0}")]
    Unreachable(String),
    #[error("unexpected status from {what}: {status}{said}")]
    Status { what: String, status: StatusCode, said: String, wait: Option<Duration> },
    #[error("{0}")]
    Unusable(String),
    #[error("{0}")]
    Node(String),
}

impl Trouble {
    pub(super) fn unusable(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::Unusable(format!("{what} cannot be used: {why}"))
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status { status, .. } => status.is_server_error() || matches!(status.as_u16(), 408 | 429),
            _ => false,
        }
    }

    /// How long the registry asked to be left alone.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Of several endpoints' failures the one that tells most is told: somebody's answer before nobody's.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::Unreachable(_) => 0,
            Self::NotFound(_) => 1,
            Self::Status { .. } => 2,
            Self::Denied(_) => 3,
            Self::Unusable(_) | Self::Node(_) => 4,
        }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::NotFound(_) => Reason::NotFound,
            Self::Denied(_) => Reason::Denied,
            Self::Unreachable(_) | Self::Status { .. } => Reason::Unavailable,
            Self::Unusable(_) => Reason::Unusable,
            Self::Node(_) => Reason::Node,
        }
    }
}

/// The innermost reason: what wraps it says only that something failed.
pub(super) fn cause(why: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = why;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
