//! What is said in several places of the group: lists with bounds, names of devices and of their parts, settings,
//! taints and tolerations.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::resources::core::pods::validation::volumes::csi_driver;
use crate::resources::fields::text;
use crate::validation::Errors;

const LONGEST_POOL: usize = 253;
const LONGEST_ID: usize = 32;
const LONGEST_SETTINGS: usize = 10 * 1024;
const MOST_CONDITIONS: usize = 4;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// How many items a list may have.
#[derive(Clone, Copy)]
pub(super) struct Most(pub(super) usize);

/// Checks each item of a list, unless there are too many of them.
pub(super) fn list(
    errors: &mut Errors,
    items: &[Value],
    most: Most,
    path: &Path<'_>,
    mut check: impl FnMut(&mut Errors, &Value, &Path<'_>),
) -> bool {
    if items.len() > most.0 {
        errors.too_many(path, items.len(), most.0);
        return false;
    }
    for (at, item) in items.iter().enumerate() {
        check(errors, item, &path.index(at));
    }
    true
}

/// [`list`], of items that are told apart by a key.
pub(super) fn set(
    errors: &mut Errors,
    items: &[Value],
    most: Most,
    path: &Path<'_>,
    check: impl FnMut(&mut Errors, &Value, &Path<'_>),
    key: impl Fn(&Value) -> String,
) {
    if list(errors, items, most, path, check) {
        let mut seen = BTreeSet::new();
        for (at, key) in items.iter().map(key).enumerate() {
            if seen.contains(&key) {
                errors.duplicate(&path.index(at), key);
            } else {
                seen.insert(key);
            }
        }
    }
}

/// The key of an item that has a name.
pub(super) fn name_of(item: &Value) -> String {
    text(item, "name").to_owned()
}

/// The key of an item that is a text.
pub(super) fn itself(item: &Value) -> String {
    item.as_str().unwrap_or_default().to_owned()
}

pub(super) fn pool_name(errors: &mut Errors, name: &str, path: &Path<'_>) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    if name.len() > LONGEST_POOL {
        errors.too_long(path, LONGEST_POOL);
    }
    for part in name.split('/') {
        errors.invalid_each(path, part, names::dns_subdomain(part));
    }
}

/// The name of an attribute or a capacity: an identifier, perhaps within a domain.
pub(super) fn part_name(errors: &mut Errors, name: &str, path: &Path<'_>) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(errors, id, path),
        [domain, id] => {
            match *domain {
                "" => errors.invalid(path, "", "the domain must not be empty"),
                domain => csi_driver(errors, domain, path),
            }
            match *id {
                "" => errors.invalid(path, "", "the name must not be empty"),
                id => identifier(errors, id, path),
            }
        }
        _ => {}
    }
}

/// [`part_name`] with its domain.
pub(super) fn full_part_name(errors: &mut Errors, name: &str, path: &Path<'_>) {
    part_name(errors, name, path);
    if !name.contains('/') {
        errors.invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash");
    }
}

fn identifier(errors: &mut Errors, id: &str, path: &Path<'_>) {
    if id.len() > LONGEST_ID {
        errors.too_long(path, LONGEST_ID);
    }
    errors.invalid_each(path, id, names::c_identifier(id));
}

/// What a driver is told of devices that it alone understands.
pub(super) fn settings(errors: &mut Errors, of: &Value, stored: bool, path: &Path<'_>) {
    let (opaque, path) = (&of["opaque"], path.child("opaque"));
    if opaque.is_null() {
        return errors.required(&path, "");
    }
    csi_driver(errors, text(opaque, "driver"), &path.child("driver"));
    raw(errors, &opaque["parameters"], stored, &path.child("parameters"));
}

/// A document of somebody else's form. One that is stored may be longer than is allowed now.
pub(super) fn raw(errors: &mut Errors, document: &Value, stored: bool, path: &Path<'_>) {
    if document.is_null() {
        errors.required(path, "");
    } else if !stored && document.to_string().len() > LONGEST_SETTINGS {
        errors.too_long(path, LONGEST_SETTINGS);
    } else if !document.is_object() {
        errors.invalid(path, "<value omitted>", "must be a valid JSON object");
    }
}

pub(super) fn taint(errors: &mut Errors, taint: &Value, path: &Path<'_>) {
    let (key, value) = (text(taint, "key"), text(taint, "value"));
    errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    errors.invalid_each(&path.child("value"), value, names::label_value(value));
    match text(taint, "effect") {
        "" => errors.required(&path.child("effect"), ""),
        effect => known_effect(errors, effect, path),
    }
}

pub(super) fn toleration(errors: &mut Errors, toleration: &Value, path: &Path<'_>) {
    let (key, value) = (text(toleration, "key"), text(toleration, "value"));
    if !key.is_empty() {
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    }
    match text(toleration, "operator") {
        "Exists" if !value.is_empty() => {
            errors.invalid(&path.child("value"), value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => errors.invalid_each(&path.child("value"), value, names::label_value(value)),
        "" => errors.required(&path.child("operator"), ""),
        other => errors.not_supported(&path.child("operator"), other, &["Equal", "Exists"]),
    }
    match text(toleration, "effect") {
        "" => {}
        effect => known_effect(errors, effect, path),
    }
}

fn known_effect(errors: &mut Errors, effect: &str, path: &Path<'_>) {
    if !EFFECTS.contains(&effect) {
        errors.not_supported(&path.child("effect"), effect, &EFFECTS);
    }
}

/// The conditions that a device is bound by, and those by which that has failed: both or none.
pub(super) fn binding(errors: &mut Errors, of: &Value, path: &Path<'_>) {
    use crate::resources::fields::items;
    let (wanted, failed) = (items(of, "bindingConditions"), items(of, "bindingFailureConditions"));
    let (at_wanted, at_failed) = (path.child("bindingConditions"), path.child("bindingFailureConditions"));
    for (conditions, path) in [(wanted, &at_wanted), (failed, &at_failed)] {
        list(errors, conditions, Most(MOST_CONDITIONS), path, |errors, condition, path| {
            let condition = condition.as_str().unwrap_or_default();
            errors.invalid_each(path, condition, names::qualified_name(condition));
        });
    }
    for (at, condition) in wanted.iter().enumerate().filter(|(at, condition)| wanted[..*at].contains(condition)) {
        errors.duplicate(&at_wanted.index(at), condition.clone());
    }
    for (at, condition) in failed.iter().enumerate() {
        if failed[..at].contains(condition) {
            errors.duplicate(&at_failed.index(at), condition.clone());
        }
        if wanted.contains(condition) {
            let why = "bindingFailureConditions must not overlap with bindingConditions";
            errors.invalid(&at_failed.index(at), condition.clone(), why);
        }
    }
    if wanted.is_empty() && !failed.is_empty() {
        let why = "bindingConditions are required to use bindingFailureConditions";
        errors.invalid(&at_wanted, of["bindingConditions"].clone(), why);
    }
    if failed.is_empty() && !wanted.is_empty() {
        let why = "bindingFailureConditions are required to use bindingConditions";
        errors.invalid(&at_failed, of["bindingFailureConditions"].clone(), why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    use crate::validation::testing;

    #[track_caller]
    fn check(rule: impl Fn(&mut Errors, &Path<'_>), expected: Expect) {
        let mut errors = Errors::new();
        rule(&mut errors, &Path::root("x"));
        testing::check(errors.into_causes(), expected);
    }

    #[test]
    fn parts_have_names_within_domains() {
        let names = ["model", "d.example.com/model", "/model", "d.example.com/", "1a", "model name"];
        check(
            |errors, path| names.iter().for_each(|name| part_name(errors, name, path)),
            expect![[r#"
                x: Invalid value: "": the domain must not be empty
                x: Invalid value: "": the name must not be empty
                x: Invalid value: "1a": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
                x: Invalid value: "model name": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
            "#]],
        );
        check(
            |errors, path| full_part_name(errors, "model", path),
            expect![[r#"
                x: Invalid value: "model": a fully qualified name must be a domain and a name separated by a slash
            "#]],
        );
    }

    #[test]
    fn tolerations_have_operators() {
        let all = json!([{"operator": "Exists", "value": "a"}, {}, {"operator": "Odd", "effect": "Odd"}]);
        check(
            |errors, path| all.as_array().unwrap().iter().for_each(|it| toleration(errors, it, path)),
            expect![[r#"
                x.value: Invalid value: "a": must be empty for operator `Exists`
                x.operator: Required value
                x.operator: Unsupported value: "Odd": supported values: "Equal", "Exists"
                x.effect: Unsupported value: "Odd": supported values: "NoExecute", "NoSchedule", "None"
            "#]],
        );
    }

    #[test]
    fn conditions_come_with_those_of_failure() {
        check(
            |errors, path| binding(errors, &json!({"bindingConditions": ["a", "a"]}), path),
            expect![[r#"
                x.bindingConditions[1]: Duplicate value: "a"
                x.bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions
            "#]],
        );
        check(
            |errors, path| {
                binding(errors, &json!({"bindingConditions": ["a"], "bindingFailureConditions": ["a"]}), path);
            },
            expect![[r#"
                x.bindingFailureConditions[0]: Invalid value: "a": bindingFailureConditions must not overlap with bindingConditions
            "#]],
        );
    }
}
