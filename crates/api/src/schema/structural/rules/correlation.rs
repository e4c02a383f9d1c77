//! What a value was before an update, as far as that can be told, and whether it changed
//! (`CorrelatedObject` of `k8s.io/apiserver/pkg/cel/common`).

use std::cell::Cell;
use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::schema::structural::node::Node;
use crate::schema::{ListKind, Name};

/// A value, what it was, and the schema of both.
#[derive(Debug)]
pub(super) struct Correlated<'v> {
    node: &'v Node,
    new: &'v Value,
    old: &'v Value,
    /// Whether nothing changed, once somebody asked.
    equal: Cell<Option<bool>>,
}

impl<'v> Correlated<'v> {
    pub(super) fn new(node: &'v Node, new: &'v Value, old: &'v Value) -> Self {
        Self { node, new, old, equal: Cell::new(None) }
    }

    /// The field of this name, if it is in the schema and was there before.
    pub(super) fn key(&self, name: &str) -> Option<Self> {
        Some(Self::new(self.node.child(name)?, self.new.as_object()?.get(name)?, self.old.as_object()?.get(name)?))
    }

    /// The item that was told to be `old`.
    pub(super) fn item(&self, new: &'v Value, old: Option<&'v Value>) -> Option<Self> {
        Some(Self::new(self.node.items.as_deref()?, new, old?))
    }

    pub(super) fn is_unchanged(&self) -> bool {
        if let Some(known) = self.equal.get() {
            return known;
        }
        let equal = is_same(self.node, self.new, self.old);
        self.equal.set(Some(equal));
        equal
    }
}

/// Whether two values are the same; what the schema does not know is never told to be.
fn is_same(node: &Node, new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Array(items), Value::Array(before)) => match (&node.items, former_items(node, before)) {
            (Some(schema), Some(former)) => {
                let is_kept = |item| former.find(item).is_some_and(|old| is_same(schema, item, old));
                items.len() == before.len() && items.iter().all(is_kept)
            }
            _ => new == old,
        },
        (Value::Object(fields), Value::Object(before)) => {
            let is_kept = |(name, value): (&String, &Value)| match (node.child(name), before.get(name)) {
                (Some(schema), Some(old)) => is_same(schema, value, old),
                _ => false,
            };
            fields.len() == before.len() && fields.iter().all(is_kept)
        }
        _ => new == old,
    }
}

/// The items of an associative list by their keys; none for other lists, whose items nothing tells apart.
pub(super) fn former_items<'v>(node: &'v Node, items: &'v [Value]) -> Option<Former<'v>> {
    let ListKind::Map(keys) = &node.list else { return None };
    let mut by_key = HashMap::with_capacity(items.len());
    for item in items {
        if let Some(key) = item.as_object().and_then(|item| key_of(keys, item)) {
            // Of two with one key the first counts.
            by_key.entry(key).or_insert(item);
        }
    }
    Some(Former { keys, by_key })
}

pub(super) struct Former<'v> {
    keys: &'v [Name],
    by_key: HashMap<String, &'v Value>,
}

impl<'v> Former<'v> {
    pub(super) fn find(&self, item: &Value) -> Option<&'v Value> {
        self.by_key.get(&key_of(self.keys, item.as_object()?)?).copied()
    }
}

/// All keys of an item, which must be plain values.
fn key_of(keys: &[Name], item: &Map<String, Value>) -> Option<String> {
    let mut text = String::new();
    for key in keys {
        match item.get(&**key)? {
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
            plain => text.push_str(&plain.to_string()),
        }
        // JSON has no such character.
        text.push('\0');
    }
    Some(text)
}
