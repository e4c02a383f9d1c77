//! Why an expression has no value, in cel-go's words.

use std::fmt::Display;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A function, or something that the data lacks.
    #[error("{0}")]
    Failed(Box<str>),
    #[error("no such key: {0}")]
    NoSuchKey(Box<str>),
    #[error("no such overload")]
    NoSuchOverload,
    /// Neither given nor of any comprehension: the caller's activation lacks a declared variable.
    #[error("no such attribute(s): {0}")]
    NoSuchVariable(Box<str>),
    /// The expression costs more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
}

impl EvaluationError {
    pub fn failed(message: impl Display) -> Self {
        Self::Failed(message.to_string().into())
    }

    pub(in crate::cel) fn conversion(from: &str, to: &str) -> Self {
        Self::failed(format_args!("type conversion error from '{from}' to '{to}'"))
    }
}
