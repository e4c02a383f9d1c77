//! Protobuf as a document.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::wire::{Reader, Wire};
use super::{PREFIX, ProtobufError, settled, to_base64};
use crate::codec::json;
use crate::codec::normalise::is_zero;
use crate::duration::Duration;
use crate::schema::{Field, Model, Schema, SchemaAlternative, Shape, TypeId};
use crate::time;

/// Messages nest as deep as JSON may: the schemas of custom resources are recursive.
const DEEPEST: usize = 127;

/// The model of an apiVersion and kind.
type Resolve<'a> = &'a dyn Fn(&str, &str) -> Option<Model>;

/// An object's envelope, taken apart.
pub(super) struct Envelope<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    object: &'a [u8],
}

impl<'a> Envelope<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let message = bytes.strip_prefix(PREFIX).ok_or(ProtobufError::NoPrefix)?;
        let mut envelope = Self { api_version: "", kind: "", object: &[] };
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.next_field()? {
            match number {
                1 => envelope.type_meta(value.payload("typeMeta")?)?,
                2 => envelope.object = value.payload("raw")?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn type_meta(&mut self, message: &'a [u8]) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.next_field()? {
            match number {
                1 => self.api_version = value.text("apiVersion")?,
                2 => self.kind = value.text("kind")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// `api_version` and `kind` are what the object is of where it does not say it.
pub(super) fn envelope(
    bytes: &[u8],
    (api_version, kind): (&str, &str),
    resolve: Resolve<'_>,
    depth: usize,
) -> Result<Value, ProtobufError> {
    let envelope = Envelope::parse(bytes)?;
    let api_version = if envelope.api_version.is_empty() { api_version } else { envelope.api_version };
    let kind = if envelope.kind.is_empty() { kind } else { envelope.kind };
    let model = resolve(api_version, kind)
        .ok_or_else(|| ProtobufError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() })?;
    let mut fields = Map::new();
    for (name, text) in [("apiVersion", api_version), ("kind", kind)] {
        if !text.is_empty() {
            fields.insert(name.to_owned(), Value::from(text));
        }
    }
    let decoder = Decoder { schema: model.schema(), resolve };
    decoder.structure(model.root(), envelope.object, &mut fields, depth)?;
    settled(Value::Object(fields), &model)
}

struct Decoder<'a> {
    schema: &'a Schema,
    resolve: Resolve<'a>,
}

impl Decoder<'_> {
    /// Adds the fields of `message` to `object`; numbers that the table does not know are skipped.
    fn structure(
        &self,
        id: TypeId,
        message: &[u8],
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if depth > DEEPEST {
            return Err(ProtobufError::TooDeep);
        }
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.next_field()? {
            if let Some(field) = self.schema.wire_field(id, number) {
                self.field(field, value, object, depth)?;
            }
        }
        Ok(())
    }

    fn field(
        &self,
        field: &Field,
        wire: Wire<'_>,
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let name = &*field.json;
        match &field.shape {
            Shape::Struct(inner) if field.is_inline() => self.structure(*inner, wire.payload(name)?, object, depth + 1),
            Shape::Struct(inner) => {
                let fields = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(fields) = fields else { return Ok(()) };
                // A message that comes in two parts is the sum of both.
                self.structure(*inner, wire.payload(name)?, fields, depth + 1)
            }
            Shape::List(item) => {
                let list = object.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                let Value::Array(list) = list else { return Ok(()) };
                self.items(item, name, wire, list, depth)
            }
            Shape::Map(item) => {
                let map = object.entry(name).or_insert_with(|| Value::Object(Map::new()));
                let Value::Object(map) = map else { return Ok(()) };
                let (key, value) = self.entry(item, name, wire.payload(name)?, depth)?;
                map.insert(key, value);
                Ok(())
            }
            shape => {
                let value = self.value(shape, name, wire, depth)?;
                // Most scalars on the wire are zeros that the document leaves out.
                if field.omit_empty && !field.pointer && is_zero(shape, &value) {
                    object.remove(name);
                } else {
                    object.insert(name.to_owned(), value);
                }
                Ok(())
            }
        }
    }

    /// One item, or several integers packed in one field.
    fn items(
        &self,
        item: &Shape,
        name: &str,
        wire: Wire<'_>,
        list: &mut Vec<Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        if let (Shape::Bool | Shape::Int32 | Shape::Int64, Wire::Delimited(packed)) = (item, wire) {
            let mut reader = Reader::new(packed);
            while !reader.is_empty() {
                list.push(self.value(item, name, Wire::Varint(reader.varint()?), depth)?);
            }
            return Ok(());
        }
        list.push(self.value(item, name, wire, depth)?);
        Ok(())
    }

    fn entry(&self, shape: &Shape, name: &str, message: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
        let (mut key, mut value) = (String::new(), Value::Null);
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.next_field()? {
            match number {
                1 => wire.text(name)?.clone_into(&mut key),
                2 => value = self.value(shape, name, wire, depth)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    fn value(&self, shape: &Shape, name: &str, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
        Ok(match shape {
            Shape::Bool => Value::from(wire.integer(name)? != 0),
            Shape::Int32 => Value::from(wire.integer(name)? as i32),
            Shape::Int64 => Value::from(wire.integer(name)?),
            Shape::Double => Value::from(wire.double(name)?),
            Shape::String => Value::from(wire.text(name)?),
            Shape::Bytes => Value::from(to_base64(wire.payload(name)?)),
            Shape::Quantity => Value::from(first_text(wire.payload(name)?, name)?.unwrap_or("0")),
            Shape::IntOrString => int_or_string(wire.payload(name)?, name)?,
            Shape::Time => timestamp(wire.payload(name)?, name)?.map_or(Value::Null, |at| time::format(at).into()),
            Shape::MicroTime => {
                timestamp(wire.payload(name)?, name)?.map_or(Value::Null, |at| time::format_micro(at).into())
            }
            Shape::Duration => {
                let nanos = integers(wire.payload(name)?, name)?[0].unwrap_or_default();
                Value::from(Duration::from_nanos(nanos).to_string())
            }
            Shape::RawExtension | Shape::Json | Shape::FieldsV1 => {
                self.embedded(first_payload(wire.payload(name)?, name)?, name, depth)?
            }
            Shape::Struct(id) => {
                let mut object = Map::new();
                self.structure(*id, wire.payload(name)?, &mut object, depth + 1)?;
                Value::Object(object)
            }
            Shape::StringList => {
                let mut list = Vec::new();
                let mut reader = Reader::new(wire.payload(name)?);
                while let Some((number, item)) = reader.next_field()? {
                    if number == 1 {
                        list.push(Value::from(item.text(name)?));
                    }
                }
                Value::Array(list)
            }
            Shape::SchemaOr(alternative, props) => {
                self.schema_or(*alternative, *props, wire.payload(name)?, name, depth)?
            }
            // Neither lists of lists nor maps of maps exist on the wire.
            Shape::List(_) | Shape::Map(_) => Value::Null,
        })
    }

    /// JSON, or another object in protobuf, within bytes.
    fn embedded(&self, raw: Option<&[u8]>, name: &str, depth: usize) -> Result<Value, ProtobufError> {
        match raw {
            None => Ok(Value::Null),
            Some(raw) if raw.starts_with(PREFIX) && depth < DEEPEST => envelope(raw, ("", ""), self.resolve, depth + 1),
            Some(raw) => {
                let document = json::parse(raw);
                let not_json =
                    |why: json::JsonError| ProtobufError::NotJson { field: name.to_owned(), why: why.to_string() };
                Ok(document.map_err(not_json)?.value)
            }
        }
    }

    fn schema_or(
        &self,
        alternative: SchemaAlternative,
        props: TypeId,
        message: &[u8],
        name: &str,
        depth: usize,
    ) -> Result<Value, ProtobufError> {
        let (mut allows, mut schema, mut items) = (false, None, Vec::new());
        let mut reader = Reader::new(message);
        while let Some((number, wire)) = reader.next_field()? {
            let item = match (alternative, number) {
                (SchemaAlternative::Bool, 1) => {
                    allows = wire.integer(name)? != 0;
                    continue;
                }
                (SchemaAlternative::Strings, 2) => Value::from(wire.text(name)?),
                (_, 1 | 2) => self.value(&Shape::Struct(props), name, wire, depth)?,
                _ => continue,
            };
            match (alternative, number) {
                (SchemaAlternative::Bool, _) | (_, 1) => schema = Some(item),
                _ => items.push(item),
            }
        }
        Ok(match (alternative, schema) {
            (SchemaAlternative::Bool, None) => Value::Bool(allows),
            // Upstream writes the list where there is one, else the schema.
            (_, schema) if items.is_empty() => schema.unwrap_or_default(),
            _ => Value::Array(items),
        })
    }
}

/// Field 1 of a message that wraps text or bytes.
fn first_payload<'a>(message: &'a [u8], name: &str) -> Result<Option<&'a [u8]>, ProtobufError> {
    let mut found = None;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next_field()? {
        if number == 1 {
            found = Some(value.payload(name)?);
        }
    }
    Ok(found)
}

fn first_text<'a>(message: &'a [u8], name: &str) -> Result<Option<&'a str>, ProtobufError> {
    let text = first_payload(message, name)?.map(std::str::from_utf8).transpose();
    text.map_err(|_| ProtobufError::NotText(name.to_owned()))
}

/// Fields 1 and 2 of a message that holds integers.
fn integers(message: &[u8], name: &str) -> Result<[Option<i64>; 2], ProtobufError> {
    let mut found = [None; 2];
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next_field()? {
        if let number @ (1 | 2) = number {
            found[number as usize - 1] = Some(value.integer(name)?);
        }
    }
    Ok(found)
}

/// An empty message is Go's zero time.
fn timestamp(message: &[u8], name: &str) -> Result<Option<Timestamp>, ProtobufError> {
    if message.is_empty() {
        return Ok(None);
    }
    let [seconds, nanos] = integers(message, name)?;
    let nanos = nanos.and_then(|nanos| i32::try_from(nanos).ok()).unwrap_or_default();
    let time = Timestamp::new(seconds.unwrap_or_default(), nanos);
    time.map(Some).map_err(|_| ProtobufError::TimeOutOfRange(name.to_owned()))
}

fn int_or_string(message: &[u8], name: &str) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader::new(message);
    while let Some((at, value)) = reader.next_field()? {
        match at {
            1 => is_text = value.integer(name)? != 0,
            2 => number = value.integer(name)? as i32,
            3 => text = value.text(name)?,
            _ => {}
        }
    }
    Ok(if is_text { Value::from(text) } else { Value::from(number) })
}
