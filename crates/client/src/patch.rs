//! Patches: the only way in which components change objects that others write too.
//!
//! A patch names what its author decides and nothing else, so that what he does not know is never lost. With
//! [`Patch::guarded`] it also names the object it was made for: the server refuses it with a conflict if the object
//! has another uid, or has changed since it was read.

use serde_json::{Map, Value, json};

/// A change of an object, in one of the API's four forms.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Value),
    /// Kubernetes's merge by list keys.
    Strategic(Value),
    /// Server-side apply of a whole intent.
    Apply { manager: String, force: bool, object: Value },
}

impl Patch {
    /// A merge patch that turns `old` into `new`; `None` if there is nothing to change.
    pub fn difference(old: &Value, new: &Value) -> Option<Self> {
        merge_difference(old, new).map(Self::Merge)
    }

    /// A merge patch of `status`, from what it was to what it should be; `None` if it is that already. For the
    /// `status` subresource.
    pub fn status<S: serde::Serialize>(old: Option<&S>, new: &S) -> Result<Option<Self>, serde_json::Error> {
        let old = serde_json::to_value(old)?;
        let new = serde_json::to_value(new)?;
        let old = if old.is_null() { json!({}) } else { old };
        Ok(merge_difference(&old, &new).map(|status| Self::Merge(json!({"status": status}))))
    }

    /// Refused if the object has another uid, or (unless `resource_version` is empty) has changed since.
    /// Holds for merge and strategic patches, whose form has room for it.
    pub fn guarded(mut self, uid: &str, resource_version: &str) -> Self {
        if let Self::Merge(body) | Self::Strategic(body) = &mut self
            && let Some(body) = body.as_object_mut()
        {
            let metadata = body.entry("metadata").or_insert_with(|| json!({}));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("uid".to_owned(), json!(uid));
                if !resource_version.is_empty() {
                    metadata.insert("resourceVersion".to_owned(), json!(resource_version));
                }
            }
        }
        self
    }

    pub fn content_type(&self) -> &'static str {
        match self {
            Self::Merge(_) => "application/merge-patch+json",
            Self::Json(_) => "application/json-patch+json",
            Self::Strategic(_) => "application/strategic-merge-patch+json",
            // JSON is YAML; servers since 1.16 take it under this name.
            Self::Apply { .. } => "application/apply-patch+yaml",
        }
    }

    pub(crate) fn query(&self) -> String {
        match self {
            Self::Apply { manager, force, .. } => {
                format!("?fieldManager={}&force={force}", crate::request::escape(manager))
            }
            _ => String::new(),
        }
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        match self {
            Self::Merge(body) | Self::Json(body) | Self::Strategic(body) => body.to_string().into_bytes(),
            Self::Apply { object, .. } => object.to_string().into_bytes(),
        }
    }
}

/// The RFC 7386 patch from `old` to `new`; `None` if they are equal.
pub fn merge_difference(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (old, new) if old == new => None,
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (key, value) in new {
                match old.get(key) {
                    None if value.is_null() => {}
                    None => drop(patch.insert(key.clone(), value.clone())),
                    Some(before) => {
                        if let Some(change) = merge_difference(before, value) {
                            patch.insert(key.clone(), change);
                        }
                    }
                }
            }
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        _ => Some(new.clone()),
    }
}

/// Applies an RFC 7386 patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    if let Value::Object(target) = target {
        for (key, value) in patch {
            if value.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_applied_gives_the_new_document() {
        let cases = [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1, "y": 3}}), Some(json!({"a": {"y": 3}}))),
            (json!({"a": [1, 2]}), json!({"a": [2]}), Some(json!({"a": [2]}))),
            (json!({}), json!({"a": {"b": {}}}), Some(json!({"a": {"b": {}}}))),
            (json!({"a": 1}), json!({"a": {"b": 1}}), Some(json!({"a": {"b": 1}}))),
        ];
        for (old, new, expected) in cases {
            let patch = merge_difference(&old, &new);
            assert_eq!(patch, expected, "{old} -> {new}");
            let mut merged = old.clone();
            merge(&mut merged, &patch.unwrap_or_else(|| json!({})));
            assert_eq!(merged, new);
        }
    }

    #[test]
    fn a_guard_names_the_object_beside_the_change() {
        let patch = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}})).guarded("u", "5");
        assert_eq!(
            patch,
            Patch::Merge(json!({"metadata": {"labels": {"a": "b"}, "uid": "u", "resourceVersion": "5"}}))
        );
    }
}
