//! Namespaces.

use serde_json::{Value, json};

use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{default_zero, items, object, text};
use crate::resources::hooks::{Hooks, Names, PLAIN, STATUS, SubresourceHooks};
use crate::resources::strategy::{keep, remove};
use crate::status::Cause;
use crate::validation::Errors;

pub(super) static NAMESPACES: Hooks = Hooks {
    names: Names::Label,
    checked_when_stored: true,
    default: defaults,
    prepare_create: create,
    prepare_update: |new, old| keep_finalizers(new, old),
    validate_create: |namespace| finalizers(namespace, false),
    subresources: &[
        ("status", SubresourceHooks { validate: status, ..STATUS }),
        (
            "finalize",
            SubresourceHooks {
                prepare: |new, old| keep(new, old, "status"),
                validate: |new, _| finalizers(new, true),
                resets: &[],
                ..STATUS
            },
        ),
    ],
    held: |namespace| !items(&namespace["spec"], "finalizers").is_empty(),
    begin_deletion: |namespace| {
        object(namespace, "status")["phase"] = json!("Terminating");
        // Namespaces die without a grace period, and say so by having none.
        remove(&mut namespace["metadata"], "deletionGracePeriodSeconds");
    },
    ..PLAIN
};

fn defaults(namespace: &mut Value) {
    default_zero(object(namespace, "status"), "phase", "Active");
    name_label(namespace);
}

fn name_label(namespace: &mut Value) {
    let name = namespace["metadata"]["name"].clone();
    if name.as_str().is_some_and(|name| !name.is_empty()) {
        object(object(namespace, "metadata"), "labels")["kubernetes.io/metadata.name"] = name;
    }
}

/// A new Namespace is active, and stays until its contents are gone.
fn create(namespace: &mut Value) {
    namespace["status"] = json!({"phase": "Active"});
    let spec = object(namespace, "spec");
    if !items(spec, "finalizers").iter().any(|name| name == "kubernetes") {
        match spec["finalizers"].as_array_mut() {
            Some(list) => list.push(json!("kubernetes")),
            None => spec["finalizers"] = json!(["kubernetes"]),
        }
    }
    name_label(namespace);
}

/// Only the `finalize` subresource removes what holds a Namespace.
fn keep_finalizers(new: &mut Value, old: &Value) {
    match old["spec"]["finalizers"].is_null() {
        true => remove(&mut new["spec"], "finalizers"),
        false => object(new, "spec")["finalizers"] = old["spec"]["finalizers"].clone(),
    }
}

/// What holds a Namespace is Kubernetes's own, or says whose it is. Only who finalizes is told which of them is wrong.
fn finalizers(namespace: &Value, told_apart: bool) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    let list = path.child("finalizers");
    for (at, name) in items(&namespace["spec"], "finalizers").iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let path = if told_apart { list.index(at) } else { list };
        errors.invalid_each(&path, name, names::qualified_name(name));
        if !name.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&name) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.invalid(&path, name, why);
        }
    }
    errors.into_causes()
}

/// A Namespace is terminating exactly when it is being deleted.
fn status(new: &Value, _: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (phase, path) = (text(&new["status"], "phase"), Path::root("status"));
    let at = path.child("Phase");
    match (new["metadata"]["deletionTimestamp"].is_null(), phase) {
        (true, "Active") | (false, "Terminating") => {}
        (true, _) => errors.invalid(&at, phase, "may only be 'Active' if `deletionTimestamp` is empty"),
        (false, _) => errors.invalid(&at, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"),
    }
    errors.into_causes()
}
