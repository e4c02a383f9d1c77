//! Objects within objects (`x-kubernetes-embedded-resource`): their type and metadata obey the rules of all objects.

use serde_json::{Map, Value};

use super::node::{Additional, Node};
use crate::field_path::Path;
use crate::names;
use crate::resources::hooks::Names;
use crate::resources::metadata;
use crate::validation::Errors;

/// What is wrong with the objects that a value holds, itself among them if its schema says so.
pub(super) fn check(node: &Node, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::Object(fields) => {
            if node.embedded {
                check_object(fields, path, errors);
            }
            for (name, value) in fields {
                match (node.properties.get(name), &node.additional) {
                    (Some(child), _) => check(child, value, &path.child(name), errors),
                    (None, Additional::Schema(child)) => check(child, value, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = &node.items {
                items.iter().enumerate().for_each(|(at, value)| check(child, value, &path.index(at), errors));
            }
        }
        _ => {}
    }
}

fn check_object(fields: &Map<String, Value>, path: &Path<'_>, errors: &mut Errors) {
    for name in ["apiVersion", "kind"] {
        let path = path.child(name);
        match fields.get(name) {
            None => errors.required(&path, ""),
            Some(Value::String(text)) if text.is_empty() => errors.invalid(&path, "", "must not be empty"),
            Some(Value::String(text)) if name == "kind" => {
                let wrong = names::dns_1035_label(&text.to_lowercase());
                if !wrong.is_empty() {
                    let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.invalid(&path, text.as_str(), &why);
                }
            }
            Some(Value::String(text)) => {
                if text.matches('/').count() > 1 {
                    errors.invalid(&path, text.as_str(), &format!("unexpected GroupVersion string: {text}"));
                }
            }
            Some(other) => errors.invalid(&path, other.clone(), "must be a string"),
        }
    }
    if let Some(Value::Object(stated)) = fields.get("metadata") {
        let mut stated = Value::Object(stated.clone());
        if stated["name"].as_str().unwrap_or_default().is_empty() {
            // Within another object a name may be missing.
            stated["name"] = Value::from("fakename");
        }
        let namespaced = stated["namespace"].as_str().is_some_and(|namespace| !namespace.is_empty());
        metadata::validate_at(errors, &stated, namespaced, Names::PathSegment, &path.child("metadata"));
    }
}
