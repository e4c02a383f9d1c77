//! The messages of an OpenAPI v2 document, which client-go's discovery client asks for (gnostic's `OpenAPIv2.proto`).

use serde_json::Value;

use super::{
    Backward, Row, any, count, double, each, fields, flag, message, named, one_or_more, security, text, texts,
};

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

/// Encodes what [`v2`](crate::openapi::v2) made, or a part of such a document: parts one behind the other are one document, since what
/// stands twice in a message is merged where it is read.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Backward::with_capacity(64 * 1024);
    fields(&mut out, document, DOCUMENT, 16);
    out.finish()
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

fn security_definition(out: &mut Backward, number: u32, value: &Value) {
    out.message(number, |out| message(out, 2, value, API_KEY, 5));
}
