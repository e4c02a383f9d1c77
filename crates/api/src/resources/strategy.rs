//! What writes to nearly every kind have in common: status and spec guard each other, generations count.

use serde_json::{Map, Value, json};

use crate::resource::Resource;

use super::hooks::Generation;

/// Before a create is validated: the status goes where a subresource writes it, the generation starts, then the
/// kind's own hook.
pub fn prepare_create(row: &Resource, object: &mut Value) {
    if row.has_status() {
        remove(object, "status");
    }
    if row.hooks.generation == Generation::Counted {
        object["metadata"]["generation"] = json!(1);
    }
    (row.hooks.prepare_create)(object);
}

/// Before an update through the object's own path is validated: the status stays, then the kind's own hook, then
/// the generation counts what changed.
pub fn prepare_update(row: &Resource, new: &mut Value, old: &Value) {
    if row.has_status() {
        keep(new, old, "status");
    }
    keep_generation(new, old);
    (row.hooks.prepare_update)(new, old);
    if row.hooks.generation == Generation::Counted && changed(new, old) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
        new["metadata"]["generation"] = json!(generation + 1);
    }
}

/// Before a write through a subresource is validated.
pub fn prepare_subresource(row: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    keep_generation(new, old);
    (row.hooks.subresource(subresource).prepare)(new, old);
}

/// A write to `status` changes nothing else, except for metadata that such writes have always carried
/// (labels, annotations, finalizers, managedFields).
pub fn keep_all_but_status(new: &mut Value, old: &Value) {
    let Some(fields) = new.as_object() else { return };
    let old_fields = old.as_object().into_iter().flat_map(Map::keys);
    let names: Vec<String> = fields.keys().chain(old_fields).cloned().collect();
    for name in names {
        if !matches!(name.as_str(), "status" | "metadata" | "apiVersion" | "kind") {
            keep(new, old, &name);
        }
    }
}

/// Gives `new` the `field` of `old`, or its absence.
pub fn keep(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) => new[field] = value.clone(),
        None => remove(new, field),
    }
}

/// Removes a field of an object, if it is one.
pub fn remove(object: &mut Value, field: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.remove(field);
    }
}

/// True when anything outside `metadata`, `status` and the type differs.
pub fn changed(new: &Value, old: &Value) -> bool {
    let differs = |a: &Value, b: &Value| {
        a.as_object().into_iter().flatten().any(|(name, value)| {
            !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind") && b.get(name) != Some(value)
        })
    };
    differs(new, old) || differs(old, new)
}

fn keep_generation(new: &mut Value, old: &Value) {
    let generation = old["metadata"]["generation"].clone();
    if let Some(metadata) = new["metadata"].as_object_mut() {
        match generation {
            Value::Null => metadata.remove("generation"),
            generation => metadata.insert("generation".to_owned(), generation),
        };
    }
}
