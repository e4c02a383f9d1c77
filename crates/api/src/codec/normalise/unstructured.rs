//! What upstream's converter between documents and Go's types (`runtime.DefaultUnstructuredConverter`) makes of a
//! document: it reads no text, and so refuses in other words than a decoder, and takes other numbers.

use serde_json::Value;

use super::error::{DecodeError, Place};
use super::scalars;
use crate::schema::{Model, Schema, Shape, Type, TypeId};

/// Why a document is no object of its kind, in the words of the converter.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UnstructuredError {
    #[error("cannot restore struct from: {0}")]
    NoStruct(&'static str),
    #[error("cannot restore map from {0}")]
    NoMap(&'static str),
    #[error("cannot restore slice from {0}")]
    NoSlice(&'static str),
    #[error("cannot convert {found} to {wanted}")]
    Inconvertible { found: &'static str, wanted: String },
    /// Named is the type that is wanted.
    #[error("unrecognized type: {0}")]
    Unrecognized(&'static str),
    #[error("error decoding from json: {0}")]
    Bytes(DecodeError),
    /// From the types that read themselves.
    #[error(transparent)]
    Own(#[from] DecodeError),
}

type Result<T> = std::result::Result<T, UnstructuredError>;

/// Converts `value` into an object of `model`'s kind as far as a decoder would refuse it or read it otherwise: numbers
/// lose the bits for which there is no place. The rest is for [`normalise`](super::normalise).
pub fn convert(value: &mut Value, model: &Model) -> Result<()> {
    Converter { schema: model.schema() }.structure(model.root(), value, &Place::root())
}

struct Converter<'m> {
    schema: &'m Schema,
}

impl<'m> Converter<'m> {
    fn structure(&self, id: TypeId, value: &mut Value, place: &Place<'_>) -> Result<()> {
        match value {
            Value::Object(_) => self.fields(self.schema.get(id), value, place),
            other => Err(UnstructuredError::NoStruct(kind(other))),
        }
    }

    /// In the order of the struct's declaration.
    fn fields(&self, ty: &'m Type, object: &mut Value, place: &Place<'_>) -> Result<()> {
        for field in &ty.fields {
            if let (true, Shape::Struct(inner)) = (field.is_inline(), &field.shape) {
                self.fields(self.schema.get(*inner), object, place)?;
            } else if let Some(value) = object.get_mut(&*field.json) {
                self.value(&field.shape, value, &place.field(field, ty))?;
            }
        }
        Ok(())
    }

    fn value(&self, shape: &Shape, value: &mut Value, place: &Place<'_>) -> Result<()> {
        let each = |item: &Shape, value: &mut Value| match value {
            Value::Array(items) => {
                items.iter_mut().enumerate().try_for_each(|(at, value)| self.value(item, value, &place.index(at)))
            }
            other => Err(UnstructuredError::NoSlice(kind(other))),
        };
        match (shape, &mut *value) {
            (_, Value::Null) => Ok(()),
            (Shape::Struct(id), value) => self.structure(*id, value, place),
            (Shape::List(item), value) => each(item, value),
            (Shape::StringList, value) => each(&Shape::String, value),
            (Shape::Map(item), Value::Object(fields)) => {
                fields.iter_mut().try_for_each(|(key, value)| self.value(item, value, &place.key(key)))
            }
            (Shape::Map(_), other) => Err(UnstructuredError::NoMap(kind(other))),
            (Shape::Bytes, Value::String(_)) => {
                scalars::canonical(shape, value, &Place::root()).map_err(UnstructuredError::Bytes)
            }
            (Shape::Bytes, other) => Err(UnstructuredError::NoSlice(kind(other))),
            (Shape::Bool | Shape::Int32 | Shape::Int64 | Shape::Double | Shape::String, _) => {
                scalar(shape, value, place)
            }
            (Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime | Shape::Duration, _) => {
                Ok(scalars::canonical(shape, value, &Place::root())?)
            }
            (Shape::RawExtension | Shape::Json | Shape::FieldsV1 | Shape::SchemaOr(..), _) => Ok(()),
        }
    }
}

/// A value of one of Go's own types: JSON knows no way between truths, integers, floats and texts but from whole floats
/// to integers. (Where Go itself knows none the converter takes the type for one that it has not heard of.)
fn scalar(shape: &Shape, value: &mut Value, place: &Place<'_>) -> Result<()> {
    let inconvertible = |found| {
        let wanted = place.go().unwrap_or(scalars::go_type(shape)).to_owned();
        Err(UnstructuredError::Inconvertible { found, wanted })
    };
    match (shape, &*value) {
        (Shape::Bool, Value::Bool(_)) | (Shape::String, Value::String(_)) | (Shape::Double, Value::Number(_)) => Ok(()),
        (Shape::Int32 | Shape::Int64, Value::Number(number)) => {
            let float = number.as_f64().unwrap_or_default();
            let whole = match number.as_i64() {
                Some(whole) => whole,
                None if float.fract() != 0.0 => return inconvertible("float64"),
                None => whole(float),
            };
            *value = if *shape == Shape::Int32 { Value::from(whole as i32) } else { Value::from(whole) };
            Ok(())
        }
        (Shape::String, Value::Number(number)) if number.is_i64() => inconvertible("int64"),
        _ => Err(UnstructuredError::Unrecognized(scalars::go_type(shape))),
    }
}

/// A whole float as an integer: the least one where there is none, as processors have it.
fn whole(float: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if (-END..END).contains(&float) { float as i64 } else { i64::MIN }
}

/// Go's kind of a decoded value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_i64() => "int64",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::model_of;

    fn check(api_version: &str, kind: &str, mut object: Value, expected: &str) {
        let sent = object.to_string();
        let said = convert(&mut object, &model_of(api_version, kind).unwrap()).map(|()| object);
        let said = said.map_or_else(|why| why.to_string(), |object| object.to_string());
        assert_eq!(said, expected, "{sent}");
    }

    #[test]
    fn what_is_of_another_type_is_refused_in_the_converters_words() {
        let pod = |object, expected| check("v1", "Pod", object, expected);
        pod(json!({"kind": 5}), "cannot convert int64 to string");
        pod(json!({"apiVersion": []}), "unrecognized type: string");
        pod(json!({"metadata": "x"}), "cannot restore struct from: string");
        pod(json!({"metadata": {"labels": []}}), "cannot restore map from slice");
        pod(json!({"metadata": {"labels": {"a": 1.5}}}), "unrecognized type: string");
        pod(json!({"spec": {"containers": {}}}), "cannot restore slice from map");
        pod(json!({"spec": {"containers": [{"name": true}]}}), "unrecognized type: string");
        pod(json!({"spec": {"priority": "1"}}), "unrecognized type: int32");
        pod(json!({"spec": {"priority": 1.5}}), "cannot convert float64 to int32");
        pod(json!({"spec": {"restartPolicy": 1}}), "cannot convert int64 to v1.RestartPolicy");
        pod(
            json!({"metadata": {"creationTimestamp": 5}}),
            "json: cannot unmarshal number into Go value of type string",
        );
        let secret = |object, expected| check("v1", "Secret", object, expected);
        secret(json!({"data": {"a": "%"}}), "error decoding from json: illegal base64 data at input byte 0");
        secret(json!({"data": {"a": 5}}), "cannot restore slice from int64");
    }

    #[test]
    fn numbers_lose_what_there_is_no_place_for() {
        let scale = |number: Value, expected: i64| {
            let spec = |replicas: Value| json!({"spec": {"replicas": replicas}});
            check("autoscaling/v1", "Scale", spec(number), &spec(json!(expected)).to_string());
        };
        scale(json!(4_294_967_296_i64), 0);
        scale(json!(2_147_483_648_i64), -2_147_483_648);
        scale(json!(3.0), 3);
        scale(json!(1e30), 0);
        check("v1", "Pod", json!({"spec": null}), r#"{"spec":null}"#);
    }
}
