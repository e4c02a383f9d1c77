//! What writes to nearly every kind have in common: status and spec guard each other, generations count, metadata
//! has rules of its own.
//!
//! A create is prepared and validated when the object has its name, uid and creationTimestamp.

use serde_json::{Map, Value, json};

use super::fields::same;
use super::hooks::{Generation, Names};
use super::{GROUPS, metadata};
use crate::codec::normalise;
use crate::resource::Resource;
use crate::schema::table::builtin_model;
use crate::status::Cause;
use crate::validation::Errors;

/// Before a create is validated: the status goes where a subresource writes it, the generation starts, then the
/// kind's own hook.
pub fn prepare_create(row: &Resource, object: &mut Value) {
    if row.has_status() && !row.hooks.status_on_create {
        reset_status(row, object);
    }
    if row.hooks.generation == Generation::Counted {
        object["metadata"]["generation"] = json!(1);
    }
    (row.hooks.prepare_create)(object);
}

/// A status of which nothing is known yet, as upstream writes it: the fields that its type never omits.
fn reset_status(row: &Resource, object: &mut Value) {
    let model = row.version(&row.storage_version).and_then(|version| builtin_model(&version.type_name));
    let zero = model.as_ref().and_then(|model| {
        let field = model.schema().field(model.root(), "status")?;
        (!field.omit_empty && !field.pointer).then(|| normalise::zero(model.schema(), &field.shape))
    });
    match zero {
        Some(zero) => object["status"] = zero,
        None => remove(object, "status"),
    }
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
        bump_generation(new, old);
    }
}

/// What is wrong with a new object: its metadata, then what its kind says.
pub fn validate_create(row: &Resource, object: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    if !row.hooks.own_metadata {
        metadata::validate(&mut errors, &object["metadata"], row.namespaced, row.hooks.names);
        if has_own_finalizers(row) {
            metadata::validate_builtin_finalizers(&mut errors, &object["metadata"]);
        }
    }
    let mut causes = errors.into_causes();
    causes.extend((row.hooks.validate_create)(object));
    let unchecked = row.hooks.own_metadata || row.hooks.names == Names::Anything;
    if causes.is_empty() && unchecked {
        let mut errors = Errors::new();
        metadata::validate(&mut errors, &object["metadata"], row.namespaced, Names::PathSegment);
        causes = errors.into_causes();
    }
    causes
}

/// Whether finalizers must be Kubernetes's own or qualified. Upstream checks it where a kind's validation goes through
/// the core group's, which these do not.
fn has_own_finalizers(row: &Resource) -> bool {
    const LENIENT: [&str; 5] =
        ["admissionregistration.k8s.io", "coordination.k8s.io", "events.k8s.io", "node.k8s.io", "policy"];
    let lenient = LENIENT.contains(&row.group.as_str()) || (row.group.is_empty() && row.plural == "events");
    GROUPS.iter().any(|group| group.name == row.group) && !lenient
}

/// What is wrong with an update through the object's own path.
pub fn validate_update(row: &Resource, new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = validate_metadata_update(row, new, old);
    causes.extend((row.hooks.validate_update)(new, old));
    causes
}

/// What is wrong with a write through a subresource.
pub fn validate_subresource(row: &Resource, subresource: &str, new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = validate_metadata_update(row, new, old);
    causes.extend((row.hooks.subresource(subresource).validate)(new, old));
    causes
}

/// What every kind checks of an update's metadata, then what its own strategy checks again: clients see both.
fn validate_metadata_update(row: &Resource, new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    metadata::validate(&mut errors, &new["metadata"], row.namespaced, Names::PathSegment);
    metadata::validate_update(&mut errors, &new["metadata"], &old["metadata"]);
    if GROUPS.iter().any(|group| group.name == row.group) {
        metadata::validate_update(&mut errors, &new["metadata"], &old["metadata"]);
    }
    errors.into_causes()
}

/// One more than the old object's generation.
pub fn bump_generation(new: &mut Value, old: &Value) {
    let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
    new["metadata"]["generation"] = json!(generation + 1);
}

/// What subresources that speak of one part of the spec keep of the metadata: all that a client could set.
pub fn keep_metadata(new: &mut Value, old: &Value) {
    for field in
        ["deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "finalizers", "ownerReferences"]
    {
        keep(&mut new["metadata"], &old["metadata"], field);
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
    let own = |object| {
        let fields = Value::as_object(object).into_iter().flatten();
        fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion" | "kind"))
    };
    own(new).any(|(name, value)| !same(value, old.get(name).unwrap_or(&Value::Null)))
        || own(old).any(|(name, value)| new.get(name).is_none() && !same(&Value::Null, value))
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
