//! Reading and filling in the fields of a document. Absent, null and zero values read the same, as in Go.

use serde_json::{Value, json};

/// A text, or the empty one.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field].as_str().unwrap_or_default()
}

/// A list, or the empty one.
pub(crate) fn items<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A number, or 0.
pub(crate) fn int(object: &Value, field: &str) -> i64 {
    object[field].as_i64().unwrap_or_default()
}

/// A bool, or false.
pub(crate) fn flag(object: &Value, field: &str) -> bool {
    object[field].as_bool().unwrap_or_default()
}

/// True for what a Go struct field without a value reads as: absent, null, or an empty text, list or map.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// True for what Go's zero value of any type is written as.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        other => is_empty(other),
    }
}

/// Equality that does not tell an absent field from an empty one.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // Most pairs say the same fields, in the same order.
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() && a.keys().eq(b.keys()) => {
            a.values().zip(b.values()).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(field, value)| same(value, b.get(field).unwrap_or(&Value::Null)))
                && b.iter().all(|(field, value)| a.contains_key(field) || same(&Value::Null, value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        // A struct of zero values is the same as none.
        (Value::Null, Value::Object(fields)) | (Value::Object(fields), Value::Null) => {
            fields.values().all(|value| same(value, &Value::Null))
        }
        _ => a == b || (is_empty(a) && is_empty(b)),
    }
}

/// Fills in a pointer field: one that is absent or null.
pub(crate) fn default(object: &mut Value, field: &str, value: impl Into<Value>) {
    if object[field].is_null() && (object.is_object() || object.is_null()) {
        object[field] = value.into();
    }
}

/// Fills in a field for which the zero value means that nothing was said.
pub(crate) fn default_zero(object: &mut Value, field: &str, value: impl Into<Value>) {
    if is_zero(&object[field]) && (object.is_object() || object.is_null()) {
        object[field] = value.into();
    }
}

/// Calls `f` on each item of a list, if it is there.
pub(crate) fn each(object: &mut Value, field: &str, f: impl FnMut(&mut Value)) {
    if let Some(Value::Array(items)) = object.get_mut(field) {
        items.iter_mut().for_each(f);
    }
}

/// Calls `f` on the value at a field, if there is one.
pub(crate) fn within(object: &mut Value, field: &str, f: impl FnOnce(&mut Value)) {
    if let Some(value) = object.get_mut(field)
        && !value.is_null()
    {
        f(value);
    }
}

/// The object at `field`, made if need be.
pub(crate) fn object<'a>(parent: &'a mut Value, field: &str) -> &'a mut Value {
    if parent[field].is_null() {
        parent[field] = json!({});
    }
    &mut parent[field]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_are_the_same() {
        assert!(same(&json!({"a": [], "b": {"c": ""}}), &json!({})));
        assert!(same(&json!({"a": {"b": 1}}), &json!({"a": {"b": 1, "c": null}})));
        assert!(!same(&json!({"a": 0}), &json!({})));
        assert!(!same(&json!({"a": [1]}), &json!({"a": [1, 2]})));
        assert!(!same(&json!({"a": {"b": 1}}), &json!({})));
    }

    #[test]
    fn a_default_does_not_overwrite() {
        let mut object = json!({"a": 0, "b": ""});
        default(&mut object, "a", 1);
        default_zero(&mut object, "b", "x");
        default(&mut object, "c", true);
        assert_eq!(object, json!({"a": 0, "b": "x", "c": true}));
    }
}
