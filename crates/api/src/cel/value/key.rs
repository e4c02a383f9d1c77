//! Keys of computed maps.

use std::cmp::Ordering;

use super::{EvaluationError, Text, Value};

/// The key of a computed map. Whole numbers of one value are one key, signed or not.
#[derive(Clone, Debug)]
pub enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(String),
}

impl Key {
    /// The value as a key; whole doubles find whole numbers.
    pub(in crate::cel) fn find(value: &Value<'_>) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Int(value) => Some(Self::Int(*value)),
            Value::Uint(value) => Some(Self::Uint(*value)),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9e18 => Some(Self::Int(*value as i64)),
            Value::String(text) => Some(Self::String(text.to_string())),
            _ => None,
        }
    }

    /// The key of an entry that is made.
    pub(in crate::cel) fn of(value: &Value<'_>) -> Result<Self, EvaluationError> {
        let unsupported = || EvaluationError::failed(format_args!("unsupported key type: {}", value.type_name()));
        Self::find(value).ok_or_else(unsupported)
    }

    pub fn to_value<'a>(&self) -> Value<'a> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(text) => Value::String(Text::from(text.clone())),
        }
    }

    /// The key as documents write it.
    pub fn to_text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Uint(value) => value.to_string(),
            Self::String(text) => text.clone(),
        }
    }

    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Self::Bool(value) => (0, i128::from(*value), ""),
            Self::Int(value) => (1, i128::from(*value), ""),
            Self::Uint(value) => (1, i128::from(*value), ""),
            Self::String(text) => (2, 0, text),
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}
