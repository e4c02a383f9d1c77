//! Cases that are made, not written: an object of each kind with one fault at each of its places, and an update of it
//! at each.
//!
//! What can be wrong at a place follows from what stands there and from the table of types: a field is missing, empty,
//! of another type; a word is none of its enum; a number is negative or too large; an item stands twice; a map has a
//! bad key. Which of these a kind minds, and what it then says, is what two servers are compared by. Nothing is stored
//! but the object that updates are tried on.

use anyhow::Result;
use api::schema::{Field, Model, Schema, Shape};
use serde_json::{Value, json};

use super::cases::Step;

/// A change of one place.
pub(super) struct Fault {
    pub(super) pointer: String,
    /// What is wrong, in a word or two.
    pub(super) name: &'static str,
    /// What stands there then; nothing where the place is gone.
    pub(super) value: Option<Value>,
}

/// The steps for objects of a kind at `path`. `object` is a whole one, with type and metadata.
pub(super) fn steps(path: &str, object: &Value, model: Option<&Model>) -> Result<Vec<Step>> {
    let (mut wrong, mut changed) = (Vec::new(), Vec::new());
    let shape = model.map(|model| Shape::Struct(model.root()));
    let schema = model.map(Model::schema);
    for (name, value) in object.as_object().into_iter().flatten() {
        if matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            continue;
        }
        let place = Place { schema, pointer: format!("/{}", escape(name)), removable: true };
        let field = shape.as_ref().zip(schema).and_then(|(shape, schema)| field_of(schema, shape, name));
        place.visit(value, field.map(|field| &field.shape), field, &mut wrong, &mut changed);
    }
    let mut steps = vec![json!({
        "case": "made: create", "send": format!("POST {path}?fieldManager=corpus"), "body": named(object, "faulty"),
    })];
    for fault in &wrong {
        let mut body = named(object, "wrong");
        fault.apply(&mut body);
        steps.push(json!({
            "case": format!("made: {} at {}", fault.name, fault.pointer),
            "send": format!("POST {path}?dryRun=All&fieldValidation=Strict"), "body": body,
        }));
    }
    for change in &changed {
        let patch = match &change.value {
            Some(value) => json!({"op": "replace", "path": change.pointer, "value": value}),
            None => json!({"op": "remove", "path": change.pointer}),
        };
        steps.push(json!({
            "case": format!("made: update, {} at {}", change.name, change.pointer),
            "send": format!("PATCH {path}/faulty?dryRun=All&fieldManager=corpus"), "type": "json", "body": [patch],
        }));
    }
    steps.push(json!({"case": "made: delete", "send": format!("DELETE {path}/faulty?gracePeriodSeconds=0")}));
    Ok(steps.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?)
}

/// What can be wrong in `object`, but in the fields `passed`.
pub(super) fn collect(object: &Value, model: Option<&Model>, passed: &[&str], wrong: &mut Vec<Fault>) {
    let shape = model.map(|model| Shape::Struct(model.root()));
    let schema = model.map(Model::schema);
    for (name, value) in object.as_object().into_iter().flatten() {
        if passed.contains(&name.as_str()) {
            continue;
        }
        let place = Place { schema, pointer: format!("/{}", escape(name)), removable: true };
        let field = shape.as_ref().zip(schema).and_then(|(shape, schema)| field_of(schema, shape, name));
        place.visit(value, field.map(|field| &field.shape), field, wrong, &mut Vec::new());
    }
}

fn named(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["name"] = json!(name);
    object
}

/// A name as JSON pointers write it.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn field_of<'s>(schema: &'s Schema, shape: &Shape, name: &str) -> Option<&'s Field> {
    match shape {
        Shape::Struct(id) => schema.field(*id, name),
        _ => None,
    }
}

/// A place in an object.
struct Place<'s> {
    schema: Option<&'s Schema>,
    pointer: String,
    /// Whether it may be gone without others moving.
    removable: bool,
}

impl Place<'_> {
    /// Collects what can be wrong here and below, and what an update can change.
    fn visit(
        &self,
        value: &Value,
        shape: Option<&Shape>,
        field: Option<&Field>,
        wrong: &mut Vec<Fault>,
        changed: &mut Vec<Fault>,
    ) {
        let fault = |name, value| Fault { pointer: self.pointer.clone(), name, value };
        if self.removable {
            wrong.push(fault("nothing", None));
            changed.push(fault("nothing", None));
        }
        for (name, value) in faults(value) {
            wrong.push(fault(name, Some(value)));
        }
        if field.is_some_and(|field| field.allowed.is_some()) && value.is_string() {
            wrong.push(fault("an unknown word", Some(json!("Unheard"))));
        }
        for (name, value) in changes(value) {
            changed.push(fault(name, Some(value)));
        }
        match value {
            Value::Array(items) => {
                let shape = shape.and_then(|shape| if let Shape::List(item) = shape { Some(&**item) } else { None });
                for (at, item) in items.iter().enumerate() {
                    self.below(&at.to_string(), false).visit(item, shape, field, wrong, changed);
                }
            }
            Value::Object(fields) => {
                if let Some(Shape::Map(_)) = shape {
                    let bad = fields.values().next().cloned().unwrap_or_else(|| json!("x"));
                    wrong.push(Fault {
                        pointer: format!("{}/bad key!", self.pointer),
                        name: "a bad key",
                        value: Some(bad),
                    });
                }
                for (name, value) in fields {
                    let place = self.below(&escape(name), true);
                    match shape {
                        Some(Shape::Map(values)) => place.visit(value, Some(values), field, wrong, changed),
                        _ => {
                            let field =
                                shape.zip(self.schema).and_then(|(shape, schema)| field_of(schema, shape, name));
                            place.visit(value, field.map(|field| &field.shape), field, wrong, changed);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn below(&self, name: &str, removable: bool) -> Self {
        Self { schema: self.schema, pointer: format!("{}/{name}", self.pointer), removable }
    }
}

/// What may be wrong in place of a value.
fn faults(value: &Value) -> Vec<(&'static str, Value)> {
    match value {
        Value::String(_) => {
            vec![("a number", json!(5)), ("an empty text", json!("")), ("a bad text", json!("-Bad Value!-"))]
        }
        Value::Number(_) => {
            vec![
                ("a text", json!("x")),
                ("a negative", json!(-1)),
                ("a large number", json!(4_294_967_296_u64)),
                ("zero", json!(0)),
            ]
        }
        Value::Bool(_) => vec![("a text", json!("x"))],
        Value::Array(items) => {
            let mut faults = vec![("an object", json!({})), ("an empty list", json!([]))];
            if let Some(first) = items.first() {
                let twice: Vec<&Value> = items.iter().chain([first]).collect();
                faults.push(("an item twice", json!(twice)));
            }
            faults
        }
        Value::Object(_) => vec![("a list", json!([])), ("an empty object", json!({}))],
        Value::Null => Vec::new(),
    }
}

/// What an update may put in place of a value.
fn changes(value: &Value) -> Vec<(&'static str, Value)> {
    match value {
        Value::String(text) => vec![("another text", json!(format!("{text}x")))],
        Value::Number(number) => vec![("one more", json!(number.as_i64().unwrap_or_default() + 1))],
        Value::Bool(value) => vec![("the other", json!(!value))],
        Value::Array(items) if !items.is_empty() => vec![("one less", json!(items[..items.len() - 1]))],
        _ => Vec::new(),
    }
}

impl Fault {
    pub(super) fn apply(&self, object: &mut Value) {
        let (parent, name) = self.pointer.rsplit_once('/').unwrap_or_default();
        let name = name.replace("~1", "/").replace("~0", "~");
        match (object.pointer_mut(parent), &self.value) {
            (Some(Value::Object(fields)), None) => {
                fields.remove(&name);
            }
            (Some(Value::Object(fields)), Some(value)) => {
                fields.insert(name, value.clone());
            }
            (Some(Value::Array(items)), Some(value)) => {
                if let Some(item) = name.parse::<usize>().ok().and_then(|at| items.get_mut(at)) {
                    *item = value.clone();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_place_of_an_object_is_made_wrong_once_in_each_way() {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {
            "type": "ClusterIP", "selector": {"a": "b"}, "ports": [{"port": 80}],
        }});
        let model = api::schema::builtin_model("io.k8s.api.core.v1.Service");
        let steps = steps("/api/v1/namespaces/$ns/services", &object, model.as_ref()).unwrap();
        let cases: BTreeSet<&str> = steps.iter().map(|step| step.case.as_str()).collect();
        assert_eq!(cases.len(), steps.len());
        for case in [
            "made: nothing at /spec/ports",
            "made: an item twice at /spec/ports",
            "made: a negative at /spec/ports/0/port",
            "made: an unknown word at /spec/type",
            "made: a bad key at /spec/selector/bad key!",
            "made: update, another text at /spec/selector/a",
        ] {
            assert!(cases.contains(case), "{case}");
        }
    }
}
