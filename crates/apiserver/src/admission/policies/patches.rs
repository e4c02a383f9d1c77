//! What a mutation makes of an object: an apply configuration that is merged in by the schema of the kind, or a JSON
//! patch (`pkg/admission/plugin/policy/mutating/patch`).

use api::apply;
use api::cel;
use api::patch::json::{self as json_patch, JsonPatchError};
use api::schema::Model;
use serde_json::Value;

/// `patchType`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Apply,
    JsonPatch,
}

/// The document of a patch that an expression made.
pub(super) fn document(form: Form, value: &cel::Value<'_>) -> Result<Value, String> {
    match form {
        Form::Apply => {
            check_names(value)?;
            value.to_json().map_err(|why| format!("invalid return type: {why}"))
        }
        Form::JsonPatch => {
            let cel::Value::List(operations) = value else {
                return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
            };
            operations.iter().map(|operation| operation.map_err(|why| why.to_string()).and_then(step)).collect()
        }
    }
}

/// One operation of a JSON patch, without what is empty of it.
fn step(operation: cel::Value<'_>) -> Result<Value, String> {
    let cel::Value::Object(operation) = operation else {
        let found = operation.type_name();
        return Err(format!(
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {found}"
        ));
    };
    let mut step = serde_json::Map::new();
    for (name, value) in &operation.fields {
        if &**name == "value" {
            check_names(value)?;
        }
        let value = value.to_json().map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?;
        if &**name != "from" || value != "" {
            step.insert(name.to_string(), value);
        }
    }
    Ok(Value::Object(step))
}

/// Objects are to be named by their places: `Object.spec` is what an `Object` has in its field `spec`.
fn check_names(value: &cel::Value<'_>) -> Result<(), String> {
    let cel::Value::Object(object) = value else { return Ok(()) };
    let mut wrong = Vec::new();
    names(value, &object.name, &mut wrong);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("type mismatch: {}", wrong.join("\n"))),
    }
}

fn names(value: &cel::Value<'_>, expected: &str, wrong: &mut Vec<String>) {
    match value {
        cel::Value::Object(object) => {
            if &*object.name != expected {
                wrong.push(format!(
                    "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
                    object.name
                ));
            }
            for (name, value) in &object.fields {
                names(value, &format!("{expected}.{name}"), wrong);
            }
        }
        cel::Value::List(list) => list.iter().flatten().for_each(|item| names(&item, expected, wrong)),
        cel::Value::Map(map) => map.iter().flatten().for_each(|(_, value)| names(&value, expected, wrong)),
        _ => {}
    }
}

/// Merges an apply configuration into an object.
pub(super) fn apply(model: &Model, object: &Value, mut configuration: Value) -> Result<Value, String> {
    for field in ["apiVersion", "kind"] {
        configuration[field].clone_from(&object[field]);
    }
    apply::merge_unowned(model, object, &configuration).map_err(|why| format!("error applying patch: {why}"))
}

/// Applies a JSON patch, unless one of its tests fails.
pub(super) fn patch(object: &Value, operations: &Value) -> Result<Value, String> {
    match json_patch::apply(object.clone(), operations) {
        Err(JsonPatchError::TestFailed(_)) => Ok(object.clone()),
        outcome => outcome.map_err(|why| format!("JSON Patch: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use api::cel::{Activation, Budget, Declarations, Environment};
    use serde_json::json;

    use super::*;

    fn made(form: Form, text: &str) -> Result<Value, String> {
        let environment = Environment::new(Declarations::admission().mutations());
        let program = environment.compile(text).map_err(|why| why.to_string())?;
        let value = program.evaluate(&Activation::new(), &mut Budget::new(cel::RUNTIME_BUDGET));
        document(form, &value.map_err(|why| why.to_string())?)
    }

    #[test]
    fn objects_are_named_by_their_places() {
        let spec = "Object{spec: Object.spec{replicas: 3, items: [Object.spec.items{a: 'b'}]}}";
        assert_eq!(made(Form::Apply, spec), Ok(json!({"spec": {"replicas": 3, "items": [{"a": "b"}]}})));
        assert_eq!(
            made(Form::Apply, "Object{spec: Object.wrong{replicas: 3}}"),
            Err("type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field \
                 name path from root Object type"
                .to_owned())
        );
    }

    #[test]
    fn a_patch_whose_test_fails_changes_nothing() {
        let object = json!({"a": 1});
        let text = "[JSONPatch{op: 'test', path: '/a', value: 2}, JSONPatch{op: 'remove', path: '/a'}]";
        let operations = made(Form::JsonPatch, text).expect("it is a patch");
        assert_eq!(patch(&object, &operations), Ok(object.clone()));
        let operations = made(Form::JsonPatch, "[JSONPatch{op: 'add', path: '/b', value: {'c': [1]}}]");
        assert_eq!(patch(&object, &operations.expect("it is a patch")), Ok(json!({"a": 1, "b": {"c": [1]}})));
    }
}
