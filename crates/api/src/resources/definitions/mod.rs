//! CustomResourceDefinitions: `apiextensions.k8s.io/v1`.
//!
//! The rules are upstream's (`k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`), whose internal type
//! has what all versions share beside them rather than in each: messages name fields as that type does
//! (`spec.validation` for the one schema of all versions).

mod conversion;
mod rules;
mod schema;
mod spec;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::fields::{default, default_zero, is_empty, items, object, text, within};
use super::hooks::{Generation, Hooks, PLAIN};
use super::row::{Row, cluster};
use super::strategy;
use crate::custom::{APPROVAL_ANNOTATION, Approval, approval, is_community_group};
use crate::field_path::Path;
use crate::resource::Resource;
use crate::schema::structural::is_known_format;
use crate::status::Cause;
use crate::validation::Errors;

/// Keeps a definition until its instances are gone.
const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

static DEFINITIONS: Hooks = Hooks {
    generation: Generation::Counted,
    unconditional_update: false,
    default: defaults,
    prepare_create: remember_storage_version,
    prepare_update: |new, _| remember_storage_version(new),
    validate_create: |definition| validate(definition, None),
    validate_update: |new, old| validate(new, Some(old)),
    warnings,
    held: |definition| definition["metadata"]["deletionTimestamp"].is_null(),
    begin_deletion,
    ..PLAIN
};

pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition")
            .short(&["crd", "crds"])
            .category("api-extensions")
            .status()
            .hooks(&DEFINITIONS),
    ]
}

fn defaults(definition: &mut Value) {
    let spec = object(definition, "spec");
    let kind = text(&spec["names"], "kind").to_owned();
    let names = object(spec, "names");
    if !kind.is_empty() {
        default_zero(names, "singular", kind.to_lowercase());
        default_zero(names, "listKind", format!("{kind}List"));
    }
    default(spec, "conversion", json!({"strategy": "None"}));
    within(&mut spec["conversion"], "webhook", |webhook| {
        within(webhook, "clientConfig", |config| {
            within(config, "service", |reference| default(reference, "port", 443));
        });
    });
    if is_empty(&definition["status"]["storedVersions"]) {
        remember_storage_version(definition);
    }
}

/// Objects may be stored in any version that has ever been the storage version.
fn remember_storage_version(definition: &mut Value) {
    let stored = items(&definition["spec"], "versions").iter().find(|version| version["storage"] == true);
    let Some(name) = stored.map(|version| version["name"].clone()) else { return };
    let status = object(definition, "status");
    if items(status, "storedVersions").contains(&name) {
        return;
    }
    match status.get_mut("storedVersions").and_then(Value::as_array_mut) {
        Some(versions) => versions.push(name),
        None => status["storedVersions"] = json!([name]),
    }
}

/// A definition waits for its instances, and says so.
fn begin_deletion(definition: &mut Value) {
    let now = definition["metadata"]["deletionTimestamp"].clone();
    strategy::remove(&mut definition["metadata"], "deletionGracePeriodSeconds");
    // Unlike other deletions, this is no new generation.
    if let Some(generation) = definition["metadata"]["generation"].as_i64() {
        definition["metadata"]["generation"] = json!(generation - 1);
    }
    let mut finalizers = items(&definition["metadata"], "finalizers").to_vec();
    if !finalizers.iter().any(|name| name == FINALIZER) {
        finalizers.push(json!(FINALIZER));
        definition["metadata"]["finalizers"] = Value::Array(finalizers);
    }
    let mut conditions = items(&definition["status"], "conditions").to_vec();
    conditions.retain(|condition| text(condition, "type") != "Terminating");
    conditions.push(json!({
        "type": "Terminating", "status": "True", "lastTransitionTime": now, "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    }));
    definition["status"]["conditions"] = Value::Array(conditions);
}

fn validate(definition: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut errors = Errors::new();
    let spec_path = Path::root("spec");
    let (spec, status) = (&definition["spec"], &definition["status"]);
    if old.is_none() {
        let name = text(&definition["metadata"], "name");
        if name != format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group")) {
            let path = Path::root("metadata");
            errors.invalid(&path.child("name"), name, "must be spec.names.plural+\".\"+spec.group");
        }
    }
    spec::check(&mut errors, spec, old.map(|old| &old["spec"]), &spec_path);
    if let Some(old) = old {
        spec::check_update(&mut errors, spec, old, &spec_path);
    }
    let path = Path::root("status");
    spec::check_names(&mut errors, &status["acceptedNames"], &path.child("acceptedNames"));
    check_stored_versions(&mut errors, status, spec, &path.child("storedVersions"));
    check_approval(&mut errors, definition, old);
    let preserves = |definition: &Value| definition["spec"]["preserveUnknownFields"] == true;
    if preserves(definition) && !old.is_some_and(preserves) {
        let why =
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&spec_path.child("preserveUnknownFields"), true, why);
    }
    errors.into_causes()
}

fn check_stored_versions(errors: &mut Errors, status: &Value, spec: &Value, path: &Path<'_>) {
    let (stored, versions) = (items(status, "storedVersions"), items(spec, "versions"));
    if stored.is_empty() {
        return errors.invalid(path, status["storedVersions"].clone(), "must have at least one stored version");
    }
    for version in versions.iter().filter(|version| version["storage"] == true && !stored.contains(&version["name"])) {
        let why = format!("must have the storage version {}", text(version, "name"));
        errors.invalid(path, Value::from(stored), &why);
    }
    for (at, name) in stored.iter().enumerate() {
        if !versions.iter().any(|version| version["name"] == *name) {
            let name = name.as_str().unwrap_or_default();
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {name} and removes {name} from \
                 status.storedVersions"
            );
            errors.invalid(&path.index(at), name, &why);
        }
    }
}

/// An API in a group of the community says who approved of it; what it says may stay as it was.
fn check_approval(errors: &mut Errors, definition: &Value, old: Option<&Value>) {
    if !is_community_group(text(&definition["spec"], "group")) {
        return;
    }
    let annotation = |definition: &Value| {
        definition["metadata"]["annotations"][APPROVAL_ANNOTATION].as_str().unwrap_or_default().to_owned()
    };
    let said = annotation(definition);
    let (state, why) = approval(&said);
    if old.is_some_and(|old| approval(&annotation(old)).0 == state) {
        return;
    }
    let path = Path::root("metadata");
    let path = path.child("annotations");
    let path = path.key(APPROVAL_ANNOTATION);
    match state {
        Approval::Invalid => errors.invalid(&path, said, &why),
        Approval::Missing => errors.required(&path, &why),
        Approval::Approved | Approval::Bypassed => {}
    }
}

/// Formats that nothing checks, as far as this write brings them.
fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let known = old.map(unknown_formats).unwrap_or_default();
    let new = unknown_formats(new).into_iter().filter(|format| !known.contains(format));
    new.map(|format| format!("unrecognized format {}", crate::validation::quote(&format))).collect()
}

fn unknown_formats(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let versions = items(&definition["spec"], "versions");
    let schemas: Vec<&Value> = versions.iter().map(|version| &version["schema"]["openAPIV3Schema"]).collect();
    // One schema of all versions is one schema.
    let shared = schemas.windows(2).all(|pair| pair[0] == pair[1]);
    for schema in schemas.iter().take(if shared { 1 } else { schemas.len() }) {
        schema::walk(schema, &mut |schema| {
            let (ty, format) = (text(schema, "type"), text(schema, "format"));
            if !format.is_empty() && !is_known_format(ty, format) {
                found.push(format.to_owned());
            }
        });
    }
    found
}
