//! `resource.k8s.io` ResourceSlices: who offers devices, of which pool, on which nodes
//! (`k8s.io/kubernetes/pkg/apis/resource/validation`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fields::{int, items, text};
use super::metadata::immutable;
use crate::field_path::Path;
use crate::names;
use crate::status::Cause;
use crate::validation::Errors;

const POOL_NAME_LIMIT: usize = 253;
const DRIVER_NAME_LIMIT: usize = 63;
const MOST_DEVICES: usize = 128;

pub(super) fn slice(slice: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    spec(&mut errors, &slice["spec"], None);
    errors.into_causes()
}

pub(super) fn slice_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    spec(&mut errors, &new["spec"], Some(&old["spec"]));
    errors.into_causes()
}

fn spec(errors: &mut Errors, spec: &Value, old: Option<&Value>) {
    let path = Path::root("spec");
    let (driver, at_driver, at_pool) = (text(spec, "driver"), path.child("driver"), path.child("pool"));
    match driver {
        "" => errors.required(&at_driver, ""),
        name => {
            if name.len() > DRIVER_NAME_LIMIT {
                errors.too_long(&at_driver, DRIVER_NAME_LIMIT);
            }
            errors.invalid_each(&at_driver, name, names::dns_subdomain(name));
        }
    }
    pool(errors, &spec["pool"], &at_pool);
    if let Some(old) = old {
        immutable(errors, &spec["pool"]["name"], &old["pool"]["name"], &at_pool.child("name"));
        for field in ["driver", "nodeName"] {
            immutable(errors, &spec[field], &old[field], &path.child(field));
        }
    }
    nodes(errors, spec, &path);
    if !spec["sharedCounters"].is_null() && !spec["devices"].is_null() {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    devices(errors, spec, &path.child("devices"));
}

fn pool(errors: &mut Errors, pool: &Value, path: &Path<'_>) {
    let at = path.child("name");
    match text(pool, "name") {
        "" => errors.required(&at, ""),
        name => {
            if name.len() > POOL_NAME_LIMIT {
                errors.too_long(&at, POOL_NAME_LIMIT);
            }
            for part in name.split('/') {
                errors.invalid_each(&at, part, names::dns_subdomain(part));
            }
        }
    }
    let (slices, generation) = (int(pool, "resourceSliceCount"), int(pool, "generation"));
    if slices <= 0 {
        errors.invalid(&path.child("resourceSliceCount"), slices, "must be greater than zero");
    }
    if generation < 0 {
        errors.invalid(&path.child("generation"), generation, "must be greater than or equal to zero");
    }
}

/// A slice says in one way alone where its devices are.
fn nodes(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let mut ways = Vec::new();
    match spec["nodeName"].as_str() {
        None => {}
        Some("") => errors.invalid(&path.child("nodeName"), "", "must be either unset or set to a non-empty string"),
        Some(name) => {
            ways.push("`nodeName`");
            errors.invalid_each(&path.child("nodeName"), name, names::dns_subdomain(name));
        }
    }
    if !spec["nodeSelector"].is_null() {
        ways.push("`nodeSelector`");
        let terms = items(&spec["nodeSelector"], "nodeSelectorTerms");
        if terms.len() != 1 {
            let at = path.child("nodeSelector");
            let detail = "must have exactly one node selector term";
            errors.invalid(&at.child("nodeSelectorTerms"), json!(terms), detail);
        }
    }
    for (field, way) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match spec[field].as_bool() {
            None => {}
            Some(true) => ways.push(way),
            Some(false) => errors.invalid(&path.child(field), false, "must be either unset or set to true"),
        }
    }
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match ways.as_slice() {
        [] => errors.required(path, one),
        [_] => {}
        ways => {
            let detail = format!("{one}, but multiple fields are set");
            errors.invalid(path, format!("{{{}}}", ways.join(", ")), &detail);
        }
    }
}

fn devices(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let devices = items(spec, "devices");
    if devices.len() > MOST_DEVICES {
        errors.too_many(path, devices.len(), MOST_DEVICES);
    }
    let mut seen = BTreeSet::new();
    for (at, device) in devices.iter().enumerate() {
        let (path, name) = (path.index(at), text(device, "name"));
        errors.invalid_each(&path.child("name"), name, names::dns_label(name));
        if !seen.insert(name) {
            errors.duplicate(&path, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value, expected: &[&str]) {
        let causes = slice(&json!({"spec": spec}));
        assert_eq!(causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_slice_says_whose_it_is_and_where() {
        check(json!({}), &["spec.driver", "spec.pool.name", "spec.pool.resourceSliceCount", "spec"]);
        let good =
            json!({"driver": "d.example.com", "pool": {"name": "a/b", "resourceSliceCount": 1}, "allNodes": true});
        check(good.clone(), &[]);
        let mut twice = good.clone();
        twice["nodeName"] = json!("n");
        check(twice, &["spec"]);
        let mut devices = good;
        devices["devices"] = json!([{"name": "x"}, {"name": "x"}, {"name": "A"}]);
        check(devices, &["spec.devices[1]", "spec.devices[2].name"]);
    }
}
