//! What happens to a custom resource between admission and the datastore, by its version's schema.

use serde_json::{Map, Value, json};

use super::CustomVersion;
use crate::field_path::Path;
use crate::names;
use crate::resource::Resource;
use crate::resources::hooks::Names;
use crate::resources::{metadata, strategy};
use crate::status::Cause;
use crate::validation::{Errors, quote};

impl CustomVersion {
    /// Before a create is validated.
    pub fn prepare_create(&self, object: &mut Value) {
        if self.has_status {
            strategy::remove(object, "status");
        }
        object["metadata"]["generation"] = json!(1);
    }

    /// Before an update of the object itself is validated: whatever differs outside the metadata counts.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            strategy::keep(new, old, "status");
        }
        strategy::keep(&mut new["metadata"], &old["metadata"], "generation");
        if changed(new, old) {
            strategy::bump_generation(new, old);
        }
    }

    /// Before an update of the status is validated: nothing but the status, and who owns it, is the client's.
    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        let managers = new["metadata"].get("managedFields").cloned();
        let revision = new["metadata"]["resourceVersion"].clone();
        *new = old.clone();
        match status {
            Some(status) => new["status"] = status,
            None => strategy::remove(new, "status"),
        }
        match managers {
            Some(managers) => new["metadata"]["managedFields"] = managers,
            None => strategy::remove(&mut new["metadata"], "managedFields"),
        }
        new["metadata"]["resourceVersion"] = revision;
    }

    /// What is wrong with a new object.
    pub fn validate_create(&self, row: &Resource, object: &Value) -> Vec<Cause> {
        let mut errors = Errors::new();
        metadata::validate(&mut errors, &object["metadata"], row.namespaced, Names::Subdomain);
        self.validate_object(object, None, errors).0
    }

    /// What is wrong with an update of the object itself, and what is to be warned of.
    pub fn validate_update(&self, row: &Resource, new: &Value, old: &Value) -> (Vec<Cause>, Vec<String>) {
        self.validate_object(new, Some(old), validate_metadata(row, new, old))
    }

    /// What is wrong with an update of the status, and what is to be warned of.
    pub fn validate_status_update(&self, row: &Resource, new: &Value, old: &Value) -> (Vec<Cause>, Vec<String>) {
        let mut errors = validate_metadata(row, new, old);
        if let Some(status) = new.get("status") {
            errors.extend(self.schema().validate_status(status, old.get("status")));
        }
        if let Some(scale) = &self.scale {
            scale.validate_status(new, &mut errors);
        }
        errors.extend(self.schema().validate_lists(new, Some(old)));
        let warnings = self.schema().validate_rules(new, Some(old), &mut errors);
        (errors.into_causes(), warnings)
    }

    fn validate_object(&self, object: &Value, old: Option<&Value>, mut errors: Errors) -> (Vec<Cause>, Vec<String>) {
        errors.extend(self.schema().validate(object, old));
        if let Some(scale) = &self.scale {
            scale.validate_spec(object, &mut errors);
            scale.validate_status(object, &mut errors);
        }
        errors.extend(self.schema().validate_embedded(object));
        errors.extend(self.schema().validate_lists(object, old));
        let warnings = self.schema().validate_rules(object, old, &mut errors);
        (errors.into_causes(), warnings)
    }
}

/// The rules of every update's metadata, once for the server and once for the kind: clients see both.
fn validate_metadata(row: &Resource, new: &Value, old: &Value) -> Errors {
    let mut errors = Errors::new();
    metadata::validate(&mut errors, &new["metadata"], row.namespaced, Names::PathSegment);
    metadata::validate_update(&mut errors, &new["metadata"], &old["metadata"]);
    metadata::validate_update(&mut errors, &new["metadata"], &old["metadata"]);
    errors
}

/// True when anything outside the metadata differs. An empty map is not the same as none: only a schema would know.
fn changed(new: &Value, old: &Value) -> bool {
    let fields = |object: &'_ Value| object.as_object().map(Map::len).unwrap_or_default();
    fields(new) != fields(old)
        || new.as_object().into_iter().flatten().any(|(name, value)| name != "metadata" && old.get(name) != Some(value))
}

/// Texts about finalizers that a write adds and that may meet others of their name.
pub(super) fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let finalizers = |object: &Value| -> Vec<String> {
        let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let had = old.map(finalizers).unwrap_or_default();
    let mut added: Vec<String> = finalizers(new).into_iter().filter(|name| !had.contains(name)).collect();
    added.sort();
    added.dedup();
    added.iter().flat_map(|name| finalizer_warnings(name)).collect()
}

fn finalizer_warnings(name: &str) -> Vec<String> {
    let path = Path::root("metadata");
    let path = path.child("finalizers");
    let said = |why: &str| format!("{path}: {}: {why}", quote(name));
    let mut warnings: Vec<String> = names::qualified_name(name).iter().map(|why| said(why)).collect();
    if !name.contains('/') && !["orphan", "foregroundDeletion", "kubernetes"].contains(&name) {
        let path = if name.contains('.') { " including a path (/)" } else { "" };
        let why = format!(
            "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        );
        warnings.push(said(&why));
    }
    warnings
}
