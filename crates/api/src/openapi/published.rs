//! Schemas of custom resources as they are published: with the fields that every object has, and for version 2
//! without what it cannot say.

use serde_json::{Map, Value, json};

use super::Edition;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Words of structural schemas that OpenAPI v2 lacks, or that its readers take for something else.
const NOT_IN_V2: [&str; 5] = ["allOf", "anyOf", "oneOf", "not", "nullable"];

/// The published form of an `openAPIV3Schema`.
pub(super) fn schema(edition: Edition, schema: &Value) -> Value {
    let mut published = schema.clone();
    if edition == Edition::V2 {
        to_v2(&mut published);
    }
    published
}

/// Adds the fields that every object has.
pub(super) fn object(mut schema: Value, mut reference: impl FnMut(&str) -> Value) -> Value {
    if !schema.is_object() {
        schema = json!({"x-kubernetes-preserve-unknown-fields": true});
    }
    schema["type"] = json!("object");
    add_object_fields(&mut schema, &mut reference);
    embed(&mut schema, &mut reference);
    schema
}

/// A list of `item`s.
pub(super) fn list(item: Value, list_meta: Value) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": list_meta,
            "items": {"type": "array", "items": item},
        },
    })
}

fn add_object_fields(schema: &mut Value, reference: &mut impl FnMut(&str) -> Value) {
    let metadata = reference(OBJECT_META);
    let Value::Object(schema) = schema else { return };
    let properties = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(properties) = properties {
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        properties.insert("metadata".to_owned(), metadata);
    }
}

/// Gives embedded resources the fields of objects too.
fn embed(schema: &mut Value, reference: &mut impl FnMut(&str) -> Value) {
    each_child(schema, &mut |child| {
        if child["x-kubernetes-embedded-resource"] == true {
            add_object_fields(child, reference);
        }
        embed(child, reference);
    });
}

fn to_v2(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        let nullable = fields.get("nullable") == Some(&Value::Bool(true));
        let untyped = fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
        let open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        for word in NOT_IN_V2 {
            fields.remove(word);
        }
        if nullable || untyped {
            fields.remove("type");
        }
        // Readers of version 2 would refuse what these do not name.
        if nullable || open {
            fields.remove("items");
            fields.remove("properties");
        }
    }
    each_child(schema, &mut to_v2);
}

fn each_child(schema: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    let Value::Object(fields) = schema else { return };
    for (word, value) in fields {
        match (word.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(&mut *visit),
            ("items" | "additionalProperties", child @ Value::Object(_)) => visit(child),
            _ => {}
        }
    }
}
