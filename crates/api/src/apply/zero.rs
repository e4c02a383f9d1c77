//! The object with nothing in it, as Go sees it: what the first version of an object is compared with.
//!
//! Go's structs are there before anybody sets them, so nobody owns `spec` by setting `spec.replicas`. Fields that are
//! left out when zero begin to exist when they are set, and are owned themselves.

use serde_json::{Map, Value, json};

use super::Request;
use crate::schema::{Field, Schema, Shape, TypeId};

/// An object of the request's kind whose fields are all zero.
pub(super) fn object(request: &Request<'_>) -> Value {
    let mut object = members(request.model.schema(), request.model.root());
    object.insert("apiVersion".to_owned(), json!(request.api_version));
    object.insert("kind".to_owned(), json!(request.kind));
    Value::Object(object)
}

fn members(schema: &Schema, id: TypeId) -> Map<String, Value> {
    let mut out = Map::new();
    for field in &schema.get(id).fields {
        match &field.shape {
            Shape::Struct(inner) if field.is_inline() => out.extend(members(schema, *inner)),
            _ if field.omit_empty => {}
            _ => {
                out.insert(field.json.clone().into_owned(), zero(schema, field));
            }
        }
    }
    out
}

fn zero(schema: &Schema, field: &Field) -> Value {
    if field.pointer {
        return Value::Null;
    }
    match &field.shape {
        // Only a pointer, list or map can lead back to a type, so this ends.
        Shape::Struct(id) => Value::Object(members(schema, *id)),
        Shape::Bool => json!(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => json!(0),
        Shape::String => json!(""),
        Shape::Duration => json!("0s"),
        Shape::Quantity => json!("0"),
        _ => Value::Null,
    }
}
