//! Documents to values, by their schema, and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::container::{Items, List, ListSemantics, Map, Members};
use super::{EvaluationError, Key, Time, Value};
use crate::cel::library;
use crate::cel::schema::{Shape, ShapeKind};

impl<'a> Value<'a> {
    /// A view of a document that has no schema: whole numbers are ints, others doubles.
    pub fn json(value: &'a Json) -> Self {
        match value {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => {
                number.as_i64().map_or_else(|| Self::Double(number.as_f64().unwrap_or_default()), Self::Int)
            }
            Json::String(text) => Self::text(text.as_str()),
            Json::Array(items) => {
                Self::List(List { items: Items::Document(items, None), semantics: ListSemantics::Atomic })
            }
            Json::Object(members) => Self::Map(Map { members: Members::Document(members, None) }),
        }
    }

    /// A view of a document through its schema.
    pub fn shaped(value: &'a Json, shape: &'a Shape) -> Result<Self, EvaluationError> {
        Self::document(value, Some(shape))
    }

    pub(in crate::cel) fn document(value: &'a Json, shape: Option<&'a Shape>) -> Result<Self, EvaluationError> {
        let Some(shape) = shape else {
            return Ok(Self::json(value));
        };
        if value.is_null() {
            return match shape.nullable {
                true => Ok(Self::Null),
                false => Err(EvaluationError::failed("invalid data, got null for schema with nullable=false")),
            };
        }
        let wrong = |expected: &str| {
            EvaluationError::failed(format_args!("invalid data, expected {expected}, got {}", go_type(value)))
        };
        let text = || value.as_str().ok_or_else(|| wrong("string"));
        match &shape.kind {
            ShapeKind::Open => Ok(Self::json(value)),
            ShapeKind::IntOrString => match (value.as_str(), value.as_i64()) {
                (Some(text), _) => Ok(Self::text(text)),
                (None, Some(number)) => Ok(Self::Int(number)),
                _ => Err(EvaluationError::failed(
                    "invalid data, expected XIntOrString value to be either a string or integer",
                )),
            },
            ShapeKind::Bool => value.as_bool().map(Self::Bool).ok_or_else(|| wrong("bool")),
            ShapeKind::Int => value.as_i64().map(Self::Int).ok_or_else(|| wrong("int")),
            ShapeKind::Double => value.as_f64().map(Self::Double).ok_or_else(|| wrong("float")),
            ShapeKind::String => Ok(Self::text(text()?)),
            ShapeKind::Bytes => bytes(text()?),
            ShapeKind::Duration => library::times::schema_duration(text()?),
            ShapeKind::Date => library::times::schema_date(text()?),
            ShapeKind::DateTime => library::times::schema_date_time(text()?),
            ShapeKind::List { items, semantics } => {
                let wrong = "invalid data, expected an array for the provided schema with type=array";
                let found = value.as_array().ok_or_else(|| EvaluationError::failed(wrong))?;
                let semantics = semantics.view();
                Ok(Self::List(List { items: Items::Document(found, Some(items)), semantics }))
            }
            ShapeKind::Map(_) | ShapeKind::Names { .. } | ShapeKind::Object(_) => {
                let wrong = "invalid data, expected a map for the provided schema with type=object";
                let found = value.as_object().ok_or_else(|| EvaluationError::failed(wrong))?;
                Ok(Self::Map(Map { members: Members::Document(found, Some(shape)) }))
            }
        }
    }

    /// The document of a value, as patches and audit annotations need it; none for what JSON cannot hold.
    pub fn to_json(&self) -> Result<Json, EvaluationError> {
        let none = || EvaluationError::failed(format_args!("a {} has no JSON form", self.type_name()));
        Ok(match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::from(*value),
            Self::Int(value) => Json::from(*value),
            Self::Uint(value) => Json::from(*value),
            Self::Double(value) => serde_json::Number::from_f64(*value).map(Json::Number).ok_or_else(none)?,
            Self::String(text) => Json::from(&**text),
            Self::Bytes(bytes) => Json::from(STANDARD.encode(bytes)),
            Self::List(list) => match &list.items {
                Items::Document(items, _) => Json::Array(items.to_vec()),
                Items::Owned(items) => items.iter().map(Value::to_json).collect::<Result<Vec<Json>, _>>()?.into(),
            },
            Self::Map(map) => match &map.members {
                Members::Document(members, _) => Json::Object((*members).clone()),
                _ => {
                    let entry = |entry: Result<(Key, Value<'_>), _>| {
                        entry.and_then(|(key, value)| Ok((key.to_text(), value.to_json()?)))
                    };
                    Json::Object(map.iter().map(entry).collect::<Result<_, EvaluationError>>()?)
                }
            },
            Self::Object(object) => {
                let field = |(name, value): &(Arc<str>, Value<'_>)| Ok((name.to_string(), value.to_json()?));
                Json::Object(object.fields.iter().map(field).collect::<Result<_, EvaluationError>>()?)
            }
            Self::Timestamp(time) => Json::from(time.to_string()),
            Self::Duration(nanos) => Json::from(library::times::duration_text(*nanos)),
            Self::Quantity(quantity) => Json::from(quantity.to_string()),
            Self::Address(address) => Json::from(address.to_string()),
            Self::Cidr(cidr) => Json::from(cidr.to_string()),
            Self::Url(url) => Json::from(url.to_string()),
            Self::Semver(version) => Json::from(version.to_string()),
            Self::Optional(Some(value)) => value.to_json()?,
            Self::Optional(None) => Json::Null,
            Self::Type(_) | Self::Format(_) | Self::Authorizer(_) => return Err(none()),
        })
    }
}

impl<'a> FromIterator<(String, Value<'a>)> for Map<'a> {
    fn from_iter<I: IntoIterator<Item = (String, Value<'a>)>>(entries: I) -> Self {
        Map::owned(entries.into_iter().map(|(key, value)| (Key::String(key), value)).collect::<BTreeMap<_, _>>())
    }
}

impl From<Time> for Value<'_> {
    fn from(time: Time) -> Self {
        Self::Timestamp(time)
    }
}

fn bytes<'a>(text: &str) -> Result<Value<'a>, EvaluationError> {
    let decoded = STANDARD
        .decode(text)
        .map_err(|error| EvaluationError::failed(format_args!("Invalid byte formatted string {text}: {error}")))?;
    Ok(Value::Bytes(decoded.into()))
}

/// What Go calls the type of a decoded value.
fn go_type(value: &Json) -> &'static str {
    match value {
        Json::Null => "<nil>",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_i64() => "int64",
        Json::Number(_) => "float64",
        Json::String(_) => "string",
        Json::Array(_) => "[]interface {}",
        Json::Object(_) => "map[string]interface {}",
    }
}
