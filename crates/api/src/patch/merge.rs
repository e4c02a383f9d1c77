//! JSON Merge Patch (RFC 7386).
//!
//! As in upstream's library, nulls inside what a patch adds are dropped also within the items of lists; items that
//! are null themselves stay.

use serde_json::{Map, Value};

use crate::status::Status;

/// Why a merge patch cannot be applied to an object.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum MergePatchError {
    #[error("Invalid JSON Patch")]
    NotAnObject,
}

impl From<MergePatchError> for Status {
    fn from(error: MergePatchError) -> Self {
        Status::bad_request(error.to_string())
    }
}

/// Merges `patch` into `document`; a list takes the document's place.
pub fn apply(document: Value, patch: Value) -> Result<Value, MergePatchError> {
    match (document, patch) {
        (Value::Object(document), Value::Object(patch)) => Ok(Value::Object(merged(document, patch))),
        (_, patch @ (Value::Object(_) | Value::Array(_))) => Ok(pruned(patch)),
        _ => Err(MergePatchError::NotAnObject),
    }
}

fn merged(mut document: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in patch {
        if value.is_null() {
            document.remove(&key);
            continue;
        }
        let current = document.remove(&key).unwrap_or_default();
        let value = match (current, value) {
            (Value::Object(current), Value::Object(patch)) => Value::Object(merged(current, patch)),
            (Value::Object(_), value) => value,
            (_, value) => pruned(value),
        };
        document.insert(key, value);
    }
    document
}

fn pruned(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, pruned(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(pruned).collect()),
        other => other,
    }
}
