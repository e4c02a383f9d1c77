//! What kinds with few rules cannot do without: the fields that say what an object of theirs is about.

use serde_json::Value;

use super::fields::int;
use super::metadata::immutable;
use crate::field_path::Path;
use crate::status::Cause;
use crate::validation::Errors;

/// `apps/v1` ControllerRevision: a snapshot, which never changes.
pub(super) fn controller_revision(revision: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    revision_number(&mut errors, revision);
    match &revision["data"] {
        Value::Null => errors.required(&Path::root("data"), "data is mandatory"),
        Value::Object(_) => {}
        _ => errors.required(&Path::root("data"), "data must be a valid JSON object"),
    }
    errors.into_causes()
}

pub(super) fn controller_revision_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    revision_number(&mut errors, new);
    immutable(&mut errors, &new["data"], &old["data"], &Path::root("data"));
    errors.into_causes()
}

fn revision_number(errors: &mut Errors, revision: &Value) {
    if int(revision, "revision") < 0 {
        errors.invalid(&Path::root("revision"), int(revision, "revision"), "must be greater than or equal to 0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(rule: fn(&Value) -> Vec<Cause>, good: Value, bad: Value, fields: &[&str]) {
        assert_eq!(rule(&good), []);
        let causes = rule(&bad);
        assert_eq!(causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(), fields);
    }

    #[test]
    fn what_an_object_is_about_must_be_said() {
        check(controller_revision, json!({"data": {}}), json!({}), &["data"]);
    }
}
