//! Volumes, and where containers mount them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::containers::is_privileged;
use super::env::{field_ref, resource_ref};
use super::{Context, one_of};
use crate::field_path::Path;
use crate::names;
use crate::quantity::Quantity;
use crate::resources::core::volumes::claim_spec;
use crate::resources::fields::{flag, int, is_empty, items, text};
use crate::resources::metadata;
use crate::validation::{Errors, quote};

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Volume types in the order in which they are looked at, and how errors spell them.
const TYPES: &[(&str, &str)] = &[
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// What the volumes of a type without rules of its own must say. Errors about a GCE disk spell its path differently.
const MUST_SAY: &[(&str, &[&str])] = &[
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

/// Checks a spec's volumes; returns those without fault, by name.
pub(super) fn volumes<'a>(
    errors: &mut Errors,
    spec: &'a Value,
    pod_meta: Option<&Value>,
    path: &Path<'_>,
) -> BTreeMap<&'a str, &'a Value> {
    let pod_name = pod_meta.map(|metadata| text(metadata, "name")).unwrap_or_default();
    let list = items(spec, "volumes");
    let made: BTreeSet<String> = list
        .iter()
        .filter(|volume| !volume["ephemeral"].is_null() && !pod_name.is_empty())
        .map(|volume| format!("{pod_name}-{}", text(volume, "name")))
        .collect();
    let mut valid = BTreeMap::new();
    for (at, volume) in list.iter().enumerate() {
        let (path, name) = (path.index(at), text(volume, "name"));
        let mut own = Errors::new();
        source(&mut own, volume, pod_meta, &path);
        match name {
            "" => own.required(&path.child("name"), ""),
            name => own.invalid_each(&path.child("name"), name, names::dns_label(name)),
        }
        if valid.contains_key(name) {
            own.duplicate(&path.child("name"), name);
        }
        if own.is_empty() {
            valid.insert(name, volume);
        }
        errors.extend(own);
        let claim = text(&volume["persistentVolumeClaim"], "claimName");
        if made.contains(claim) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&path.child("persistentVolumeClaim").child("claimName"), claim, detail);
        }
    }
    valid
}

fn source(errors: &mut Errors, volume: &Value, pod_meta: Option<&Value>, path: &Path<'_>) {
    let mut found = TYPES.iter().filter(|(field, _)| !volume[*field].is_null());
    let Some((field, _)) = found.next() else {
        return errors.required(path, "must specify a volume type");
    };
    typed(errors, field, volume, pod_meta, path);
    for (_, spelled) in found {
        errors.forbidden(&path.child(spelled), "may not specify more than 1 volume type");
    }
}

/// The source of a PersistentVolume, which is of one type too.
pub(crate) fn volume_source(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let mut found = TYPES.iter().filter(|(field, _)| !spec[*field].is_null());
    match (found.next(), &spec["local"]) {
        (None, Value::Null) => errors.required(path, "must specify a volume type"),
        (None, local) => {
            let at = path.child("local");
            match text(local, "path") {
                "" => errors.required(&at.child("path"), ""),
                file => no_backsteps(errors, file, &at.child("path")),
            }
        }
        (Some((field @ ("hostPath" | "nfs"), _)), _) => typed(errors, field, spec, None, path),
        (Some(("csi", _)), _) => {
            csi_driver(errors, text(&spec["csi"], "driver"), &path.child("csi").child("driver"));
            if text(&spec["csi"], "volumeHandle").is_empty() {
                errors.required(&path.child("csi").child("volumeHandle"), "");
            }
            for field in [
                "controllerPublishSecretRef",
                "controllerExpandSecretRef",
                "nodePublishSecretRef",
                "nodeExpandSecretRef",
            ] {
                secret_of(errors, &spec["csi"][field], &path.child("csi").child(field));
            }
        }
        (Some(_), _) => {}
    }
    for (_, spelled) in found {
        errors.forbidden(&path.child(spelled), "may not specify more than 1 volume type");
    }
}

fn typed(errors: &mut Errors, field: &str, volume: &Value, pod_meta: Option<&Value>, path: &Path<'_>) {
    let source = &volume[field];
    let at = path.child(if field == "gcePersistentDisk" { "persistentDisk" } else { field });
    if let Some((_, fields)) = MUST_SAY.iter().find(|(listed, _)| *listed == field) {
        for needed in *fields {
            if is_empty(&source[*needed]) {
                errors.required(&at.child(needed), "");
            }
        }
    }
    match field {
        "emptyDir" if Quantity::from_json(&source["sizeLimit"]).is_ok_and(|limit| limit.signum() < 0) => {
            let detail = "SizeLimit field must be a valid resource quantity";
            errors.forbidden(&at.child("sizeLimit"), detail);
        }
        "hostPath" => host_path(errors, source, &at),
        "nfs" => {
            let exported = text(source, "path");
            if !exported.starts_with('/') {
                errors.invalid(&at.child("path"), exported, "must be an absolute path");
            }
        }
        "secret" | "configMap" => {
            let name = if field == "secret" { "secretName" } else { "name" };
            if text(source, name).is_empty() {
                errors.required(&at.child(name), "");
            }
            file_mode(errors, source, "defaultMode", &at);
            for (index, item) in items(source, "items").iter().enumerate() {
                key_to_path(errors, item, &at.child("items").index(index));
            }
        }
        "downwardAPI" => {
            file_mode(errors, source, "defaultMode", &at);
            for item in items(source, "items") {
                downward_file(errors, item, &at);
            }
        }
        "projected" => projected(errors, source, &at),
        "csi" => csi(errors, source, &at),
        "iscsi" => iscsi(errors, source, &at),
        "ephemeral" => ephemeral(errors, volume, pod_meta, path),
        "image" => {
            if pod_meta.is_some() && text(source, "reference").is_empty() {
                errors.required(&at.child("reference"), "");
            }
            one_of(errors, source, "pullPolicy", &["Always", "IfNotPresent", "Never"], &at);
        }
        _ => {}
    }
}

fn host_path(errors: &mut Errors, source: &Value, path: &Path<'_>) {
    let named = text(source, "path");
    if named.is_empty() {
        return errors.required(&path.child("path"), "");
    }
    no_backsteps(errors, named, &path.child("path"));
    let words = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if let Some(kind) = source["type"].as_str().filter(|kind| !words.contains(kind)) {
        errors.not_supported(&path.child("type"), kind, &words);
    }
}

fn file_mode(errors: &mut Errors, object: &Value, field: &str, path: &Path<'_>) {
    if let Some(mode) = object[field].as_i64().filter(|mode| !(0..=0o777).contains(mode)) {
        errors.invalid(&path.child(field), mode, FILE_MODE);
    }
}

fn key_to_path(errors: &mut Errors, item: &Value, path: &Path<'_>) {
    for field in ["key", "path"] {
        if text(item, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    unreserved_path(errors, text(item, "path"), &path.child("path"));
    file_mode(errors, item, "mode", path);
}

fn downward_file(errors: &mut Errors, item: &Value, path: &Path<'_>) {
    const FIELDS: &[&str] =
        &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];
    if text(item, "path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    unreserved_path(errors, text(item, "path"), &path.child("path"));
    if !item["fieldRef"].is_null() {
        field_ref(errors, &item["fieldRef"], FIELDS, &path.child("fieldRef"));
        if !item["resourceFieldRef"].is_null() {
            errors.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
        }
    } else if !item["resourceFieldRef"].is_null() {
        resource_ref(errors, &item["resourceFieldRef"], true, &path.child("resourceFieldRef"));
    } else {
        errors.required(path, "one of fieldRef and resourceFieldRef is required");
    }
    file_mode(errors, item, "mode", path);
}

fn projected(errors: &mut Errors, projected: &Value, path: &Path<'_>) {
    file_mode(errors, projected, "defaultMode", path);
    let mut taken = BTreeSet::new();
    let sources = path.child("sources");
    for (at, source) in items(projected, "sources").iter().enumerate() {
        let own = sources.index(at);
        for field in ["secret", "configMap"] {
            let (projection, at) = (&source[field], own.child(field));
            if projection.is_null() {
                continue;
            }
            let name = text(projection, "name");
            if name.is_empty() {
                errors.required(&at.child("name"), "");
            }
            for (index, item) in items(projection, "items").iter().enumerate() {
                key_to_path(errors, item, &at.child("items").index(index));
                let file = text(item, "path");
                if !file.is_empty() && !taken.insert(file) {
                    errors.invalid(path, name, "conflicting duplicate paths");
                }
            }
        }
        for item in items(&source["downwardAPI"], "items") {
            downward_file(errors, item, &own.child("downwardAPI"));
            let file = text(item, "path");
            if !file.is_empty() && !taken.insert(file) {
                errors.invalid(path, file, "conflicting duplicate paths");
            }
        }
        token(errors, &source["serviceAccountToken"], &own, path);
        let kinds =
            ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
        if kinds.iter().filter(|kind| !source[**kind].is_null()).count() > 1 {
            errors.forbidden(&own, "may not specify more than 1 volume type per source");
        }
    }
}

/// A token of the Pod's ServiceAccount. Upstream's errors about its path name the volume, not the source.
fn token(errors: &mut Errors, token: &Value, source: &Path<'_>, volume: &Path<'_>) {
    if token.is_null() {
        return;
    }
    let (seconds, at) = (int(token, "expirationSeconds"), source.child("serviceAccountToken"));
    if seconds < 600 {
        let detail = "may not specify a duration less than 10 minutes";
        errors.invalid(&at.child("expirationSeconds"), seconds, detail);
    }
    if seconds > 1 << 32 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.invalid(&at.child("expirationSeconds"), seconds, detail);
    }
    match text(token, "path") {
        "" => errors.required(&volume.child("path"), ""),
        file => unreserved_path(errors, file, &volume.child("path")),
    }
}

/// A Secret, with its namespace: volumes of the cluster have none of their own.
fn secret_of(errors: &mut Errors, reference: &Value, path: &Path<'_>) {
    if reference.is_null() {
        return;
    }
    match text(reference, "name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_each(&path.child("name"), name, names::dns_subdomain(name)),
    }
    match text(reference, "namespace") {
        "" => errors.required(&path.child("namespace"), ""),
        namespace => errors.invalid_each(&path.child("namespace"), namespace, names::dns_label(namespace)),
    }
}

fn iscsi(errors: &mut Errors, source: &Value, path: &Path<'_>) {
    let name = text(source, "iqn");
    if !name.is_empty() {
        initiator(errors, name, &path.child("iqn"));
    }
    let unit = int(source, "lun");
    if !(0..=255).contains(&unit) {
        errors.invalid(&path.child("lun"), unit, "must be between 0 and 255, inclusive");
    }
    let authenticates = flag(source, "chapAuthDiscovery") || flag(source, "chapAuthSession");
    if authenticates && source["secretRef"].is_null() {
        errors.required(&path.child("secretRef"), "");
    }
    if let Some(name) = source["initiatorName"].as_str() {
        initiator(errors, name, &path.child("initiatorname"));
    }
}

/// A name by RFC 3720: `iqn.2001-04.com.example:storage`, `eui.` or `naa.` and a number.
fn initiator(errors: &mut Errors, name: &str, path: &Path<'_>) {
    let number = |length: usize| {
        name.is_ascii() && name.len() == 4 + length && name[4..].chars().all(|c| c.is_ascii_alphanumeric())
    };
    let is_fit = match name.get(..3) {
        Some("iqn") => is_qualified(name),
        Some("eui") => number(16),
        Some("naa") => number(32),
        _ => return errors.invalid(path, name, "must be valid format starting with iqn, eui, or naa"),
    };
    if !is_fit {
        errors.invalid(path, name, "must be valid format");
    }
}

/// `iqn.`, when an authority had its domain, the domain, and what the authority calls the initiator.
fn is_qualified(name: &str) -> bool {
    let digits = |text: &str, length: usize| text.len() == length && text.chars().all(|c| c.is_ascii_digit());
    let Some((date, rest)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once('.')) else { return false };
    let (year, month) = date.split_once('-').unwrap_or_default();
    let (domain, own) = rest.split_once(':').unwrap_or_default();
    digits(year, 4)
        && digits(month, 2)
        && !domain.is_empty()
        && domain.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        && !own.is_empty()
        && !own.contains(|c: char| ",;*&$|".contains(c) || c.is_whitespace())
}

fn csi(errors: &mut Errors, source: &Value, path: &Path<'_>) {
    csi_driver(errors, text(source, "driver"), &path.child("driver"));
    if !source["nodePublishSecretRef"].is_null() {
        match text(&source["nodePublishSecretRef"], "name") {
            "" => errors.required(&path.child("nodePublishSecretRef").child("name"), ""),
            name => errors.invalid_each(&path.child("name"), name, names::dns_subdomain(name)),
        }
    }
}

/// The name of a CSI driver, in any case.
pub(crate) fn csi_driver(errors: &mut Errors, driver: &str, path: &Path<'_>) {
    if driver.is_empty() {
        return errors.required(path, "");
    }
    if driver.len() > 63 {
        errors.too_long(path, 63);
    }
    errors.invalid_each(path, driver, names::dns_subdomain(&driver.to_lowercase()));
}

fn ephemeral(errors: &mut Errors, volume: &Value, pod_meta: Option<&Value>, path: &Path<'_>) {
    let (template, ephemeral) = (&volume["ephemeral"]["volumeClaimTemplate"], path.child("ephemeral"));
    let at = ephemeral.child("volumeClaimTemplate");
    if template.is_null() {
        errors.required(&at, "");
    } else {
        metadata::bare(errors, &template["metadata"], &at.child("metadata"));
        claim_spec(errors, &template["spec"], &at.child("spec"));
    }
    let pod = pod_meta.map(|metadata| text(metadata, "name")).unwrap_or_default();
    let name = text(volume, "name");
    if !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{name}");
        for detail in names::dns_subdomain(&claim) {
            errors.invalid(&path.child("name"), name, &format!("PVC name {}: {detail}", quote(&claim)));
        }
    }
}

/// A path below some root: relative, never upwards.
pub(crate) fn descending_path(errors: &mut Errors, file: &str, path: &Path<'_>) {
    if file.starts_with('/') {
        errors.invalid(path, file, "must be a relative path");
    }
    no_backsteps(errors, file, path);
}

pub(super) fn no_backsteps(errors: &mut Errors, file: &str, path: &Path<'_>) {
    if file.split('/').any(|part| part == "..") {
        errors.invalid(path, file, "must not contain '..'");
    }
}

/// A path that does not collide with the names that atomic updates of a volume use.
fn unreserved_path(errors: &mut Errors, file: &str, path: &Path<'_>) {
    descending_path(errors, file, path);
    if file.starts_with("..") && !file.starts_with("../") {
        errors.invalid(path, file, "must not start with '..'");
    }
}

pub(super) fn mounts(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Path<'_>) {
    let devices = items(container, "volumeDevices");
    let mut points = BTreeSet::new();
    for (at, mount) in items(container, "volumeMounts").iter().enumerate() {
        let own = path.index(at);
        let (name, point) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&own.child("name"), "");
        }
        if !context.volumes.contains_key(name) {
            errors.not_found(&own.child("name"), name);
        }
        if point.is_empty() {
            errors.required(&own.child("mountPath"), "");
        }
        if !points.insert(point) {
            errors.invalid(&own.child("mountPath"), point, "must be unique");
        }
        if devices.iter().any(|device| text(device, "name") == name) {
            errors.invalid(&own.child("name"), name, "must not already exist in volumeDevices");
        }
        if devices.iter().any(|device| text(device, "devicePath") == point) {
            let detail = "must not already exist as a path in volumeDevices";
            errors.invalid(&own.child("mountPath"), point, detail);
        }
        // From here on upstream's errors name the list, not the mount.
        let (sub, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        if !sub.is_empty() {
            descending_path(errors, sub, &path.child("subPath"));
        }
        if !expression.is_empty() {
            if !sub.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&own.child("subPathExpr"), expression, detail);
            }
            descending_path(errors, expression, &path.child("subPathExpr"));
        }
        propagation(errors, mount, container, &path.child("mountPropagation"));
        recursive_read_only(errors, mount, &path.child("recursiveReadOnly"));
    }
}

fn propagation(errors: &mut Errors, mount: &Value, container: &Value, path: &Path<'_>) {
    let Some(mode) = mount["mountPropagation"].as_str() else { return };
    let words = ["Bidirectional", "HostToContainer", "None"];
    if !words.contains(&mode) {
        errors.not_supported(path, mode, &words);
    }
    if mode == "Bidirectional" && !is_privileged(container) {
        errors.forbidden(path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn recursive_read_only(errors: &mut Errors, mount: &Value, path: &Path<'_>) {
    match mount["recursiveReadOnly"].as_str() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !flag(mount, "readOnly") {
                errors.forbidden(path, "may only be specified when readOnly is true");
            }
            if mount["mountPropagation"].as_str().is_some_and(|mode| mode != "None") {
                errors.forbidden(path, "may only be specified when mountPropagation is None or not specified");
            }
        }
        Some(other) => errors.not_supported(path, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

pub(super) fn devices(errors: &mut Errors, container: &Value, context: &Context<'_>, path: &Path<'_>) {
    let mounts = items(container, "volumeMounts");
    let (mut seen_names, mut seen_paths) = (BTreeSet::new(), BTreeSet::new());
    for (at, device) in items(container, "volumeDevices").iter().enumerate() {
        let own = path.index(at);
        let (name, file) = (text(device, "name"), text(device, "devicePath"));
        let (at_name, at_path) = (own.child("name"), own.child("devicePath"));
        if name.is_empty() {
            errors.required(&at_name, "");
        } else if !seen_names.insert(name) {
            errors.invalid(&at_name, name, "must be unique");
        }
        match context.volumes.get(name) {
            None => errors.not_found(&at_name, name),
            Some(volume) if volume["persistentVolumeClaim"].is_null() && volume["ephemeral"].is_null() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at_name, name, detail);
            }
            Some(_) => {}
        }
        if file.is_empty() {
            errors.required(&at_path, "");
        }
        if seen_paths.contains(file) {
            errors.invalid(&at_path, file, "must be unique");
        }
        if file.split('/').any(|part| part == "..") {
            errors.invalid(&at_path, file, "can not contain backsteps ('..')");
        } else {
            seen_paths.insert(file);
        }
        if mounts.iter().any(|mount| text(mount, "name") == name) {
            errors.invalid(&at_name, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| text(mount, "mountPath") == file) {
            errors.invalid(&at_path, file, "must not already exist as a path in volumeMounts");
        }
    }
}
