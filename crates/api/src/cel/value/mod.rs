//! What expressions compute with. Objects are looked at in place: nothing of a JSON document is copied until an
//! expression makes something new of it, and its parts become values when they are reached.

mod compare;
mod container;
mod convert;
mod error;
mod key;
mod text;

use std::sync::Arc;

use jiff::Timestamp;

use super::library::{Address, AuthorizerValue, Cidr, NamedFormat, Semver, Url};
use super::types::OPTIONAL;
use crate::quantity::Quantity;

pub(super) use container::{Items, ListSemantics, Members};
pub use container::{List, Map};
pub use error::EvaluationError;
pub use key::Key;
pub use text::Text;

/// A value.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    List(List<'a>),
    Map(Map<'a>),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(Time),
    /// The type of a value, by name.
    Type(Arc<str>),
    Optional(Option<Arc<Value<'a>>>),
    /// A message: what mutating policies construct.
    Object(Arc<Object<'a>>),
    Quantity(Arc<Quantity>),
    Address(Address),
    Cidr(Cidr),
    Url(Arc<Url>),
    Semver(Arc<Semver>),
    Format(&'static NamedFormat),
    Authorizer(Arc<AuthorizerValue<'a>>),
}

/// A moment, and the offset from UTC that it was written with, in seconds. Of the years 1 to 9999, of which
/// [`Timestamp`] lacks the last day, which means "never" to many.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// Since 1970.
    pub nanos: i128,
    pub offset: i32,
}

/// A constructed message.
#[derive(Debug)]
pub struct Object<'a> {
    pub name: Arc<str>,
    pub fields: Vec<(Arc<str>, Value<'a>)>,
}

impl From<Timestamp> for Time {
    fn from(at: Timestamp) -> Self {
        Self { nanos: at.as_nanosecond(), offset: 0 }
    }
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Text<'a>>) -> Self {
        Self::String(text.into())
    }

    pub fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::owned(items))
    }

    pub fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub const NONE: Value<'static> = Value::Optional(None);

    /// The name of the value's type.
    pub fn type_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::Optional(_) => OPTIONAL,
            Self::Object(object) => &object.name,
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Address(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(value) => value.type_name(),
        }
    }

    /// What cel-go's cost functions take for the size of a value.
    pub(super) fn cost_size(&self) -> u64 {
        match self {
            Self::String(text) => text.chars().count() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            Self::Optional(Some(value)) => value.cost_size(),
            Self::Address(address) => address.cost_size(),
            Self::Cidr(cidr) => cidr.cost_size(),
            _ => 1,
        }
    }

    /// Whether the value is the empty one of its type.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Null | Self::Optional(None) => true,
            Self::Bool(value) => !value,
            Self::Int(value) | Self::Duration(value) => *value == 0,
            Self::Uint(value) => *value == 0,
            Self::Double(value) => *value == 0.0,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::List(list) => list.is_empty(),
            Self::Map(map) => map.is_empty(),
            Self::Object(object) => object.fields.is_empty(),
            _ => false,
        }
    }
}
