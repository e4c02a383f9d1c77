//! Conditions as new kinds state them in their status (`k8s.io/apimachinery/pkg/apis/meta/v1/validation`).

use serde_json::Value;

use super::fields::{int, text};
use crate::field_path::Path;
use crate::names;
use crate::validation::Errors;

const LONGEST_REASON: usize = 1024;
const LONGEST_MESSAGE: usize = 32 * 1024;

/// A list of conditions, one of each type.
pub(super) fn check(errors: &mut Errors, conditions: &[Value], path: &Path<'_>) {
    for (at, condition) in conditions.iter().enumerate() {
        let (path, kind) = (path.index(at), text(condition, "type"));
        if conditions[..at].iter().any(|earlier| text(earlier, "type") == kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        one(errors, condition, &path);
    }
}

fn one(errors: &mut Errors, condition: &Value, path: &Path<'_>) {
    let kind = text(condition, "type");
    errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
    let (status, words) = (text(condition, "status"), ["False", "True", "Unknown"]);
    if !words.contains(&status) {
        errors.not_supported(&path.child("status"), status, &words);
    }
    let generation = int(condition, "observedGeneration");
    if generation < 0 {
        errors.invalid(&path.child("observedGeneration"), generation, "must be greater than or equal to zero");
    }
    if condition["lastTransitionTime"].is_null() {
        errors.required(&path.child("lastTransitionTime"), "");
    }
    let (reason, at) = (text(condition, "reason"), path.child("reason"));
    if reason.is_empty() {
        errors.required(&at, "");
    } else {
        errors.invalid_each(&at, reason, names::condition_reason(reason));
        if reason.len() > LONGEST_REASON {
            errors.too_long(&at, LONGEST_REASON);
        }
    }
    if text(condition, "message").len() > LONGEST_MESSAGE {
        errors.too_long(&path.child("message"), LONGEST_MESSAGE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    use crate::validation::testing;

    #[test]
    fn conditions_say_why_and_when() {
        let mut errors = Errors::new();
        let good = json!({"type": "Ready", "status": "True", "reason": "Done", "lastTransitionTime": "x"});
        let conditions =
            [good, json!({"type": "Ready", "status": "Perhaps", "reason": "not so", "observedGeneration": -1})];
        check(&mut errors, &conditions, &Path::root("conditions"));
        let expected = expect![[r#"
            conditions[1].type: Duplicate value: "Ready"
            conditions[1].status: Unsupported value: "Perhaps": supported values: "False", "True", "Unknown"
            conditions[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero
            conditions[1].lastTransitionTime: Required value
            conditions[1].reason: Invalid value: "not so": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')
        "#]];
        testing::check(errors.into_causes(), expected);
    }
}
