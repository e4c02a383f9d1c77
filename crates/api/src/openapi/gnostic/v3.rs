//! The messages of an OpenAPI v3 document (gnostic's `OpenAPIv3.proto`).

use serde_json::Value;

use super::{
    Backward, Row, any, count, double, each, fields, flag, known, message, named, one_or_more, security, text, texts,
};

const DOCUMENT: &[Row] = &[
    ("openapi", 1, text),
    ("info", 2, |out, number, value| message(out, number, value, INFO, 7)),
    ("paths", 4, |out, number, value| named(out, number, value, 1, path)),
    ("components", 5, |out, number, value| message(out, number, value, COMPONENTS, 10)),
    ("security", 6, security),
];

const INFO: &[Row] = &[("title", 1, text), ("description", 2, text), ("version", 6, text)];

const COMPONENTS: &[Row] =
    &[("schemas", 1, |out, number, value| named(out, number, value, 1, schema)), ("securitySchemes", 7, schemes)];

const SCHEME: &[Row] = &[("type", 1, text), ("description", 2, text), ("name", 3, text), ("in", 4, text)];

const PATH: &[Row] = &[
    ("get", 4, operation),
    ("put", 5, operation),
    ("post", 6, operation),
    ("delete", 7, operation),
    ("options", 8, operation),
    ("head", 9, operation),
    ("patch", 10, operation),
    ("parameters", 13, parameters),
];

const OPERATION: &[Row] = &[
    ("tags", 1, texts),
    ("description", 3, text),
    ("operationId", 5, text),
    ("parameters", 6, parameters),
    ("requestBody", 7, |out, number, value| either(out, number, value, BODY, 4)),
    ("responses", 8, |out, number, value| named(out, number, value, 2, response)),
];

const PARAMETER: &[Row] =
    &[("name", 1, text), ("in", 2, text), ("description", 3, text), ("required", 4, flag), ("schema", 10, schema)];

const BODY: &[Row] = &[("description", 1, text), ("content", 2, content), ("required", 3, flag)];

const RESPONSE: &[Row] = &[("description", 1, text), ("content", 3, content)];

const MEDIA: &[Row] = &[("schema", 1, schema)];

const REFERENCE: &[Row] = &[("$ref", 1, text), ("summary", 2, text), ("description", 3, text)];

const SCHEMA: &[Row] = &[
    ("nullable", 1, flag),
    ("externalDocs", 6, |out, number, value| message(out, number, value, DOCS, 3)),
    ("example", 7, any),
    ("title", 9, text),
    ("multipleOf", 10, double),
    ("maximum", 11, double),
    ("exclusiveMaximum", 12, flag),
    ("minimum", 13, double),
    ("exclusiveMinimum", 14, flag),
    ("maxLength", 15, count),
    ("minLength", 16, count),
    ("pattern", 17, text),
    ("maxItems", 18, count),
    ("minItems", 19, count),
    ("uniqueItems", 20, flag),
    ("maxProperties", 21, count),
    ("minProperties", 22, count),
    ("required", 23, texts),
    ("enum", 24, |out, number, value| each(value, |value| any(out, number, value))),
    ("type", 25, text),
    ("allOf", 26, schemas),
    ("oneOf", 27, schemas),
    ("anyOf", 28, schemas),
    ("not", 29, |out, number, value| message(out, number, value, SCHEMA, 36)),
    ("items", 30, |out, number, value| out.message(number, |out| one_or_more(value, |value| schema(out, 1, value)))),
    ("properties", 31, |out, number, value| named(out, number, value, 1, schema)),
    ("additionalProperties", 32, additional_properties),
    ("default", 33, default),
    ("description", 34, text),
    ("format", 35, text),
];

const DOCS: &[Row] = &[("description", 1, text), ("url", 2, text)];

/// Encodes what [`v3`](crate::openapi::v3) made.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Backward::with_capacity(64 * 1024);
    fields(&mut out, document, DOCUMENT, 9);
    out.finish()
}

/// What may be a reference to what stands elsewhere, instead.
fn either(out: &mut Backward, number: u32, value: &Value, rows: &[Row], extensions: u32) {
    out.message(number, |out| match value.get("$ref") {
        Some(_) => out.message(2, |out| known(out, value, REFERENCE)),
        None => message(out, 1, value, rows, extensions),
    });
}

fn path(out: &mut Backward, number: u32, value: &Value) {
    message(out, number, value, PATH, 14);
}

fn operation(out: &mut Backward, number: u32, value: &Value) {
    message(out, number, value, OPERATION, 13);
}

fn parameters(out: &mut Backward, number: u32, value: &Value) {
    each(value, |parameter| either(out, number, parameter, PARAMETER, 14));
}

fn response(out: &mut Backward, number: u32, value: &Value) {
    either(out, number, value, RESPONSE, 5);
}

fn content(out: &mut Backward, number: u32, value: &Value) {
    named(out, number, value, 1, |out, number, value| message(out, number, value, MEDIA, 5));
}

fn schemes(out: &mut Backward, number: u32, value: &Value) {
    named(out, number, value, 1, |out, number, value| either(out, number, value, SCHEME, 9));
}

fn schema(out: &mut Backward, number: u32, value: &Value) {
    either(out, number, value, SCHEMA, 36);
}

fn schemas(out: &mut Backward, number: u32, value: &Value) {
    each(value, |value| schema(out, number, value));
}

fn additional_properties(out: &mut Backward, number: u32, value: &Value) {
    out.message(number, |out| match value {
        Value::Bool(allowed) => out.varint(2, i64::from(*allowed)),
        _ => schema(out, 1, value),
    });
}

/// Of a default only what is a number, a flag or a text can be told.
fn default(out: &mut Backward, number: u32, value: &Value) {
    out.message(number, |out| match value {
        Value::Number(value) => out.double(1, value.as_f64().unwrap_or_default()),
        Value::Bool(value) => out.varint(2, i64::from(*value)),
        Value::String(value) => out.string(3, value),
        _ => {}
    });
}
