//! ResourceSlices: who offers devices, of which pool, on which nodes, and what there is to know of each.

use serde_json::{Value, json};

use super::parts::{self, Most, list, name_of, pool_name, set, taint};
use super::policies;
use crate::field_path::Path;
use crate::names;
use crate::resources::core::pods::validation::node_selector;
use crate::resources::core::pods::validation::volumes::csi_driver;
use crate::resources::fields::{flag, int, is_empty, items, same, text};
use crate::resources::metadata::immutable;
use crate::status::Cause;
use crate::validation::Errors;

const MOST_DEVICES: usize = 128;
/// Where devices have taints or consume counters.
const MOST_ADVANCED_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;
const MOST_CONSUMPTIONS: usize = 2;
/// Attributes and capacities of a device together.
const MOST_PARTS: usize = 32;
const MOST_ATTRIBUTE_VALUES: usize = 48;
const LONGEST_ATTRIBUTE: usize = 64;
/// Longer keys are shortened where errors speak of what is below them.
const LONGEST_PART_KEY: usize = 63 + 1 + 32;
const LONGEST_COUNTER_KEY: usize = 63;
const MOST_TAINTS: usize = 16;

pub(super) fn slice(slice: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    spec(&mut errors, &slice["spec"], &Value::Null);
    errors.into_causes()
}

pub(super) fn slice_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    spec(&mut errors, &new["spec"], &old["spec"]);
    errors.into_causes()
}

fn spec(errors: &mut Errors, spec: &Value, old: &Value) {
    let path = Path::root("spec");
    let at_pool = path.child("pool");
    csi_driver(errors, text(spec, "driver"), &path.child("driver"));
    pool(errors, &spec["pool"], &at_pool);
    if !old.is_null() {
        immutable(errors, &spec["pool"]["name"], &old["pool"]["name"], &at_pool.child("name"));
        for field in ["driver", "nodeName"] {
            immutable(errors, &spec[field], &old[field], &path.child(field));
        }
    }
    nodes(errors, spec, &path);
    if !spec["sharedCounters"].is_null() && !spec["devices"].is_null() {
        errors.invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let devices = items(spec, "devices");
    let is_advanced = |device: &Value| !is_empty(&device["taints"]) || !is_empty(&device["consumesCounters"]);
    let most = Most(if devices.iter().any(is_advanced) { MOST_ADVANCED_DEVICES } else { MOST_DEVICES });
    let each = |errors: &mut Errors, device: &Value, path: &Path<'_>| {
        let before = items(old, "devices").iter().find(|before| before["name"] == device["name"]);
        self::device(errors, device, before, flag(spec, "perDeviceNodeSelection"), path);
    };
    set(errors, devices, most, &path.child("devices"), each, name_of);
    let at = path.child("sharedCounters");
    set(errors, items(spec, "sharedCounters"), Most(MOST_COUNTER_SETS), &at, counter_set, name_of);
}

fn pool(errors: &mut Errors, pool: &Value, path: &Path<'_>) {
    pool_name(errors, text(pool, "name"), &path.child("name"));
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
        let at = path.child("nodeSelector");
        node_selector(errors, &spec["nodeSelector"], &at);
        let terms = items(&spec["nodeSelector"], "nodeSelectorTerms");
        if terms.len() != 1 {
            let detail = "must have exactly one node selector term";
            errors.invalid(&at.child("nodeSelectorTerms"), json!(terms), detail);
        }
    }
    for (field, way) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        set_or_true(errors, &spec[field], way, &mut ways, &path.child(field));
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

/// A field that is true where it is set.
fn set_or_true(errors: &mut Errors, value: &Value, way: &'static str, ways: &mut Vec<&'static str>, path: &Path<'_>) {
    match value.as_bool() {
        None => {}
        Some(true) => ways.push(way),
        Some(false) => errors.invalid(path, false, "must be either unset or set to true"),
    }
}

fn counter_set(errors: &mut Errors, set: &Value, path: &Path<'_>) {
    let name = text(set, "name");
    match name {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_each(&path.child("name"), name, names::dns_label(name)),
    }
    counters(errors, set, &path.child("counters"));
}

fn consumption(errors: &mut Errors, consumption: &Value, path: &Path<'_>) {
    match text(consumption, "counterSet") {
        "" => errors.required(&path.child("counterSet"), ""),
        name => errors.invalid_each(&path.child("counterSet"), name, names::dns_label(name)),
    }
    counters(errors, consumption, &path.child("counters"));
}

fn counters(errors: &mut Errors, of: &Value, path: &Path<'_>) {
    if is_empty(&of["counters"]) {
        return errors.required(path, "");
    }
    let counters = of["counters"].as_object().into_iter().flatten();
    let count = counters.clone().count();
    if count > MOST_COUNTERS {
        return errors.too_many(path, count, MOST_COUNTERS);
    }
    for (name, _) in counters {
        errors.invalid_each(path, &shortened(name, LONGEST_COUNTER_KEY), names::dns_label(name));
    }
}

/// A key as errors show it: without its middle where it is longer than may be.
fn shortened(key: &str, longest: usize) -> String {
    const GAP: &str = "...";
    let rest = longest.max(16) - GAP.len();
    let ends = key.get(..rest.div_ceil(2)).zip(key.get(key.len().saturating_sub(rest / 2)..));
    match ends {
        Some((start, end)) if key.len() > longest.max(16) => format!("{start}{GAP}{end}"),
        _ => key.to_owned(),
    }
}

fn device(errors: &mut Errors, device: &Value, before: Option<&Value>, places: bool, path: &Path<'_>) {
    let name = text(device, "name");
    errors.invalid_each(&path.child("name"), name, names::dns_label(name));
    let entries = |field: &str| device[field].as_object().into_iter().flatten();
    let count = entries("attributes").count() + entries("capacity").count();
    if count > MOST_PARTS {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_PARTS}");
        errors.invalid(path, count, &why);
    }
    let values = entries("attributes").count();
    if values > MOST_ATTRIBUTE_VALUES {
        let why = format!("the total number of attribute values must not exceed {MOST_ATTRIBUTE_VALUES}");
        errors.invalid(path, values, &why);
    }
    let at = path.child("attributes");
    for (key, value) in entries("attributes") {
        parts::part_name(errors, key, &at);
        attribute(errors, value, &at.key(&shortened(key, LONGEST_PART_KEY)));
    }
    let at = path.child("capacity");
    for (key, value) in entries("capacity") {
        parts::part_name(errors, key, &at);
        let key = shortened(key, LONGEST_PART_KEY);
        let at = at.key(&key);
        match (flag(device, "allowMultipleAllocations"), value["requestPolicy"].is_null()) {
            (_, true) => {}
            (true, false) => policies::check(errors, value, &at.child("requestPolicy")),
            (false, false) => errors.forbidden(&at.child("requestPolicy"), "allowMultipleAllocations must be true"),
        }
    }
    if before.is_none_or(|before| !same(&before["taints"], &device["taints"])) {
        list(errors, items(device, "taints"), Most(MOST_TAINTS), &path.child("taints"), taint);
    }
    let at = path.child("consumesCounters");
    let key = |consumption: &Value| text(consumption, "counterSet").to_owned();
    set(errors, items(device, "consumesCounters"), Most(MOST_CONSUMPTIONS), &at, consumption, key);
    match places {
        true => place(errors, device, path),
        false if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| !device[*field].is_null()) => {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                       true in the ResourceSlice spec";
            errors.invalid(path, Value::Null, why);
        }
        false => {}
    }
    parts::binding(errors, device, path);
}

/// Where a device is that has a place of its own.
fn place(errors: &mut Errors, device: &Value, path: &Path<'_>) {
    let mut ways = Vec::new();
    match device["nodeName"].as_str() {
        None => {}
        Some("") => errors.invalid(&path.child("nodeName"), "", "must not be empty"),
        Some(name) => {
            ways.push("`nodeName`");
            errors.invalid_each(&path.child("nodeName"), name, names::dns_subdomain(name));
        }
    }
    if !device["nodeSelector"].is_null() {
        ways.push("`nodeSelector`");
        node_selector(errors, &device["nodeSelector"], &path.child("nodeSelector"));
    }
    set_or_true(errors, &device["allNodes"], "`allNodes`", &mut ways, &path.child("allNodes"));
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is \
               set to true in the ResourceSlice spec";
    match ways.as_slice() {
        [] => errors.required(path, one),
        [_] => {}
        ways => errors.invalid(path, format!("{{{}}}", ways.join(", ")), one),
    }
}

fn attribute(errors: &mut Errors, attribute: &Value, path: &Path<'_>) {
    if let Some(value) = attribute["string"].as_str()
        && value.len() > LONGEST_ATTRIBUTE
    {
        errors.too_long(&path.child("string"), LONGEST_ATTRIBUTE);
    }
    if let Some(version) = attribute["version"].as_str() {
        let at = path.child("version");
        if !names::is_semantic_version(version) {
            errors.invalid(&at, version, "must be a string compatible with semver.org spec 2.0.0");
        }
        if version.len() > LONGEST_ATTRIBUTE {
            errors.too_long(&at, LONGEST_ATTRIBUTE);
        }
    }
    match ["bool", "int", "string", "version"].iter().filter(|field| !attribute[**field].is_null()).count() {
        0 => errors.invalid(path, "", "exactly one value must be specified"),
        1 => {}
        _ => errors.invalid(path, attribute.clone(), "exactly one value must be specified"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    use crate::validation::testing;

    #[track_caller]
    fn check(spec: Value, expected: Expect) {
        testing::check(slice(&json!({"spec": spec})), expected);
    }

    fn with(device: Value) -> Value {
        json!({
            "driver": "d.example.com", "pool": {"name": "a/b", "resourceSliceCount": 1}, "allNodes": true,
            "devices": [device],
        })
    }

    #[test]
    fn a_slice_says_whose_it_is_and_where() {
        check(
            json!({"devices": [{"name": "x"}, {"name": "x"}], "nodeName": "n", "allNodes": true}),
            expect![[r#"
                spec.driver: Required value
                spec.pool.name: Required value
                spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
                spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
                spec.devices[1]: Duplicate value: "x"
            "#]],
        );
    }

    #[test]
    fn devices_have_parts() {
        let part = json!({"value": "10", "requestPolicy": {"default": "1", "validValues": ["1", "5"]}});
        let range = json!({"min": "1", "max": "8", "step": "2"});
        check(
            with(json!({
                "name": "x", "allowMultipleAllocations": true,
                "attributes": {"a": {"string": "s"}, "d.example.com/b": {"version": "1.0.0-alpha+x.1"}},
                "capacity": {"m": part},
            })),
            expect![[""]],
        );
        check(
            with(json!({
                "name": "x", "allNodes": true, "allowMultipleAllocations": true,
                "attributes": {"a": {}, "b": {"version": "1.0", "int": 1}},
                "capacity": {
                    "m": {"value": "4", "requestPolicy": {"default": "3", "validValues": ["5", "1"]}},
                    "n": {"value": "4", "requestPolicy": {"default": "2", "validRange": range}},
                },
                "taints": [{"key": "a"}],
                "consumesCounters": [{}],
            })),
            expect![[r#"
                spec.devices[0].attributes[a]: Invalid value: "": exactly one value must be specified
                spec.devices[0].attributes[b].version: Invalid value: "1.0": must be a string compatible with semver.org spec 2.0.0
                spec.devices[0].attributes[b]: Invalid value: {"int":1,"version":"1.0"}: exactly one value must be specified
                spec.devices[0].capacity[m].requestPolicy.validValues[1]: Invalid value: "1": values must be sorted in ascending order
                spec.devices[0].capacity[m].requestPolicy.validValues[0]: Invalid value: "5": option is larger than capacity value: 4
                spec.devices[0].capacity[m].requestPolicy.validValues: Invalid value: "3": default value is not valid according to the requestPolicy
                spec.devices[0].capacity[n].requestPolicy.validRange.max: Invalid value: "8": max is larger than capacity value: 4
                spec.devices[0].capacity[n].requestPolicy.validRange.step: Invalid value: "2": value is not a multiple of a given step (2) from (1)
                spec.devices[0].capacity[n].requestPolicy.validRange.step: Invalid value: "8": value is not a multiple of a given step (2) from (1)
                spec.devices[0].taints[0].effect: Required value
                spec.devices[0].consumesCounters[0].counterSet: Required value
                spec.devices[0].consumesCounters[0].counters: Required value
                spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec
            "#]],
        );
    }

    #[test]
    fn long_keys_are_shown_without_their_middle() {
        assert_eq!(shortened("abc", 5), "abc");
        assert_eq!(shortened("0123456789abcdefXYZ", 5), "0123456...defXYZ");
    }
}
