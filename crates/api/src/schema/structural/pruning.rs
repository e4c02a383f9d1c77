//! Dropping what a schema does not know, of values that are not whole objects: defaults.

use serde_json::Value;

use super::node::{Additional, Node};

/// Drops unknown fields. `None` is the schema of what no schema speaks of.
pub(super) fn prune(node: Option<&Node>, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let open = node.is_some_and(|node| node.preserve_unknown);
            fields.retain(|name, _| {
                let Some(node) = node else { return false };
                let meta = node.embedded && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
                let additional = !matches!(node.additional, Additional::Unstated);
                open || meta || additional || node.properties.contains_key(name)
            });
            for (name, value) in fields {
                let meta = node.is_some_and(|node| node.embedded) && name == "metadata";
                match node.and_then(|node| node.child(name)) {
                    _ if meta => {}
                    Some(child) => prune(Some(child), value),
                    None if open || node.is_some_and(|node| matches!(node.additional, Additional::Any)) => {}
                    None => prune(None, value),
                }
            }
        }
        Value::Array(items) => {
            let open = node.is_some_and(|node| node.preserve_unknown);
            let child = node.and_then(|node| node.items.as_deref());
            if child.is_some() || !open {
                items.iter_mut().for_each(|value| prune(child, value));
            }
        }
        _ => {}
    }
}
