//! ResourceClaims and their templates: which devices are asked for, what must hold among them, and what their drivers
//! are told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::parts::{Most, full_part_name, itself, list, name_of, set, settings, toleration};
use super::selectors;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{int, items, text};
use crate::resources::metadata::{bare, immutable};
use crate::status::Cause;
use crate::validation::Errors;

pub(super) const MOST_REQUESTS: usize = 32;
pub(super) const MOST_SETTINGS: usize = 32;
const MOST_CONSTRAINTS: usize = 32;
const MOST_ALTERNATIVES: usize = 8;

/// The names of a claim's requests, each with those of its alternatives.
pub(super) struct Requests<'c>(BTreeMap<&'c str, BTreeSet<&'c str>>);

pub(super) fn claim(claim: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    spec(&mut errors, &claim["spec"], &Path::root("spec"));
    errors.into_causes()
}

/// What is asked for stays so: that alone is checked.
pub(super) fn claim_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    immutable(&mut errors, &new["spec"], &old["spec"], &Path::root("spec"));
    errors.into_causes()
}

pub(super) fn template(template: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (of, path) = (&template["spec"], Path::root("spec"));
    bare(&mut errors, &of["metadata"], &path.child("metadata"));
    spec(&mut errors, &of["spec"], &path.child("spec"));
    errors.into_causes()
}

pub(super) fn template_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = template(new);
    causes.extend(claim_update(new, old));
    causes
}

fn spec(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    let known = Requests::of(devices);
    set(errors, items(devices, "requests"), Most(MOST_REQUESTS), &path.child("requests"), request, name_of);
    let at = path.child("constraints");
    list(errors, items(devices, "constraints"), Most(MOST_CONSTRAINTS), &at, |errors, constraint, path| {
        known.check(errors, constraint, path);
        let attribute = |field| constraint[field].as_str();
        match (attribute("matchAttribute"), attribute("distinctAttribute")) {
            (Some(name), _) => full_part_name(errors, name, &path.child("matchAttribute")),
            (None, Some(name)) => full_part_name(errors, name, &path.child("distinctAttribute")),
            (None, None) => {
                let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple \
                           fields are set";
                errors.required(path, why);
            }
        }
    });
    let at = path.child("config");
    list(errors, items(devices, "config"), Most(MOST_SETTINGS), &at, |errors, config, path| {
        known.check(errors, config, path);
        settings(errors, config, false, path);
    });
}

fn request(errors: &mut Errors, request: &Value, path: &Path<'_>) {
    let name = text(request, "name");
    errors.invalid_each(&path.child("name"), name, names::dns_label(name));
    let (exactly, alternatives) = (&request["exactly"], items(request, "firstAvailable"));
    match (exactly.is_null(), alternatives.is_empty()) {
        (true, true) => errors.required(path, "exactly one of `exactly` or `firstAvailable` is required"),
        (false, false) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.invalid(path, Value::Null, why);
        }
        (true, false) => {
            let at = path.child("firstAvailable");
            set(errors, alternatives, Most(MOST_ALTERNATIVES), &at, alternative, name_of);
        }
        (false, true) => exact(errors, exactly, &path.child("exactly")),
    }
}

fn alternative(errors: &mut Errors, request: &Value, path: &Path<'_>) {
    let name = text(request, "name");
    errors.invalid_each(&path.child("name"), name, names::dns_label(name));
    exact(errors, request, path);
}

fn exact(errors: &mut Errors, request: &Value, path: &Path<'_>) {
    match text(request, "deviceClassName") {
        "" => errors.required(&path.child("deviceClassName"), ""),
        class => errors.invalid_each(&path.child("deviceClassName"), class, names::dns_subdomain(class)),
    }
    selectors::check(errors, request, path);
    let count = int(request, "count");
    match text(request, "allocationMode") {
        "All" if count != 0 => {
            errors.invalid(&path.child("count"), count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => errors.invalid(&path.child("count"), count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        other => errors.not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
    }
    let list = path.child("tolerations");
    for (at, stated) in items(request, "tolerations").iter().enumerate() {
        toleration(errors, stated, &list.index(at));
    }
}

impl<'c> Requests<'c> {
    /// Those of a claim's `devices`.
    pub(super) fn of(devices: &'c Value) -> Self {
        let names = |request| items(request, "firstAvailable").iter().map(|other| text(other, "name")).collect();
        Self(items(devices, "requests").iter().map(|request| (text(request, "name"), names(request))).collect())
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, alternative)) => self.0.get(request).is_some_and(|all| all.contains(alternative)),
        }
    }

    /// Checks the list of requests that something is about.
    pub(super) fn check(&self, errors: &mut Errors, of: &Value, path: &Path<'_>) {
        let each = |errors: &mut Errors, name: &Value, path: &Path<'_>| {
            self.check_name(errors, name.as_str().unwrap_or_default(), path);
        };
        set(errors, items(of, "requests"), Most(MOST_REQUESTS), &path.child("requests"), each, itself);
    }

    pub(super) fn check_name(&self, errors: &mut Errors, name: &str, path: &Path<'_>) {
        let unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated \
                       by '/'";
        let segments: Vec<&str> = name.split('/').collect();
        if segments.len() > 2 {
            return errors.invalid(path, name, unknown);
        }
        for segment in segments {
            errors.invalid_each(path, segment, names::dns_label(segment));
        }
        if !self.has(name) {
            errors.invalid(path, name, unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    use crate::validation::testing;

    #[track_caller]
    fn check(devices: Value, expected: Expect) {
        testing::check(claim(&json!({"spec": {"devices": devices}})), expected);
    }

    #[test]
    fn claims_are_refused_in_upstreams_words() {
        let exactly = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
        let alternative = json!({"name": "b", "deviceClassName": "c", "allocationMode": "All"});
        check(
            json!({
                "requests": [{"name": "a", "exactly": exactly}, {"name": "s", "firstAvailable": [alternative]}],
                "constraints": [{"requests": ["a", "s/b"], "matchAttribute": "d.example.com/x"}],
                "config": [{"requests": ["s"], "opaque": {"driver": "d", "parameters": {}}}],
            }),
            expect![[""]],
        );
        check(
            json!({
                "requests": [
                    {"name": "a"},
                    {"name": "a", "exactly": exactly, "firstAvailable": [alternative]},
                    {"name": "c", "firstAvailable": [alternative, alternative]},
                    {"name": "d", "exactly": {"allocationMode": "All", "count": 1}},
                    {"name": "e", "exactly": {"deviceClassName": "c", "allocationMode": "Odd"}},
                    {"name": "f", "exactly": {"deviceClassName": "c", "allocationMode": "ExactCount"}},
                ],
                "constraints": [{"requests": ["a/b", "a/b/c", "c/b", "c/b"]}],
            }),
            expect![[r#"
                spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required
                spec.devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set
                spec.devices.requests[2].firstAvailable[1]: Duplicate value: "b"
                spec.devices.requests[3].exactly.deviceClassName: Required value
                spec.devices.requests[3].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'
                spec.devices.requests[4].exactly.allocationMode: Unsupported value: "Odd": supported values: "All", "ExactCount"
                spec.devices.requests[5].exactly.count: Invalid value: 0: must be greater than zero
                spec.devices.requests[1]: Duplicate value: "a"
                spec.devices.constraints[0].requests[1]: Invalid value: "a/b/c": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                spec.devices.constraints[0].requests[3]: Duplicate value: "c/b"
                spec.devices.constraints[0]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set
            "#]],
        );
    }

    #[test]
    fn what_is_asked_for_stays_so() {
        let of = |count: i64| json!({"spec": {"devices": {"requests": [{"name": "a", "exactly": {"count": count}}]}}});
        assert_eq!(claim_update(&of(1), &of(1)), []);
        let fields: Vec<String> = claim_update(&of(1), &of(2)).into_iter().map(|cause| cause.field).collect();
        assert_eq!(fields, ["spec"]);
    }
}
