//! OpenAPI documents in protobuf, as gnostic defines them.
//!
//! One row a field: its name in JSON, its number, and how it is written. What a document may hold beyond the rows of its
//! edition is not made here.

pub mod v2;
pub mod v3;

use serde_json::{Map, Value};

use crate::codec::protobuf::wire::Backward;

/// A field of a message.
type Row = (&'static str, u32, fn(&mut Backward, u32, &Value));

/// The fields of a message, last first; `extensions` is the number under which fields beginning with `x-` stand.
fn fields(out: &mut Backward, value: &Value, rows: &[Row], extensions: u32) {
    let Value::Object(object) = value else { return };
    for (name, value) in object.iter().filter(|(name, _)| name.starts_with("x-")).rev() {
        entry(out, extensions, name, value, any);
    }
    known(out, value, rows);
}

/// Those of the fields that have rows.
fn known(out: &mut Backward, value: &Value, rows: &[Row]) {
    for (name, number, write) in rows.iter().rev() {
        if let Some(value) = value.get(*name) {
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

fn security(out: &mut Backward, number: u32, value: &Value) {
    each(value, |requirement| {
        named(out, number, requirement, 1, |out, number, scopes| {
            out.message(number, |out| texts(out, 1, scopes));
        });
    });
}
