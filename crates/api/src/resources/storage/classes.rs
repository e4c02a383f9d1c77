//! StorageClasses: who provisions volumes of a class, how, and where.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{items, text};
use crate::resources::metadata::immutable;
use crate::status::Cause;
use crate::validation::Errors;

const MOST_PARAMETERS: usize = 512;
const LARGEST_PARAMETERS: usize = 256 * 1024;

pub(super) fn class(class: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let lower = text(class, "provisioner").to_lowercase();
    match lower.as_str() {
        "" => errors.required(&Path::root("provisioner"), ""),
        name => errors.invalid_each(&Path::root("provisioner"), name, names::qualified_name(name)),
    }
    parameters(&mut errors, &class["parameters"], &Path::root("parameters"));
    let (policy, words) = (text(class, "reclaimPolicy"), ["Delete", "Retain"]);
    if !policy.is_empty() && !words.contains(&policy) {
        errors.not_supported(&Path::root("reclaimPolicy"), policy, &words);
    }
    let at = Path::root("volumeBindingMode");
    match class["volumeBindingMode"].as_str() {
        None => errors.required(&at, ""),
        Some("Immediate" | "WaitForFirstConsumer") => {}
        Some(other) => errors.not_supported(&at, other, &["Immediate", "WaitForFirstConsumer"]),
    }
    topologies(&mut errors, items(class, "allowedTopologies"), &Path::root("allowedTopologies"));
    errors.into_causes()
}

pub(super) fn class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = class(new);
    let mut errors = Errors::new();
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        immutable(&mut errors, &new[field], &old[field], &Path::root(field));
    }
    causes.extend(errors.into_causes());
    causes
}

fn parameters(errors: &mut Errors, parameters: &Value, path: &Path<'_>) {
    let entries = || parameters.as_object().into_iter().flatten();
    if entries().count() > MOST_PARAMETERS {
        return errors.too_long(path, MOST_PARAMETERS);
    }
    let mut size = 0;
    for (key, value) in entries() {
        if key.is_empty() {
            errors.invalid(path, "", "field can not be empty.");
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > LARGEST_PARAMETERS {
        errors.too_long(path, LARGEST_PARAMETERS);
    }
}

/// What a term wants of labels: for each key its values.
type Wanted<'t> = BTreeMap<&'t str, BTreeSet<&'t str>>;

fn topologies<'t>(errors: &mut Errors, terms: &'t [Value], path: &Path<'_>) {
    // Upstream compares a term with as many empty ones as there are terms, then with those before it.
    let mut before: Vec<Wanted<'t>> = vec![Wanted::new(); terms.len()];
    for (at, stated) in terms.iter().enumerate() {
        let path = path.index(at);
        let at = path.child("matchLabelExpressions");
        let wanted = term(errors, items(stated, "matchLabelExpressions"), &at);
        for _ in before.iter().filter(|earlier| **earlier == wanted) {
            errors.duplicate(&at, "");
        }
        before.push(wanted);
    }
}

fn term<'t>(errors: &mut Errors, expressions: &'t [Value], path: &Path<'_>) -> Wanted<'t> {
    let mut wanted = Wanted::new();
    for (at, expression) in expressions.iter().enumerate() {
        let path = path.index(at);
        let (key, values, at) = (text(expression, "key"), items(expression, "values"), path.child("values"));
        if values.is_empty() {
            errors.required(&at, "");
        }
        let mut seen = BTreeSet::new();
        for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
            if !seen.insert(value) {
                errors.duplicate(&at.index(index), value);
            }
        }
        errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
        if wanted.insert(key, seen).is_some() {
            errors.duplicate(&path.child("key"), key);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    use crate::validation::testing;

    #[track_caller]
    fn check(class: Value, expected: Expect) {
        testing::check(super::class(&class), expected);
    }

    #[test]
    fn classes_are_refused_in_upstreams_words() {
        let expression = json!({"key": "z", "values": ["a"]});
        check(
            json!({"provisioner": "Example.com/P", "volumeBindingMode": "Immediate", "parameters": {"a": "b"},
                   "allowedTopologies": [{"matchLabelExpressions": [expression]}]}),
            expect![[""]],
        );
        check(
            json!({"parameters": {"": "b"}, "reclaimPolicy": "Recycle", "volumeBindingMode": "", "allowedTopologies": [
                {"matchLabelExpressions": [expression, expression, {"values": ["b", "b"]}]},
                {"matchLabelExpressions": [{"key": "z"}]},
                {"matchLabelExpressions": [{"key": "z"}]},
                {},
            ]}),
            expect![[r#"
                provisioner: Required value
                parameters: Invalid value: "": field can not be empty.
                reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"
                volumeBindingMode: Unsupported value: "": supported values: "Immediate", "WaitForFirstConsumer"
                allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "z"
                allowedTopologies[0].matchLabelExpressions[2].values[1]: Duplicate value: "b"
                allowedTopologies[0].matchLabelExpressions[2].key: Invalid value: "": name part must be non-empty
                allowedTopologies[0].matchLabelExpressions[2].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                allowedTopologies[1].matchLabelExpressions[0].values: Required value
                allowedTopologies[2].matchLabelExpressions[0].values: Required value
                allowedTopologies[2].matchLabelExpressions: Duplicate value: ""
                allowedTopologies[3].matchLabelExpressions: Duplicate value: ""
                allowedTopologies[3].matchLabelExpressions: Duplicate value: ""
                allowedTopologies[3].matchLabelExpressions: Duplicate value: ""
                allowedTopologies[3].matchLabelExpressions: Duplicate value: ""
            "#]],
        );
    }
}
