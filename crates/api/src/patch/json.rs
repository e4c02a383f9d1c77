//! JSON Patch (RFC 6902), with the latitude of the library that upstream uses (`evanphx/json-patch` v4):
//! negative indices count from the end, `replace` and `copy` take absent members of objects as null.

use serde_json::{Map, Value};

use super::{MAX_DEPTH, unprocessable};
use crate::status::Status;
use crate::validation::quote;

/// The most operations one patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// The most bytes that the `copy` operations of one patch may add.
pub const MAX_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// Why a patch cannot be read or does not fit the document.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum JsonPatchError {
    /// The body is no list of objects; in the words of Go's decoder, which clients see.
    #[error("json: cannot unmarshal {found} into Go value of type {wanted}")]
    NotAPatch { found: &'static str, wanted: &'static str },
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    #[error("Unexpected kind: {0}")]
    UnknownOperation(String),
    #[error("{operation} operation failed to decode {member}: missing value")]
    MissingMember { operation: &'static str, member: &'static str },
    #[error("{operation} operation does not apply: doc is missing path: {}: missing value", quote(.path))]
    MissingPath { operation: &'static str, path: String },
    #[error("error in {operation} for path: '{path}': {source}")]
    Key { operation: &'static str, path: String, source: KeyError },
    #[error("replace operation value must be object or array")]
    RootIsScalar,
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the limit {MAX_COPIED_BYTES}"
    )]
    CopiedTooMuch(usize),
    #[error("{operation} operation nests the document deeper than {MAX_DEPTH} at path: '{path}'")]
    TooDeep { operation: &'static str, path: String },
}

/// Why a member or item cannot be reached.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum KeyError {
    #[error("Unable to remove nonexistent key: {0}: missing value")]
    NoSuchKey(String),
    #[error("value was not a proper array index: '{0}'")]
    NotAnIndex(String),
    #[error("Unable to access invalid index: {0}: invalid index referenced")]
    NoSuchIndex(i64),
}

impl From<JsonPatchError> for Status {
    fn from(error: JsonPatchError) -> Self {
        match error {
            JsonPatchError::NotAPatch { .. } => Status::bad_request(error.to_string()),
            JsonPatchError::TooManyOperations(_) => Status {
                code: 413,
                reason: "RequestEntityTooLarge".into(),
                message: format!("Request entity too large: {error}"),
                details: None,
                resume: None,
            },
            _ => unprocessable(&error),
        }
    }
}

/// Applies the operations of `patch` one after the other to `document`.
pub fn apply(mut document: Value, patch: &Value) -> Result<Value, JsonPatchError> {
    let not_a_patch = |found, wanted| JsonPatchError::NotAPatch { found: json_type(found), wanted };
    // Go decodes null into no operations, and into an operation without a word.
    if patch.is_null() {
        return Ok(document);
    }
    let operations = patch.as_array().ok_or_else(|| not_a_patch(patch, "[]handlers.jsonPatchOp"))?;
    if let Some(found) = operations.iter().find(|operation| !operation.is_object() && !operation.is_null()) {
        return Err(not_a_patch(found, "handlers.jsonPatchOp"));
    }
    if operations.len() > MAX_OPERATIONS {
        return Err(JsonPatchError::TooManyOperations(operations.len()));
    }
    let mut copied = 0;
    let wordless = Map::new();
    for operation in operations {
        step(&mut document, operation.as_object().unwrap_or(&wordless), &mut copied)?;
    }
    Ok(document)
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn step(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Result<(), JsonPatchError> {
    let value = || operation.get("value").cloned().unwrap_or_default();
    match operation.get("op").and_then(Value::as_str).unwrap_or("unknown") {
        "add" => {
            let path = member(operation, "add", "path")?;
            add(document, "add", path, value())
        }
        "remove" => {
            let path = member(operation, "remove", "path")?;
            remove(document, "remove", path)
        }
        "replace" => replace(document, member(operation, "replace", "path")?, value()),
        "move" => {
            let from = member(operation, "move", "from")?;
            let moved = get(document, "move", from)?.unwrap_or_default();
            remove(document, "move", from)?;
            add(document, "move", member(operation, "move", "path")?, moved)
        }
        "copy" => {
            let from = member(operation, "copy", "from")?;
            let copy = get(document, "copy", from)?.unwrap_or_default();
            let path = member(operation, "copy", "path")?;
            *copied += copy.to_string().len();
            if *copied > MAX_COPIED_BYTES {
                return Err(JsonPatchError::CopiedTooMuch(*copied));
            }
            add(document, "copy", path, copy)
        }
        "test" => {
            let path = member(operation, "test", "path")?;
            let found = if path.is_empty() { Some(document.clone()) } else { get(document, "test", path)? };
            match found.unwrap_or_default() == value() {
                true => Ok(()),
                false => Err(JsonPatchError::TestFailed(path.to_owned())),
            }
        }
        other => Err(JsonPatchError::UnknownOperation(other.to_owned())),
    }
}

fn member<'a>(
    operation: &'a Map<String, Value>,
    name: &'static str,
    member: &'static str,
) -> Result<&'a str, JsonPatchError> {
    let found = operation.get(member).and_then(Value::as_str);
    found.ok_or(JsonPatchError::MissingMember { operation: name, member })
}

/// The object or array that holds the last step of `path`, and that step.
fn parent<'d>(
    document: &'d mut Value,
    operation: &'static str,
    path: &str,
) -> Result<(&'d mut Value, String), JsonPatchError> {
    let missing = || JsonPatchError::MissingPath { operation, path: path.to_owned() };
    let mut steps = path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
    let mut last = steps.next().ok_or_else(missing)?;
    let mut at = document;
    for step in steps {
        at = match at {
            Value::Object(members) => members.get_mut(&last).ok_or_else(missing)?,
            Value::Array(items) => {
                let index = index(&last, items.len(), items.len()).map_err(|_| missing())?;
                items.get_mut(index).ok_or_else(missing)?
            }
            _ => return Err(missing()),
        };
        last = step;
    }
    match at {
        Value::Object(_) | Value::Array(_) => Ok((at, last)),
        _ => Err(missing()),
    }
}

/// Reads an index; negative ones count back from `length`, and none may exceed `limit`.
fn index(step: &str, length: usize, limit: usize) -> Result<usize, KeyError> {
    let index: i64 = step.parse().map_err(|_| KeyError::NotAnIndex(step.to_owned()))?;
    let counted = if index < 0 { index.saturating_add_unsigned(length as u64) } else { index };
    usize::try_from(counted).ok().filter(|at| *at <= limit).ok_or(KeyError::NoSuchIndex(index))
}

fn get(document: &mut Value, operation: &'static str, path: &str) -> Result<Option<Value>, JsonPatchError> {
    let (parent, key) = parent(document, operation, path)?;
    match parent {
        Value::Array(items) => {
            let found = index(&key, items.len(), items.len().wrapping_sub(1))
                .and_then(|at| items.get(at).cloned().ok_or(KeyError::NoSuchIndex(at as i64)));
            found.map(Some).map_err(|source| JsonPatchError::Key { operation, path: path.to_owned(), source })
        }
        _ => Ok(parent.get(&key).cloned()),
    }
}

fn add(document: &mut Value, operation: &'static str, path: &str, value: Value) -> Result<(), JsonPatchError> {
    check_depth(operation, path, &value)?;
    let (parent, key) = parent(document, operation, path)?;
    match parent {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => {
            // Counting back starts behind the last item: -1 appends.
            let at = index(&key, items.len() + 1, items.len()).map_err(|source| JsonPatchError::Key {
                operation,
                path: path.to_owned(),
                source,
            })?;
            items.insert(at, value);
        }
        Value::Object(members) => {
            members.insert(key, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(document: &mut Value, operation: &'static str, path: &str) -> Result<(), JsonPatchError> {
    let (parent, key) = parent(document, operation, path)?;
    let removed = match parent {
        Value::Array(items) => index(&key, items.len(), items.len()).and_then(|at| match at < items.len() {
            true => Ok(items.remove(at)),
            false => Err(KeyError::NoSuchIndex(at as i64)),
        }),
        Value::Object(members) => members.remove(&key).ok_or(KeyError::NoSuchKey(key)),
        _ => Ok(Value::Null),
    };
    removed.map(drop).map_err(|source| JsonPatchError::Key { operation, path: path.to_owned(), source })
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), JsonPatchError> {
    if path.is_empty() {
        if !(value.is_object() || value.is_array()) {
            return Err(JsonPatchError::RootIsScalar);
        }
        *document = value;
        return Ok(());
    }
    check_depth("replace", path, &value)?;
    let (parent, key) = parent(document, "replace", path)?;
    match parent {
        Value::Array(items) => {
            let slot = index(&key, items.len(), items.len())
                .and_then(|at| items.get_mut(at).ok_or(KeyError::NoSuchIndex(at as i64)));
            *slot.map_err(|source| JsonPatchError::Key { operation: "replace", path: path.to_owned(), source })? =
                value;
        }
        Value::Object(members) => {
            members.insert(key, value);
        }
        _ => {}
    }
    Ok(())
}

fn check_depth(operation: &'static str, path: &str, value: &Value) -> Result<(), JsonPatchError> {
    match path.matches('/').count() + depth(value) <= MAX_DEPTH {
        true => Ok(()),
        false => Err(JsonPatchError::TooDeep { operation, path: path.to_owned() }),
    }
}

/// How many objects and arrays lie within each other. No value here is deeper than the JSON reader lets in.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
