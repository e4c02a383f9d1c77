//! Where in a document something is wrong, and how Go's decoder says so.

use serde_json::Value;

use crate::duration::DurationError;
use crate::quantity::QuantityError;
use crate::schema::{Field, Type};
use crate::time::TimeError;

/// Why a document is not an object of its kind, in the words of Go's decoder.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error("json: cannot unmarshal {found} into Go value of type {expected}")]
    WrongRoot { found: String, expected: String },
    /// `structure` is the Go struct that has the field, `field` the path from the root in JSON names.
    #[error("json: cannot unmarshal {found} into Go struct field {structure}.{field} of type {expected}")]
    WrongType { found: String, structure: String, field: String, expected: String },
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error(transparent)]
    Time(#[from] TimeError),
    #[error(transparent)]
    Duration(#[from] DurationError),
    #[error("illegal base64 data at input byte {0}")]
    Base64(usize),
    #[error("boolean or JSON schema expected")]
    NotBooleanOrSchema,
}

/// A path into a document, each step on the stack of the call that made it.
#[derive(Debug)]
pub struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Debug)]
enum Step<'a> {
    Root,
    /// `go` is what Go calls the type, where that is not of its shape.
    Field {
        name: &'a str,
        owner: &'a Type,
        go: Option<&'static str>,
    },
    /// A struct whose fields JSON has in place of itself.
    Embedded(&'a Type),
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    pub(super) fn root() -> Self {
        Self { parent: None, step: Step::Root }
    }

    pub(super) fn field(&'a self, field: &'a Field, owner: &'a Type) -> Self {
        Self { parent: Some(self), step: Step::Field { name: &field.json, owner, go: field.go } }
    }

    pub(super) fn embedded(&'a self, ty: &'a Type) -> Self {
        Self { parent: Some(self), step: Step::Embedded(ty) }
    }

    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key) }
    }

    pub(super) fn index(&'a self, at: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(at) }
    }

    /// `spec.containers[0].name`
    pub(super) fn path_to(&self, name: &str) -> String {
        let mut path = String::new();
        self.write_path(&mut path);
        push_name(&mut path, name);
        path
    }

    /// `/spec/containers/0/name`
    pub(super) fn pointer(&self) -> String {
        let mut out = self.parent.map(Place::pointer).unwrap_or_default();
        match self.step {
            Step::Root | Step::Embedded(_) => {}
            Step::Field { name, .. } | Step::Key(name) => {
                out.push('/');
                out.push_str(&name.replace('~', "~0").replace('/', "~1"));
            }
            Step::Index(at) => out.push_str(&format!("/{at}")),
        }
        out
    }

    fn write_path(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_path(out);
        }
        match self.step {
            Step::Root | Step::Embedded(_) => {}
            Step::Field { name, .. } | Step::Key(name) => push_name(out, name),
            Step::Index(at) => {
                out.push('[');
                out.push_str(&at.to_string());
                out.push(']');
            }
        }
    }

    /// The path as Go's type errors have it: struct fields, those that are embedded too, neither indices nor keys of maps.
    fn write_fields(&self, out: &mut String) {
        if let Some(parent) = self.parent {
            parent.write_fields(out);
        }
        match self.step {
            Step::Field { name, .. } => push_name(out, name),
            Step::Embedded(ty) => push_name(out, go_name(&ty.name).1),
            _ => {}
        }
    }

    /// What Go calls the type of what stands here, where that is not of its shape.
    pub(super) fn go(&self) -> Option<&'static str> {
        match self.step {
            Step::Field { go, .. } => go,
            Step::Index(_) => self.parent?.go()?.strip_prefix("[]"),
            Step::Key(_) => Some(self.parent?.go()?.strip_prefix("map[")?.split_once(']')?.1),
            _ => None,
        }
    }

    /// The innermost struct.
    fn owner(&self) -> Option<&'a Type> {
        match self.step {
            Step::Field { owner, .. } => Some(owner),
            _ => self.parent?.owner(),
        }
    }
}

fn push_name(out: &mut String, name: &str) {
    if !out.is_empty() {
        out.push('.');
    }
    out.push_str(name);
}

impl DecodeError {
    /// `found` stands where Go expects a value of its type `expected`.
    pub(super) fn wrong_type(found: &Value, expected: impl Into<String>, place: &Place<'_>) -> Self {
        let kind = match found {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        Self::unexpected(kind.to_owned(), expected, place)
    }

    /// `found` is a number that does not fit Go's integer type `expected`.
    pub(super) fn wrong_number(found: &Value, expected: impl Into<String>, place: &Place<'_>) -> Self {
        Self::unexpected(format!("number {found}"), expected, place)
    }

    fn unexpected(found: String, expected: impl Into<String>, place: &Place<'_>) -> Self {
        let expected = place.go().map_or_else(|| expected.into(), str::to_owned);
        match place.owner() {
            None => Self::WrongRoot { found, expected },
            Some(owner) => {
                let mut field = String::new();
                place.write_fields(&mut field);
                Self::WrongType { found, structure: go_name(&owner.name).1.to_owned(), field, expected }
            }
        }
    }
}

/// Go's package and type name of `io.k8s.api.core.v1.PodSpec`: `v1` and `PodSpec`.
pub(super) fn go_name(definition: &str) -> (&str, &str) {
    let (path, name) = definition.rsplit_once('.').unwrap_or(("", definition));
    (path.rsplit('.').next().unwrap_or_default(), name)
}
