//! A document's fields as protobuf, each struct last field first.

use serde_json::{Map, Value};

use super::from_base64;
use super::wire::Backward;
use crate::schema::{Field, Schema, SchemaAlternative, Shape, TypeId};
use crate::time;

/// The fields of a struct; one that is absent but no pointer is written with its zero values.
pub(super) fn structure(out: &mut Backward, schema: &Schema, id: TypeId, object: Option<&Map<String, Value>>) {
    for field in schema.wire_fields(id).rev() {
        match (&field.shape, field.is_inline()) {
            (Shape::Struct(inner), true) => out.message(field.number, |out| structure(out, schema, *inner, object)),
            _ => {
                let value = object.and_then(|object| object.get(&*field.json)).filter(|value| !value.is_null());
                write_field(out, schema, field, value);
            }
        }
    }
}

fn write_field(out: &mut Backward, schema: &Schema, field: &Field, value: Option<&Value>) {
    let number = field.number;
    match (&field.shape, value) {
        (_, None) if field.pointer => {}
        (Shape::Bytes | Shape::StringList, None) => {}
        (Shape::List(item), _) => {
            for value in value.and_then(Value::as_array).into_iter().flatten().rev() {
                write_value(out, schema, number, item, Some(value));
            }
        }
        (Shape::Map(item), _) => {
            for (key, value) in value.and_then(Value::as_object).into_iter().flatten().rev() {
                out.message(number, |out| {
                    write_value(out, schema, 2, item, Some(value));
                    out.string(1, key);
                });
            }
        }
        (shape, value) => write_value(out, schema, number, shape, value),
    }
}

/// One value with its key; none is zero.
fn write_value(out: &mut Backward, schema: &Schema, number: u32, shape: &Shape, value: Option<&Value>) {
    let text = || value.and_then(Value::as_str);
    let json = |out: &mut Backward| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            out.string(1, &value.to_string());
        }
    };
    match shape {
        Shape::Bool => out.varint(number, i64::from(value.and_then(Value::as_bool).unwrap_or_default())),
        Shape::Int32 | Shape::Int64 => out.varint(number, value.and_then(Value::as_i64).unwrap_or_default()),
        Shape::Double => out.double(number, value.and_then(Value::as_f64).unwrap_or_default()),
        Shape::String => out.string(number, text().unwrap_or_default()),
        Shape::Bytes => out.bytes(number, &from_base64(text().unwrap_or_default())),
        Shape::Quantity => out.message(number, |out| out.string(1, text().unwrap_or("0"))),
        Shape::IntOrString => out.message(number, |out| int_or_string(out, value)),
        Shape::Time => out.message(number, |out| timestamp(out, text().and_then(|text| time::parse(text).ok()), false)),
        Shape::MicroTime => {
            out.message(number, |out| timestamp(out, text().and_then(|text| time::parse_micro(text).ok()), true));
        }
        Shape::Duration => {
            let duration = text().and_then(|text| text.parse::<crate::duration::Duration>().ok()).unwrap_or_default();
            out.message(number, |out| out.varint(1, duration.as_nanos()));
        }
        Shape::RawExtension | Shape::Json | Shape::FieldsV1 => out.message(number, json),
        Shape::Struct(id) => {
            out.message(number, |out| structure(out, schema, *id, value.and_then(Value::as_object)));
        }
        Shape::StringList => out.message(number, |out| {
            for item in value.and_then(Value::as_array).into_iter().flatten().rev() {
                out.string(1, item.as_str().unwrap_or_default());
            }
        }),
        Shape::SchemaOr(alternative, props) => {
            out.message(number, |out| schema_or(out, schema, *alternative, *props, value));
        }
        // Neither lists of lists nor maps of maps exist on the wire.
        Shape::List(_) | Shape::Map(_) => {}
    }
}

fn int_or_string(out: &mut Backward, value: Option<&Value>) {
    let text = value.and_then(Value::as_str);
    out.string(3, text.unwrap_or_default());
    out.varint(2, value.and_then(Value::as_i64).unwrap_or_default());
    out.varint(1, i64::from(text.is_some()));
}

fn timestamp(out: &mut Backward, time: Option<jiff::Timestamp>, micros: bool) {
    let Some(time) = time else { return };
    // Seconds count down to the past, nanoseconds always up within the second.
    let nanos = time.as_nanosecond();
    let part = if micros { nanos.rem_euclid(1_000_000_000) / 1_000 * 1_000 } else { 0 };
    out.varint(2, part as i64);
    out.varint(1, nanos.div_euclid(1_000_000_000) as i64);
}

fn schema_or(
    out: &mut Backward,
    schema: &Schema,
    alternative: SchemaAlternative,
    props: TypeId,
    value: Option<&Value>,
) {
    let object = value.and_then(Value::as_object);
    let items = value.and_then(Value::as_array).into_iter().flatten().rev();
    match alternative {
        SchemaAlternative::Bool => {
            if object.is_some() {
                out.message(2, |out| structure(out, schema, props, object));
            }
            out.varint(1, i64::from(object.is_some() || value.and_then(Value::as_bool).unwrap_or_default()));
        }
        SchemaAlternative::Schemas | SchemaAlternative::Strings => {
            for item in items {
                match alternative {
                    SchemaAlternative::Strings => out.string(2, item.as_str().unwrap_or_default()),
                    _ => out.message(2, |out| structure(out, schema, props, item.as_object())),
                }
            }
            if object.is_some() {
                out.message(1, |out| structure(out, schema, props, object));
            }
        }
    }
}
