//! Shapes of OpenAPI schemas: structural ones, as custom resources state them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Field, MAX_REQUEST, Semantics, Shape, ShapeKind};
use crate::cel::names::escape;

impl Shape {
    /// The shape of a schema; none where it states no type. `is_root` for that of a whole object, which has a kind
    /// and metadata even where the schema says nothing of them.
    pub fn of_openapi(schema: &Json, is_root: bool) -> Option<Self> {
        let mut shape = shape(schema, is_root)?;
        shape.nullable = schema["nullable"] == true;
        Some(shape)
    }

    fn of_part(schema: &Json) -> Option<Self> {
        Self::of_openapi(schema, schema["x-kubernetes-embedded-resource"] == true)
    }
}

fn shape(schema: &Json, is_root: bool) -> Option<Shape> {
    if schema["x-kubernetes-int-or-string"] == true {
        let max = max_length(schema).unwrap_or(MAX_REQUEST - 2);
        return Some(Shape::new(ShapeKind::IntOrString, max, 1));
    }
    match schema["type"].as_str().or(is_root.then_some("object"))? {
        "array" => {
            let items = Shape::of_part(schema.get("items")?)?;
            Some(Shape::list(items, semantics(schema), bound(schema, "maxItems")))
        }
        "object" => object(schema, is_root),
        "string" => Some(text(schema)),
        "boolean" => Some(Shape::new(ShapeKind::Bool, 0, 4)),
        "number" => Some(Shape::new(ShapeKind::Double, 0, 1)),
        "integer" => Some(Shape::new(ShapeKind::Int, 0, 1)),
        _ => None,
    }
}

/// A stated bound; a negative one is none left.
fn bound(schema: &Json, name: &str) -> Option<u64> {
    schema[name].as_i64().map(|bound| bound.max(0) as u64)
}

/// In bytes: characters may take four.
fn max_length(schema: &Json) -> Option<u64> {
    bound(schema, "maxLength").map(|length| length.saturating_mul(4))
}

fn semantics(schema: &Json) -> Semantics {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Semantics::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            Semantics::map(keys.filter_map(Json::as_str))
        }
        _ => Semantics::Atomic,
    }
}

fn text(schema: &Json) -> Shape {
    match schema["format"].as_str() {
        Some("byte") => Shape::new(ShapeKind::Bytes, bound(schema, "maxLength").unwrap_or(MAX_REQUEST - 2), 2),
        Some("duration") => Shape::new(ShapeKind::Duration, 32, 3),
        Some("date") => Shape::new(ShapeKind::Date, 12, 12),
        Some("date-time") => Shape::new(ShapeKind::DateTime, 32, 21),
        _ => {
            let allowed = schema["enum"].as_array().filter(|allowed| !allowed.is_empty());
            let longest = |allowed: &Vec<Json>| allowed.iter().filter_map(Json::as_str).map(str::len).max();
            let by_enum = || allowed.map(|allowed| longest(allowed).unwrap_or(0) as u64);
            let max = max_length(schema).or_else(by_enum).unwrap_or(MAX_REQUEST - 2);
            Shape::new(ShapeKind::String, max, 2)
        }
    }
}

fn object(schema: &Json, is_root: bool) -> Option<Shape> {
    if schema["additionalProperties"].is_object() && !is_root {
        let values = Shape::of_part(&schema["additionalProperties"])?;
        return Some(Shape::map(values, bound(schema, "maxProperties")));
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let mut min_size = 2;
    let mut fields = BTreeMap::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let Some(shape) = Shape::of_part(property) else {
            continue;
        };
        if required.contains(&name.as_str()) && property.get("default").is_none_or(Json::is_null) {
            min_size += name.len() as u64 + shape.min_size + 4;
        }
        if let Some(escaped) = escape(name) {
            fields.insert(escaped.into(), Field { json: name.as_str().into(), shape });
        }
    }
    if is_root && !states_metadata(schema) {
        add_metadata(&mut fields);
    }
    Some(Shape::object(fields, min_size))
}

/// Whether the schema says itself what every object has.
fn states_metadata(schema: &Json) -> bool {
    let properties = &schema["properties"];
    let metadata = &properties["metadata"];
    properties["kind"]["type"] == "string"
        && properties["apiVersion"]["type"] == "string"
        && metadata["type"] == "object"
        && metadata["properties"]["name"]["type"] == "string"
        && metadata["properties"]["generateName"]["type"] == "string"
}

/// What rules may rely on of any object; of metadata the names alone.
fn add_metadata(fields: &mut BTreeMap<Arc<str>, Field>) {
    let texts = |names: [&str; 2]| {
        let field = |name: &str| (Arc::from(name), Field { json: name.into(), shape: Shape::text() });
        names.map(field)
    };
    let metadata = Shape::object(texts(["name", "generateName"]).into(), 2);
    fields.extend(texts(["kind", "apiVersion"]));
    fields.insert("metadata".into(), Field { json: "metadata".into(), shape: metadata });
}
