//! Defaults of a custom resource, and the nulls that make room for them.

use serde_json::Value;

use super::node::Node;

/// Drops a null where the schema is neither nullable nor has a default to put in its place.
pub(super) fn prune_nulls(node: &Node, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                let child = node.child(name);
                !value.is_null() || child.is_none_or(|child| child.nullable || child.default.is_some())
            });
            for (name, value) in fields {
                if let Some(child) = node.child(name) {
                    prune_nulls(child, value);
                }
            }
        }
        Value::Array(items) => {
            for (value, child) in items.iter_mut().zip(std::iter::repeat(&node.items)) {
                if let Some(child) = child {
                    prune_nulls(child, value);
                }
            }
        }
        _ => {}
    }
}

/// Puts defaults where a value is absent, or null without being allowed to be.
pub(super) fn fill(node: &Node, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, child) in &node.properties {
                if let Some(default) = &child.default
                    && !fields.contains_key(name)
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in fields {
                if let Some(child) = node.child(name) {
                    fill_one(child, value);
                }
            }
        }
        Value::Array(items) => {
            if let Some(child) = &node.items {
                items.iter_mut().for_each(|value| fill_one(child, value));
            }
        }
        _ => {}
    }
}

fn fill_one(node: &Node, value: &mut Value) {
    if let (Value::Null, false, Some(default)) = (&*value, node.nullable, &node.default) {
        *value = default.clone();
    }
    fill(node, value);
}
