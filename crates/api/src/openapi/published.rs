//! Schemas of custom resources as they are published: with the fields that every object has, and for version 2
//! without what it cannot say (`k8s.io/apiextensions-apiserver/pkg/controller/openapi`).

use serde_json::{Map, Value, json};

use super::Edition;
use super::descriptions;
use crate::custom::CustomVersion;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Words of structural schemas that OpenAPI v2 lacks. Defaults go as well: version 2 documents have never stated any.
const NOT_IN_V2: [&str; 4] = ["allOf", "anyOf", "oneOf", "not"];

/// The published form of a version. `reference` makes a reference to a definition that carries other words beside it.
pub(super) fn object(edition: Edition, version: &CustomVersion, mut reference: impl FnMut(&str) -> Value) -> Value {
    let mut published = match version.openapi() {
        // What names no fields is closed to version 2's readers if it names but metadata.
        None => json!({"type": "object"}),
        Some(schema) if edition == Edition::V2 && schema[PRESERVE] == true => json!({"type": "object"}),
        Some(mut published) => {
            match edition {
                Edition::V2 => to_v2(&mut published),
                Edition::V3 => unfold(&mut published),
            }
            add_object_fields(&mut published, &mut reference);
            embed(edition, &mut published, &mut reference);
            published
        }
    };
    select(&mut published, version);
    published
}

/// A list of `item`s.
pub(super) fn list(names: (&str, &str), version: &CustomVersion, item: &Value, mut list_meta: Value) -> Value {
    let (list_kind, kind) = names;
    list_meta["description"] = json!("Standard list metadata.");
    let mut published = json!({
        "description": format!("{list_kind} is a list of {kind}"),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": descriptions::api_version(),
            "kind": descriptions::kind(),
            "metadata": list_meta,
            "items": {"description": format!("List of objects of kind {kind}."), "type": "array", "items": item},
        },
    });
    select(&mut published, version);
    published
}

/// Names the fields by which clients can select.
fn select(schema: &mut Value, version: &CustomVersion) {
    if !version.selectable.is_empty() {
        let fields = version.selectable.iter().map(|field| json!({"fieldPath": field.label}));
        schema["x-kubernetes-selectable-fields"] = fields.collect();
    }
}

fn add_object_fields(schema: &mut Value, reference: &mut impl FnMut(&str) -> Value) {
    let mut metadata = reference(OBJECT_META);
    metadata["description"] = json!(descriptions::METADATA);
    let Value::Object(schema) = schema else { return };
    let properties = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(properties) = properties {
        properties.insert("apiVersion".to_owned(), descriptions::api_version());
        properties.insert("kind".to_owned(), descriptions::kind());
        properties.insert("metadata".to_owned(), metadata);
    }
}

/// Gives embedded resources the fields of objects too.
fn embed(edition: Edition, schema: &mut Value, reference: &mut impl FnMut(&str) -> Value) {
    each_child(schema, &mut |child| {
        embed(edition, child, reference);
        // Readers of version 2 would refuse what these do not name.
        let says = |word: &str| child.get(word) == Some(&Value::Bool(true));
        let closed = !(edition == Edition::V2 && says(PRESERVE));
        if says("x-kubernetes-embedded-resource") && closed {
            add_object_fields(child, reference);
            require(child, "kind");
            require(child, "apiVersion");
        }
    });
}

fn require(schema: &mut Value, field: &str) {
    let Value::Object(schema) = schema else { return };
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(required) = required
        && !required.iter().any(|known| known == field)
    {
        required.push(json!(field));
    }
}

/// States the two types of an int-or-string where its schema has not.
fn unfold(schema: &mut Value) {
    let types = json!([{"type": "integer"}, {"type": "string"}]);
    let read: &Value = schema;
    let stated = read["anyOf"] == types || read["allOf"][0]["anyOf"] == types;
    if read["x-kubernetes-int-or-string"] == true && !stated {
        match (read["anyOf"].is_null(), schema.get_mut("allOf").and_then(Value::as_array_mut)) {
            (true, _) => schema["anyOf"] = types,
            (false, Some(all)) => all.insert(0, json!({"anyOf": types})),
            (false, None) => schema["allOf"] = json!([{"anyOf": types}]),
        }
    }
    each_child(schema, &mut unfold);
}

fn to_v2(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        fields.remove("default");
        for word in NOT_IN_V2 {
            fields.remove(word);
        }
        let nullable = fields.remove("nullable") == Some(Value::Bool(true));
        let open = fields.get(PRESERVE) == Some(&Value::Bool(true));
        // Readers of version 2 take what these name for all that there is.
        if nullable || open {
            fields.remove("items");
            fields.remove("properties");
        }
        let ty = fields.get("type").and_then(Value::as_str).unwrap_or_default();
        let unreadable = (ty == "array" && !fields.contains_key("items")) || (ty == "object" && open);
        if nullable || unreadable {
            fields.remove("type");
        }
        forget_nullable(fields);
    }
    each_child(schema, &mut to_v2);
}

/// What may be null cannot be required where null cannot be said.
fn forget_nullable(fields: &mut Map<String, Value>) {
    let nullable = |schema: &Value| schema["nullable"] == true;
    let any = fields.get("additionalProperties").is_some_and(nullable);
    let named: Vec<String> = fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, schema)| nullable(schema))
        .map(|(name, _)| name.clone())
        .collect();
    let Some(Value::Array(required)) = fields.get_mut("required") else { return };
    required.retain(|name| !any && !named.iter().any(|known| name == known));
    if required.is_empty() {
        fields.remove("required");
    }
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
