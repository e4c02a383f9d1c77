//! The rules of `metadata`, which are the same for every kind (`k8s.io/apimachinery/pkg/api/validation`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fields::{flag, int, is_zero, items, same, text};
use super::hooks::Names;
use crate::field_path::Path;
use crate::names;
use crate::validation::{Errors, quote};

const IMMUTABLE: &str = "field is immutable";
const ANNOTATIONS_LIMIT: usize = 256 * 1024;

/// The metadata of a new object, whose name has been generated if it was to be.
pub fn validate(errors: &mut Errors, metadata: &Value, namespaced: bool, names: Names) {
    validate_at(errors, metadata, namespaced, names, &Path::root("metadata"));
}

/// The metadata of an object that stands within another.
pub fn validate_at(errors: &mut Errors, metadata: &Value, namespaced: bool, names: Names, path: &Path<'_>) {
    let (name, prefix) = (text(metadata, "name"), text(metadata, "generateName"));
    if !prefix.is_empty() {
        errors.invalid_each(&path.child("generateName"), prefix, names.check_prefix(prefix));
    }
    match name {
        "" => errors.required(&path.child("name"), "name or generateName is required"),
        name => errors.invalid_each(&path.child("name"), name, names.check(name)),
    }
    let (namespace, at) = (text(metadata, "namespace"), path.child("namespace"));
    match (namespaced, namespace) {
        (true, "") => errors.required(&at, ""),
        (true, namespace) => errors.invalid_each(&at, namespace, names::dns_label(namespace)),
        (false, "") => {}
        (false, _) => errors.forbidden(&at, "not allowed on this type"),
    }
    let generation = int(metadata, "generation");
    if generation < 0 {
        errors.invalid(&path.child("generation"), generation, "must be greater than or equal to 0");
    }
    labels(errors, &metadata["labels"], &path.child("labels"));
    annotations(errors, &metadata["annotations"], &path.child("annotations"));
    owners(errors, metadata, &path.child("ownerReferences"));
    finalizers(errors, metadata, &path.child("finalizers"));
}

/// Finalizers of built-in kinds are Kubernetes's own or have a prefix.
pub fn validate_builtin_finalizers(errors: &mut Errors, metadata: &Value) {
    let path = Path::root("metadata");
    let path = path.child("finalizers");
    for (at, name) in items(metadata, "finalizers").iter().filter_map(Value::as_str).enumerate() {
        if !name.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path.index(at), name, detail);
        }
    }
}

/// What a write may not change, and what it may change to.
pub fn validate_update(errors: &mut Errors, new: &Value, old: &Value) {
    let path = Path::root("metadata");
    if !old["deletionTimestamp"].is_null() {
        let had: BTreeSet<_> = items(old, "finalizers").iter().filter_map(Value::as_str).collect();
        let added: BTreeSet<_> = items(new, "finalizers").iter().filter_map(Value::as_str).collect();
        let added: Vec<_> = added.difference(&had).map(|name| quote(name)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.forbidden(&path.child("finalizers"), &detail);
        }
    }
    if text(new, "resourceVersion").is_empty() {
        errors.invalid(&path.child("resourceVersion"), "", "must be specified for an update");
    }
    if int(new, "generation") < int(old, "generation") {
        errors.invalid(&path.child("generation"), int(new, "generation"), "must not be decremented");
    }
    for field in ["name", "namespace", "uid"] {
        if text(new, field) != text(old, field) {
            errors.invalid(&path.child(field), text(new, field), IMMUTABLE);
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        immutable(errors, &new[field], &old[field], &path.child(field));
    }
    labels(errors, &new["labels"], &path.child("labels"));
    annotations(errors, &new["annotations"], &path.child("annotations"));
    owners(errors, new, &path.child("ownerReferences"));
}

/// The labels of an object or template.
pub fn labels(errors: &mut Errors, labels: &Value, path: &Path<'_>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(key));
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(path, value, names::label_value(value));
    }
}

/// The annotations of an object or template.
pub fn annotations(errors: &mut Errors, annotations: &Value, path: &Path<'_>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        errors.invalid_each(path, key, names::qualified_name(&key.to_lowercase()));
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_LIMIT {
        errors.too_long(path, ANNOTATIONS_LIMIT);
    }
}

/// A label selector as objects carry it.
pub fn label_selector(errors: &mut Errors, selector: &Value, path: &Path<'_>) {
    labels(errors, &selector["matchLabels"], &path.child("matchLabels"));
    let list = path.child("matchExpressions");
    for (at, term) in items(selector, "matchExpressions").iter().enumerate() {
        let path = list.index(at);
        let values = items(term, "values");
        match text(term, "operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&path.child("values"), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(term, "key");
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
        for (at, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            errors.invalid_each(&path.child("values").index(at), value, names::label_value(value));
        }
    }
}

/// A field that no update changes.
pub fn immutable(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    if !same(new, old) {
        errors.invalid(path, new.clone(), IMMUTABLE);
    }
}

/// [`immutable`], of texts that are empty where they are not said.
pub fn immutable_text(errors: &mut Errors, new: &Value, old: &Value, field: &str, path: &Path<'_>) {
    let (new, old) = (text(new, field), text(old, field));
    if new != old {
        errors.invalid(path, new, IMMUTABLE);
    }
}

fn owners(errors: &mut Errors, metadata: &Value, path: &Path<'_>) {
    let owners = items(metadata, "ownerReferences");
    let mut controller = None;
    for owner in owners {
        let (api_version, kind) = (text(owner, "apiVersion"), text(owner, "kind"));
        if api_version.is_empty() || api_version.ends_with('/') {
            errors.invalid(&path.child("apiVersion"), api_version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(owner, field).is_empty() {
                errors.invalid(&path.child(field), "", "must not be empty");
            }
        }
        if (api_version, kind) == ("v1", "Event") {
            errors.invalid(path, owner.clone(), "/v1, Kind=Event is disallowed from being an owner");
        }
        if flag(owner, "controller") {
            let this = format!("{kind}/{}", text(owner, "name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    errors.invalid(path, json!(owners), &detail);
                }
            }
        }
    }
}

fn finalizers(errors: &mut Errors, metadata: &Value, path: &Path<'_>) {
    let list = items(metadata, "finalizers");
    for name in list.iter().filter_map(Value::as_str) {
        errors.invalid_each(path, name, names::qualified_name(name));
    }
    let has = |wanted: &str| list.iter().any(|name| name == wanted);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer foregroundDeletion and orphan cannot be both set";
        errors.invalid(path, json!(list), detail);
    }
}

/// The metadata of a template, which has no name.
pub fn template(errors: &mut Errors, metadata: &Value, path: &Path<'_>) {
    labels(errors, &metadata["labels"], &path.child("labels"));
    annotations(errors, &metadata["annotations"], &path.child("annotations"));
}

/// The metadata of a template that may say nothing but labels and annotations.
pub fn bare(errors: &mut Errors, metadata: &Value, path: &Path<'_>) {
    const FORBIDDEN: [(&str, &str); 13] = [
        ("name", "name"),
        ("generateName", "generateName"),
        ("namespace", "namespace"),
        ("selfLink", "selfLink"),
        // Upstream makes the name of Go's field small where it begins.
        ("uid", "uID"),
        ("resourceVersion", "resourceVersion"),
        ("generation", "generation"),
        ("creationTimestamp", "creationTimestamp"),
        ("deletionTimestamp", "deletionTimestamp"),
        ("deletionGracePeriodSeconds", "deletionGracePeriodSeconds"),
        ("ownerReferences", "ownerReferences"),
        ("finalizers", "finalizers"),
        ("managedFields", "managedFields"),
    ];
    annotations(errors, &metadata["annotations"], &path.child("annotations"));
    labels(errors, &metadata["labels"], &path.child("labels"));
    for (_, shown) in FORBIDDEN.iter().filter(|(field, _)| !is_zero(&metadata[*field])) {
        errors.forbidden(&path.child(shown), "cannot be set");
    }
}

/// True when `labels` (a map of an object) has every pair of `selector` (a map too).
pub fn selects(selector: &Value, object: &Value, field: &str) -> bool {
    let Some(pairs) = selector.as_object() else { return true };
    pairs.iter().all(|(key, value)| object[field].get(key) == Some(value))
}

impl Names {
    /// What is wrong with a name.
    pub fn check(self, name: &str) -> Vec<String> {
        match self {
            Self::Subdomain => names::dns_subdomain(name),
            Self::Label => names::dns_label(name),
            Self::Label1035 => names::dns_1035_label(name),
            Self::PathSegment => names::path_segment(name),
            Self::IpAddress | Self::Anything => Vec::new(),
        }
    }

    /// What is wrong with a `generateName`.
    pub fn check_prefix(self, prefix: &str) -> Vec<String> {
        match self {
            Self::PathSegment => names::path_segment(prefix),
            _ => self.check(&names::as_prefix(prefix)),
        }
    }
}
