//! The types of expressions, as the checker finds them and as messages write them.

use std::fmt;
use std::sync::Arc;

/// A type. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// Of what does not type-check; goes with everything, so that one mistake is told once.
    Error,
    Dyn,
    /// As `Dyn`, but for loops: nobody says that it is a list or a map (`google.protobuf.Any`).
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// A type without fields, known by its name: `net.IP`, `optional_type(int)`.
    Opaque(Arc<str>, Arc<[Type]>),
    /// A type with fields, declared in the environment, or known by its functions alone (`kubernetes.Quantity`).
    Object(Arc<str>),
    /// The type of a type.
    Type(Option<Arc<Type>>),
    /// A parameter of a function, or what the checker does not know yet.
    Param(Arc<str>),
}

pub(super) const OPTIONAL: &str = "optional_type";

impl Type {
    pub fn list(item: Type) -> Self {
        Self::List(Arc::new(item))
    }

    pub fn map(key: Type, value: Type) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub fn optional(of: Type) -> Self {
        Self::Opaque(OPTIONAL.into(), Arc::new([of]))
    }

    pub fn object(name: &str) -> Self {
        Self::Object(name.into())
    }

    pub(super) fn of_type(of: Type) -> Self {
        Self::Type(Some(Arc::new(of)))
    }

    pub(super) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    pub(super) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any | Self::Error)
    }

    /// What an optional holds; the type itself where it is none.
    pub(super) fn unwrap_optional(&self) -> (&Type, bool) {
        match self {
            Self::Opaque(name, of) if &**name == OPTIONAL => (&of[0], true),
            other => (other, false),
        }
    }

    /// The types that this one is made of.
    pub(super) fn parameters(&self) -> &[Type] {
        match self {
            Self::List(item) => std::slice::from_ref(&**item),
            Self::Opaque(_, of) => of,
            Self::Type(Some(of)) => std::slice::from_ref(&**of),
            _ => &[],
        }
    }

    /// The name that `type()` gives to a value of this type.
    pub(super) fn runtime_name(&self) -> &str {
        match self {
            Self::Error => "error",
            Self::Dyn => "dyn",
            Self::Any => "google.protobuf.Any",
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "google.protobuf.Duration",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Opaque(name, _) | Self::Object(name) | Self::Param(name) => name,
            Self::Type(_) => "type",
        }
    }

    /// The type by the names of its values' types, where messages write it so.
    pub fn to_runtime_text(&self) -> String {
        let of: Vec<String> = match self {
            Self::Map(of) => vec![of.0.to_runtime_text(), of.1.to_runtime_text()],
            other => other.parameters().iter().map(Self::to_runtime_text).collect(),
        };
        match of.as_slice() {
            [] => self.runtime_name().to_owned(),
            of => format!("{}({})", self.runtime_name(), of.join(", ")),
        }
    }

    /// Whether values of the type are of one size.
    pub(super) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            Self::Opaque(name, of) if &**name == OPTIONAL => of[0].is_scalar(),
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Error => "!error!",
            Self::Any => "any",
            Self::Null => "null",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::Map(of) => return write!(out, "map({}, {})", of.0, of.1),
            other => other.runtime_name(),
        };
        out.write_str(name)?;
        for (at, parameter) in self.parameters().iter().enumerate() {
            write!(out, "{}{parameter}", if at == 0 { "(" } else { ", " })?;
        }
        out.write_str(if self.parameters().is_empty() { "" } else { ")" })
    }
}
