//! What the kinds of `storage.k8s.io` may say, in upstream's words (`k8s.io/kubernetes/pkg/apis/storage/validation`).

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::quantity::Quantity;
use crate::resources::core::pods::validation::volumes::csi_driver;
use crate::resources::fields::{int, is_empty, items, same, text};
use crate::resources::metadata::{immutable, label_selector};
use crate::status::Cause;
use crate::validation::Errors;

const MOST_NODE_ID: usize = 192;

/// A CSIDriver: how its volumes come to Pods.
pub(super) fn driver(driver: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    check_driver(&mut errors, &driver["spec"], &Path::root("spec"));
    errors.into_causes()
}

pub(super) fn driver_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    check_driver(&mut errors, &new["spec"], &path);
    for (field, shown) in [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")] {
        immutable(&mut errors, &new["spec"][field], &old["spec"][field], &path.child(shown));
    }
    errors.into_causes()
}

fn check_driver(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    if let Some(policy) = spec["fsGroupPolicy"].as_str().filter(|policy| !policies.contains(policy)) {
        errors.not_supported(&path.child("fsGroupPolicy"), policy, &policies);
    }
    check_requests(errors, items(spec, "tokenRequests"), &path.child("tokenRequests"));
    for mode in items(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str) {
        if !["Persistent", "Ephemeral"].contains(&mode) {
            errors.not_supported(&path.child("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
    }
    if let Some(period) = spec["nodeAllocatableUpdatePeriodSeconds"].as_i64().filter(|period| *period < 10) {
        let why = "must be greater than or equal to 10 seconds";
        errors.invalid(&path.child("nodeAllocatableUpdatePeriodSeconds"), period, why);
    }
    let in_secrets = &spec["serviceAccountTokenInSecrets"];
    if !in_secrets.is_null() && is_empty(&spec["tokenRequests"]) {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&path.child("serviceAccountTokenInSecrets"), in_secrets.clone(), why);
    }
}

/// The tokens that a driver is given, one for each audience.
fn check_requests(errors: &mut Errors, requests: &[Value], path: &Path<'_>) {
    for (at, request) in requests.iter().enumerate() {
        let (path, audience) = (path.index(at), text(request, "audience"));
        if requests[..at].iter().any(|earlier| text(earlier, "audience") == audience) {
            errors.duplicate(&path.child("audience"), audience);
            continue;
        }
        let at = path.child("expirationSeconds");
        match request["expirationSeconds"].as_i64() {
            Some(seconds) if seconds < 600 => {
                errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
            }
            Some(seconds) if seconds > 1 << 32 => {
                errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            _ => {}
        }
    }
}

/// A CSINode: the drivers of a Node.
pub(super) fn node(node: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    let list = path.child("drivers");
    let drivers = items(&node["spec"], "drivers");
    for (at, driver) in drivers.iter().enumerate() {
        let (path, name) = (list.index(at), text(driver, "name"));
        csi_driver(&mut errors, name, &path.child("name"));
        let id = text(driver, "nodeID");
        if id.is_empty() {
            errors.required(&path.child("nodeID"), "");
        }
        if id.len() > MOST_NODE_ID {
            let why = format!("must be {MOST_NODE_ID} characters or less");
            errors.invalid(&path.child("nodeID"), id, &why);
        }
        let count = int(&driver["allocatable"], "count");
        if count < 0 {
            let at = path.child("allocatable");
            errors.invalid(&at.child("count"), count, "must be greater than or equal to 0");
        }
        if drivers[..at].iter().any(|earlier| text(earlier, "name") == name) {
            errors.duplicate(&path.child("name"), name);
        }
        check_keys(&mut errors, items(driver, "topologyKeys"), &path);
    }
    errors.into_causes()
}

/// Keys of a driver's topology, which stands at `path`, as errors about them do.
fn check_keys(errors: &mut Errors, keys: &[Value], path: &Path<'_>) {
    for (at, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        if name.is_empty() {
            errors.required(path, "");
        }
        if keys[..at].contains(key) {
            errors.duplicate(path, name);
        }
        errors.invalid_each(path, name, names::qualified_name(name));
    }
}

/// What a driver says of a Node stays so, but for how many volumes fit.
pub(super) fn node_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = node(new);
    let mut errors = Errors::new();
    let path = Path::root("spec");
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        crate::resources::strategy::remove(&mut driver, "allocatable");
        driver
    };
    for before in items(&old["spec"], "drivers") {
        for driver in items(&new["spec"], "drivers").iter().filter(|driver| driver["name"] == before["name"]) {
            immutable(&mut errors, &fixed(driver), &fixed(before), &path.child("drivers"));
        }
    }
    causes.extend(errors.into_causes());
    causes
}

/// A CSIStorageCapacity: of which class, and where.
pub(super) fn capacity(capacity: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    label_selector(&mut errors, &capacity["nodeTopology"], &Path::root("nodeTopology"));
    let class = text(capacity, "storageClassName");
    errors.invalid_each(&Path::root("storageClassName"), class, names::dns_subdomain(class));
    if Quantity::from_json(&capacity["capacity"]).is_ok_and(|amount| amount.signum() < 0) {
        let why = "must be greater than or equal to 0";
        errors.invalid(&Path::root("capacity"), capacity["capacity"].clone(), why);
    }
    errors.into_causes()
}

pub(super) fn capacity_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = capacity(new);
    let mut errors = Errors::new();
    for field in ["nodeTopology", "storageClassName"] {
        immutable(&mut errors, &new[field], &old[field], &Path::root(field));
    }
    causes.extend(errors.into_causes());
    causes
}

/// A VolumeAttachment: by whom, what, where.
pub(super) fn attachment(attachment: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&attachment["spec"], Path::root("spec"));
    csi_driver(&mut errors, text(spec, "attacher"), &path.child("attacher"));
    let (source, at) = (&spec["source"], path.child("source"));
    let volume = source["persistentVolumeName"].as_str();
    match (source["inlineVolumeSpec"].is_null(), volume) {
        (true, None) => errors.required(&at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        (false, Some(_)) => {
            errors.forbidden(&at, "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
        (true, Some("")) => {
            errors.required(&at.child("persistentVolumeName"), "must specify non empty persistentVolumeName");
        }
        _ => {}
    }
    let node = text(spec, "nodeName");
    errors.invalid_each(&path.child("nodeName"), node, names::dns_subdomain(node));
    if let Some(volume) = volume {
        errors.invalid_each(&at.child("persistentVolumeName"), volume, names::dns_subdomain(volume));
    }
    errors.into_causes()
}

pub(super) fn attachment_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = attachment(new);
    let mut errors = Errors::new();
    immutable(&mut errors, &new["spec"], &old["spec"], &Path::root("spec"));
    causes.extend(errors.into_causes());
    causes
}

/// A VolumeAttributesClass: whose attributes, and which.
pub(super) fn attributes(class: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let driver = text(class, "driverName").to_lowercase();
    match driver.as_str() {
        "" => errors.required(&Path::root("driverName"), ""),
        driver => errors.invalid_each(&Path::root("driverName"), driver, names::qualified_name(driver)),
    }
    if is_empty(&class["parameters"]) {
        errors.required(&Path::root("parameters"), "must contain at least one key/value pair");
    }
    errors.into_causes()
}

pub(super) fn attributes_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    for field in ["driverName", "parameters"] {
        if !same(&new[field], &old[field]) {
            errors.forbidden(&Path::root(field), &format!("updates to {field} are forbidden."));
        }
    }
    let mut causes = errors.into_causes();
    causes.extend(attributes(new));
    causes
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::validation::testing::check;

    #[test]
    fn drivers_and_their_nodes_are_refused_in_upstreams_words() {
        check(
            driver(&json!({"spec": {"fsGroupPolicy": "Odd", "volumeLifecycleModes": ["Odd"], "tokenRequests": [
                {"audience": "a", "expirationSeconds": 5}, {"audience": "a"}]}})),
            expect![[r#"
                spec.fsGroupPolicy: Unsupported value: "Odd": supported values: "File", "None", "ReadWriteOnceWithFSType"
                spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes
                spec.tokenRequests[1].audience: Duplicate value: "a"
                spec.volumeLifecycleModes: Unsupported value: "Odd": supported values: "Persistent", "Ephemeral"
            "#]],
        );
        let of = |drivers: Value| json!({"spec": {"drivers": drivers}});
        check(
            node(&of(json!([{"name": "a", "nodeID": "n", "topologyKeys": ["z", "z"]}, {"name": "a"}]))),
            expect![[r#"
                spec.drivers[0]: Duplicate value: "z"
                spec.drivers[1].nodeID: Required value
                spec.drivers[1].name: Duplicate value: "a"
            "#]],
        );
        let (old, grown) =
            (json!([{"name": "a", "nodeID": "n"}]), json!([{"name": "a", "nodeID": "n", "allocatable": {"count": 5}}]));
        check(node_update(&of(grown), &of(old.clone())), expect![""]);
        check(
            node_update(&of(json!([{"name": "a", "nodeID": "m"}])), &of(old)),
            expect![[r#"
                spec.drivers: Invalid value: {"name":"a","nodeID":"m"}: field is immutable
            "#]],
        );
    }

    #[test]
    fn others_are_refused_in_upstreams_words() {
        check(capacity(&json!({"storageClassName": "fast", "capacity": "1Gi"})), expect![""]);
        check(
            attachment(&json!({})),
            expect![[r#"
                spec.attacher: Required value
                spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName
                spec.nodeName: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            "#]],
        );
        check(
            attributes_update(
                &json!({"driverName": "e", "parameters": {"a": "b"}}),
                &json!({"driverName": "d", "parameters": {"a": "b"}}),
            ),
            expect![[r#"
                driverName: Forbidden: updates to driverName are forbidden.
            "#]],
        );
    }
}
