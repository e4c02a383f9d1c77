//! An OpenAPI v2 document in protobuf, as client-go's discovery client asks for it (gnostic's `OpenAPIv2.proto`).
//!
//! One row a field: its name in JSON, its number, and how it is written. What the document may hold beyond these
//! rows, [`super::v2`] does not make.

use serde_json::{Map, Value};

use crate::codec::protobuf::wire::Backward;

/// A field of a message.
type Row = (&'static str, u32, fn(&mut Backward, u32, &Value));

const DOCUMENT: &[Row] = &[
    ("swagger", 1, text),
    ("info", 2, |out, number, value| message(out, number, value, INFO, 7)),
    ("paths", 8, paths),
    ("definitions", 9, |out, number, value| named(out, number, value, 1, schema)),
    ("security", 12, security),
    ("securityDefinitions", 13, |out, number, value| named(out, number, value, 1, security_definition)),
];

const INFO: &[Row] = &[("title", 1, text), ("version", 2, text), ("description", 3, text)];

const PATH: &[Row] = &[
    ("get", 2, operation),
    ("put", 3, operation),
    ("post", 4, operation),
    ("delete", 5, operation),
    ("options", 6, operation),
    ("head", 7, operation),
    ("patch", 8, operation),
    ("parameters", 9, parameters),
];

const OPERATION: &[Row] = &[
    ("tags", 1, texts),
    ("description", 3, text),
    ("operationId", 5, text),
    ("produces", 6, texts),
    ("consumes", 7, texts),
    ("parameters", 8, parameters),
    ("responses", 9, |out, number, value| named(out, number, value, 1, response)),
    ("schemes", 10, texts),
];

const BODY: &[Row] =
    &[("description", 1, text), ("name", 2, text), ("in", 3, text), ("required", 4, flag), ("schema", 5, schema)];

const QUERY: &[Row] = &[
    ("in", 2, text),
    ("description", 3, text),
    ("name", 4, text),
    ("type", 6, text),
    ("format", 7, text),
    ("uniqueItems", 20, flag),
];

const IN_PATH: &[Row] = &[
    ("required", 1, flag),
    ("in", 2, text),
    ("description", 3, text),
    ("name", 4, text),
    ("type", 5, text),
    ("format", 6, text),
    ("uniqueItems", 19, flag),
];

const RESPONSE: &[Row] =
    &[("description", 1, text), ("schema", 2, |out, number, value| out.message(number, |out| schema(out, 1, value)))];

const API_KEY: &[Row] = &[("type", 1, text), ("name", 2, text), ("in", 3, text), ("description", 4, text)];

const SCHEMA: &[Row] = &[
    ("$ref", 1, text),
    ("format", 2, text),
    ("title", 3, text),
    ("description", 4, text),
    ("default", 5, any),
    ("multipleOf", 6, double),
    ("maximum", 7, double),
    ("exclusiveMaximum", 8, flag),
    ("minimum", 9, double),
    ("exclusiveMinimum", 10, flag),
    ("maxLength", 11, count),
    ("minLength", 12, count),
    ("pattern", 13, text),
    ("maxItems", 14, count),
    ("minItems", 15, count),
    ("uniqueItems", 16, flag),
    ("maxProperties", 17, count),
    ("minProperties", 18, count),
    ("required", 19, texts),
    ("enum", 20, |out, number, value| each(value, |value| any(out, number, value))),
    ("additionalProperties", 21, additional_properties),
    ("type", 22, |out, number, value| out.message(number, |out| one_or_more(value, |value| text(out, 1, value)))),
    ("items", 23, |out, number, value| out.message(number, |out| one_or_more(value, |value| schema(out, 1, value)))),
    ("properties", 25, |out, number, value| named(out, number, value, 1, schema)),
    ("example", 30, any),
];

/// Encodes what [`super::v2`] made, or a part of such a document: parts one behind the other are one document, since what
/// stands twice in a message is merged where it is read.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Backward::with_capacity(64 * 1024);
    fields(&mut out, document, DOCUMENT, 16);
    out.finish()
}

/// The fields of a message, last first; `extensions` is the number under which fields beginning with `x-` stand.
fn fields(out: &mut Backward, value: &Value, rows: &[Row], extensions: u32) {
    let Value::Object(object) = value else { return };
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")).rev() {
        entry(out, extensions, name, value, any);
    }
    for (name, number, write) in rows.iter().rev() {
        if let Some(value) = object.get(*name) {
            write(out, *number, value);
        }
    }
}

fn message(out: &mut Backward, number: u32, value: &Value, rows: &[Row], extensions: u32) {
    out.message(number, |out| fields(out, value, rows, extensions));
}

/// A message that holds a map: its entries stand under `inner`.
fn named(out: &mut Backward, number: u32, value: &Value, inner: u32, write: fn(&mut Backward, u32, &Value)) {
    out.message(number, |out| {
        for (name, value) in entries(value).rev() {
            entry(out, inner, name, value, write);
        }
    });
}

fn entry(out: &mut Backward, number: u32, name: &str, value: &Value, write: fn(&mut Backward, u32, &Value)) {
    out.message(number, |out| {
        write(out, 2, value);
        out.string(1, name);
    });
}

fn entries(value: &Value) -> impl DoubleEndedIterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// The items of a list, last first.
fn each(value: &Value, write: impl FnMut(&Value)) {
    value.as_array().into_iter().flatten().rev().for_each(write);
}

fn one_or_more(value: &Value, mut write: impl FnMut(&Value)) {
    match value {
        Value::Array(_) => each(value, write),
        _ => write(value),
    }
}

fn text(out: &mut Backward, number: u32, value: &Value) {
    if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
        out.string(number, text);
    }
}

fn texts(out: &mut Backward, number: u32, value: &Value) {
    each(value, |value| out.string(number, value.as_str().unwrap_or_default()));
}

fn flag(out: &mut Backward, number: u32, value: &Value) {
    if value == &Value::Bool(true) {
        out.varint(number, 1);
    }
}

fn count(out: &mut Backward, number: u32, value: &Value) {
    if let Some(count) = value.as_i64().filter(|count| *count != 0) {
        out.varint(number, count);
    }
}

fn double(out: &mut Backward, number: u32, value: &Value) {
    if let Some(value) = value.as_f64().filter(|value| *value != 0.0) {
        out.double(number, value);
    }
}

/// Any value, as YAML: JSON with a line end is that too.
fn any(out: &mut Backward, number: u32, value: &Value) {
    out.message(number, |out| out.string(2, &format!("{value}\n")));
}

fn schema(out: &mut Backward, number: u32, value: &Value) {
    message(out, number, value, SCHEMA, 31);
}

fn additional_properties(out: &mut Backward, number: u32, value: &Value) {
    out.message(number, |out| match value {
        Value::Bool(allowed) => out.varint(2, i64::from(*allowed)),
        _ => schema(out, 1, value),
    });
}

fn paths(out: &mut Backward, number: u32, value: &Value) {
    named(out, number, value, 2, |out, number, value| message(out, number, value, PATH, 10));
}

fn operation(out: &mut Backward, number: u32, value: &Value) {
    message(out, number, value, OPERATION, 13);
}

fn parameters(out: &mut Backward, number: u32, value: &Value) {
    each(value, |parameter| {
        out.message(number, |out| {
            out.message(1, |out| match parameter["in"].as_str() {
                Some("body") => message(out, 1, parameter, BODY, 6),
                Some("path") => out.message(2, |out| message(out, 4, parameter, IN_PATH, 22)),
                _ => out.message(2, |out| message(out, 3, parameter, QUERY, 23)),
            });
        });
    });
}

fn response(out: &mut Backward, number: u32, value: &Value) {
    out.message(number, |out| message(out, 1, value, RESPONSE, 5));
}

fn security(out: &mut Backward, number: u32, value: &Value) {
    each(value, |requirement| {
        named(out, number, requirement, 1, |out, number, scopes| {
            out.message(number, |out| texts(out, 1, scopes));
        });
    });
}

fn security_definition(out: &mut Backward, number: u32, value: &Value) {
    out.message(number, |out| message(out, 2, value, API_KEY, 5));
}
