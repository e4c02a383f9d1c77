//! CEL: an expression compiles or does not, and what compiles ends within its budget.

#![no_main]

use std::sync::{Arc, LazyLock};

use api::cel::{Activation, Budget, Declarations, Environment, PER_CALL_LIMIT, RUNTIME_BUDGET, Shape, Value};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value as Json, json};

static SCHEMA: LazyLock<Arc<Shape>> = LazyLock::new(|| {
    let schema = json!({"type": "object", "properties": {
        "replicas": {"type": "integer"}, "ratio": {"type": "number"}, "name": {"type": "string"},
        "flag": {"type": "boolean"}, "port": {"x-kubernetes-int-or-string": true},
        "when": {"type": "string", "format": "date-time"}, "timeout": {"type": "string", "format": "duration"},
        "secret": {"type": "string", "format": "byte"},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
            "items": {"type": "object", "properties": {"port": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    }});
    Arc::new(Shape::of_openapi(&schema, true).expect("the schema states types"))
});

static ENVIRONMENT: LazyLock<Environment> =
    LazyLock::new(|| Environment::new(Declarations::admission().shaped("self", "Self", &SCHEMA)));

static OBJECT: LazyLock<Json> = LazyLock::new(|| {
    json!({
        "apiVersion": "example.com/v1", "kind": "Self", "metadata": {"name": "web", "labels": {"app": "shop"}},
        "replicas": 3, "ratio": 0.5, "name": "hello world", "flag": true, "port": "http",
        "when": "2023-05-06T07:08:09Z", "timeout": "1h30m", "secret": "c2VjcmV0", "tags": ["a", "b", "c"],
        "ports": [{"port": 80}, {"port": 443}], "labels": {"x": "y"},
    })
});

fuzz_target!(|text: &str| {
    let Ok(program) = ENVIRONMENT.compile(text) else { return };
    let _ = program.estimated_cost();
    let Ok(typed) = Value::shaped(&OBJECT, &SCHEMA) else { return };
    let activation = Activation::new()
        .with("self", typed)
        .with("object", Value::json(&OBJECT))
        .with("oldObject", Value::json(&Json::Null))
        .with("request", Value::json(&OBJECT))
        .with("namespaceObject", Value::json(&Json::Null));
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let outcome = program.evaluate(&activation, &mut budget);
    if let Ok(value) = &outcome {
        assert!(budget.last_cost() <= PER_CALL_LIMIT, "an outcome that cost {}", budget.last_cost());
        let _ = value.to_json();
    }
    let mut again = Budget::new(RUNTIME_BUDGET);
    let repeated = program.evaluate(&activation, &mut again);
    assert_eq!((outcome.is_ok(), budget.last_cost()), (repeated.is_ok(), again.last_cost()));
});
