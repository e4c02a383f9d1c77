//! PersistentVolumes and PersistentVolumeClaims.

use serde_json::{Value, json};

use super::pods::validation::volumes::volume_source;
use crate::field_path::Path;
use crate::names;
use crate::quantity::Quantity;
use crate::resources::fields::{default, default_zero, is_empty, items, object, same, text, within};
use crate::resources::hooks::{Hooks, PLAIN};
use crate::resources::metadata::{immutable, label_selector};
use crate::resources::strategy::{keep, remove};
use crate::status::Cause;
use crate::validation::Errors;

pub(super) static VOLUMES: Hooks = Hooks {
    default: |volume| {
        default_zero(object(volume, "status"), "phase", "Pending");
        let spec = object(volume, "spec");
        default_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
        within(spec, "hostPath", |source| default(source, "type", ""));
        within(spec, "iscsi", |source| default_zero(source, "iscsiInterface", "default"));
    },
    prepare_create: |volume| {
        let created = volume["metadata"]["creationTimestamp"].clone();
        volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": created});
    },
    validate_create: validate_volume,
    validate_update: validate_volume_update,
    ..PLAIN
};

pub(super) static CLAIMS: Hooks = Hooks {
    default: claim_defaults,
    prepare_create: |claim| {
        claim["status"] = json!({"phase": "Pending"});
        drop_source(&mut claim["spec"]);
        same_source(&mut claim["spec"]);
    },
    prepare_update: |new, old| {
        if ["dataSource", "dataSourceRef"].iter().all(|field| is_empty(&old["spec"][*field])) {
            drop_source(&mut new["spec"]);
        }
        same_source(&mut new["spec"]);
    },
    validate_create: validate_claim,
    validate_update: validate_claim_update,
    ..PLAIN
};

/// A claim, also as the template of a StatefulSet.
pub(crate) fn claim_defaults(claim: &mut Value) {
    default_zero(object(claim, "status"), "phase", "Pending");
    default(object(claim, "spec"), "volumeMode", "Filesystem");
}

/// Clients of old may say anything in `dataSource`: what is neither a claim nor a snapshot was always passed over.
fn drop_source(spec: &mut Value) {
    let source = &spec["dataSource"];
    let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
    if spec["dataSourceRef"].is_null()
        && !source.is_null()
        && !known.contains(&(text(source, "apiGroup"), text(source, "kind")))
    {
        remove(spec, "dataSource");
    }
}

/// `dataSource` and `dataSourceRef` say the same where either is set, unless the latter names a namespace.
fn same_source(spec: &mut Value) {
    let (source, reference) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    if !is_empty(&source) && is_empty(&reference) {
        spec["dataSourceRef"] = source;
    } else if !is_empty(&reference) && is_empty(&source) && is_empty(&reference["namespace"]) {
        spec["dataSource"] = reference;
    } else if source.is_null() && reference.is_null() {
        for field in ["dataSource", "dataSourceRef"] {
            remove(spec, field);
        }
    }
}

fn validate_claim(claim: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    claim_spec(&mut errors, &claim["spec"], &Path::root("spec"));
    errors.into_causes()
}

/// The spec of a claim or of a template of one.
pub(crate) fn claim_spec(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    if items(spec, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    label_selector(errors, &spec["selector"], &path.child("selector"));
    access_modes(errors, spec, path);
    let at = path.child("resources");
    let at = at.key("storage");
    match Quantity::from_json(&spec["resources"]["requests"]["storage"]) {
        Err(_) => errors.required(&at, ""),
        Ok(size) if size.signum() <= 0 => {
            errors.invalid(&at, spec["resources"]["requests"]["storage"].clone(), "must be greater than zero");
        }
        Ok(_) => {}
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        errors.invalid_each(&path.child("storageClassName"), class, names::dns_subdomain(class));
    }
    volume_mode(errors, spec, path);
    for field in ["dataSource", "dataSourceRef"] {
        let (source, at) = (&spec[field], path.child(field));
        if !source.is_null() {
            for needed in ["name", "kind"] {
                if text(source, needed).is_empty() {
                    errors.required(&at.child(needed), "");
                }
            }
            if text(source, "apiGroup").is_empty() && text(source, "kind") != "PersistentVolumeClaim" {
                let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
                errors.invalid(&at, text(source, "kind"), detail);
            }
            let group = text(source, "apiGroup");
            if !group.is_empty() {
                errors.invalid_each(&at.child("apiGroup"), group, names::dns_subdomain(group));
            }
        }
    }
    let (source, reference) = (&spec["dataSource"], &spec["dataSourceRef"]);
    let says_same = || ["apiGroup", "kind", "name"].iter().all(|field| source[*field] == reference[*field]);
    // Upstream shows a path here, of which nothing can be seen.
    if !text(reference, "namespace").is_empty() {
        if !source.is_null() {
            errors.invalid_as(path, "{}", "may not be specified when dataSourceRef.namespace is specified");
        }
    } else if !source.is_null() && !reference.is_null() && !says_same() {
        errors.invalid_as(path, "{}", "must match dataSourceRef");
    }
    let class = text(spec, "volumeAttributesClassName");
    if !class.is_empty() {
        errors.invalid_each(&path.child("volumeAttributesClassName"), class, names::dns_subdomain(class));
    }
}

fn access_modes(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let words = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    let at = path.child("accessModes");
    let modes: Vec<&str> = items(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    for mode in modes.iter().filter(|mode| !words.contains(mode)) {
        errors.not_supported(&at, *mode, &words);
    }
    let exclusive = modes.contains(&"ReadWriteOncePod");
    if exclusive && modes.iter().any(|mode| *mode != "ReadWriteOncePod" && words.contains(mode)) {
        errors.forbidden(&at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn volume_mode(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let words = ["Block", "Filesystem"];
    if let Some(mode) = spec["volumeMode"].as_str().filter(|mode| !words.contains(mode)) {
        errors.not_supported(&path.child("volumeMode"), mode, &words);
    }
}

fn validate_claim_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    claim_spec(&mut errors, &new["spec"], &path);
    let (mut masked, old_spec) = (new["spec"].clone(), &old["spec"]);
    if text(old_spec, "volumeName").is_empty() {
        // Binding is the one change that all claims see.
        keep(&mut masked, old_spec, "volumeName");
    }
    if old_spec["storageClassName"].is_null() {
        remove(&mut masked, "storageClassName");
    }
    if text(&new["status"], "phase") == "Bound" {
        if !masked["resources"]["requests"].is_null() {
            masked["resources"]["requests"]["storage"] = old_spec["resources"]["requests"]["storage"].clone();
        }
        keep(&mut masked, old_spec, "volumeAttributesClassName");
    }
    if !same(&masked, old_spec) {
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n- {old_spec}\n+ {masked}\n"
        );
        errors.forbidden(&path, &detail);
    }
    let size = |object: &Value, pointer: &str| object.pointer(pointer).and_then(|size| Quantity::from_json(size).ok());
    let asked = "/spec/resources/requests/storage";
    let or_none = |size: Option<Quantity>| size.unwrap_or(Quantity::ZERO);
    let (new_size, has) = (or_none(size(new, asked)), or_none(size(old, "/status/capacity/storage")));
    if new_size < or_none(size(old, asked)) && new_size <= has {
        let resources = path.child("resources");
        let requests = resources.child("requests");
        errors.forbidden(&requests.child("storage"), "field can not be less than status.capacity");
    }
    let mode = Path::root("volumeMode");
    immutable(&mut errors, &new["spec"]["volumeMode"], &old_spec["volumeMode"], &mode);
    errors.into_causes()
}

fn validate_volume(volume: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&volume["spec"], Path::root("spec"));
    if items(spec, "accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "");
    }
    access_modes(&mut errors, spec, &path);
    let (capacity, at) = (&spec["capacity"], path.child("capacity"));
    if is_empty(capacity) {
        errors.required(&at, "");
    }
    let amounts = capacity.as_object().map_or(0, serde_json::Map::len);
    if capacity["storage"].is_null() || amounts > 1 {
        errors.not_supported(&at, capacity.clone(), &["storage"]);
    }
    for (name, amount) in capacity.as_object().into_iter().flatten() {
        if Quantity::from_json(amount).is_ok_and(|amount| amount.signum() <= 0) {
            errors.invalid(&at.key(name), amount.clone(), "must be greater than zero");
        }
    }
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !policy.is_empty() && !["Delete", "Recycle", "Retain"].contains(&policy) {
        errors.not_supported(&path.child("persistentVolumeReclaimPolicy"), policy, &["Delete", "Recycle", "Retain"]);
    }
    let affinity = &spec["nodeAffinity"];
    if !affinity.is_null() {
        let at = path.child("nodeAffinity");
        match affinity["required"].is_null() {
            true => errors.required(&at.child("required"), "must specify required node constraints"),
            false => super::pods::validation::node_selector(&mut errors, &affinity["required"], &at.child("required")),
        }
    }
    volume_source(&mut errors, spec, &path);
    if !spec["local"].is_null() && affinity.is_null() {
        errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        errors.invalid_each(&path.child("storageClassName"), class, names::dns_subdomain(class));
    }
    volume_mode(&mut errors, spec, &path);
    errors.into_causes()
}

fn validate_volume_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let source = |volume: &Value| {
        let mut spec = volume["spec"].clone();
        let shared = [
            "accessModes",
            "capacity",
            "claimRef",
            "mountOptions",
            "nodeAffinity",
            "persistentVolumeReclaimPolicy",
            "storageClassName",
            "volumeMode",
            "volumeAttributesClassName",
        ];
        for field in shared {
            remove(&mut spec, field);
        }
        spec
    };
    let path = Path::root("spec");
    if !same(&source(new), &source(old)) {
        let detail =
            format!("spec.persistentvolumesource is immutable after creation\n- {}\n+ {}\n", source(old), source(new));
        errors.forbidden(&path.child("persistentvolumesource"), &detail);
    }
    let mode = Path::root("volumeMode");
    immutable(&mut errors, &new["spec"]["volumeMode"], &old["spec"]["volumeMode"], &mode);
    let (new_affinity, old_affinity) = (&new["spec"]["nodeAffinity"], &old["spec"]["nodeAffinity"]);
    if !old_affinity.is_null() && !same(new_affinity, &with_renamed_keys(old_affinity, new_affinity)) {
        let why = "field is immutable, except for updating from beta label to GA";
        errors.invalid(&Path::root("nodeAffinity"), new_affinity.clone(), why);
    }
    // The volume is looked at both for itself and as what it changes to.
    let mut causes = validate_volume(new);
    causes.extend(validate_volume(new));
    causes.extend(errors.into_causes());
    causes
}

/// An old affinity with each key that may be renamed in the new one's words. What has no later name may be renamed to
/// nothing, as upstream's map of names (`betaToGALabel`) has it; that keys may not be empty is another rule.
fn with_renamed_keys(old: &Value, new: &Value) -> Value {
    let mut renamed = old.clone();
    let terms = renamed["required"]["nodeSelectorTerms"].as_array_mut().into_iter().flatten();
    for (at, term) in terms.enumerate() {
        for (place, requirement) in term["matchExpressions"].as_array_mut().into_iter().flatten().enumerate() {
            let wanted = &new["required"]["nodeSelectorTerms"][at]["matchExpressions"][place];
            if wanted.is_object() && text(wanted, "key") == stable_label(text(requirement, "key")) {
                requirement["key"] = json!(text(wanted, "key"));
            }
        }
    }
    renamed
}

/// The name under which a label of beta times has stayed; empty where there is none.
fn stable_label(beta: &str) -> &'static str {
    match beta {
        "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
        "beta.kubernetes.io/os" => "kubernetes.io/os",
        "beta.kubernetes.io/arch" => "kubernetes.io/arch",
        "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(key: &str) -> Value {
        json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": key, "operator": "Exists"}]},
        ]}}}})
    }

    #[test]
    fn a_volumes_place_may_change_its_labels_names_alone() {
        let check = |old: &str, new: &str, expected: bool| {
            let causes = validate_volume_update(&volume(new), &volume(old));
            let refused = causes.iter().any(|cause| cause.field == "nodeAffinity");
            assert_eq!(refused, !expected, "{old} to {new}: {causes:?}");
        };
        check("beta.kubernetes.io/os", "kubernetes.io/os", true);
        check("beta.kubernetes.io/os", "beta.kubernetes.io/os", true);
        check("b", "", true);
        check("kubernetes.io/os", "beta.kubernetes.io/os", false);
        check("beta.kubernetes.io/os", "kubernetes.io/arch", false);
        check("b", "c", false);
    }
}
