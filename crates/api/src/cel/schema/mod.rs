//! Schemas as expressions see them: the types of values, and how large they may be.
//!
//! A [`Shape`] is made of the OpenAPI schema of a custom resource or of the table of built-in types. It declares the
//! types of variables, turns documents into values and bounds the static estimate of costs, by the sizes that the
//! schema states or that a request of 3 MiB allows (`k8s.io/apiserver/pkg/cel/common/schemas.go`).

mod builtin;
mod devices;
mod openapi;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cost::SizeEstimate;
use super::names::escape;
use super::types::Type;
use super::value::ListSemantics;

/// The largest request that is accepted, in bytes.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;

/// What a schema says of values.
#[derive(Clone, Debug)]
pub struct Shape {
    pub(super) kind: ShapeKind,
    /// The most characters, bytes, items or entries; 0 for what has no size.
    pub(super) max_elements: u64,
    /// The fewest bytes that a value takes in JSON.
    pub(super) min_size: u64,
    pub(super) nullable: bool,
}

#[derive(Clone, Debug)]
pub(super) enum ShapeKind {
    /// Anything, which expressions see as it stands.
    Open,
    IntOrString,
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    Date,
    DateTime,
    List {
        items: Box<Shape>,
        semantics: Semantics,
    },
    Map(Box<Shape>),
    /// By names of no more than so many characters.
    Names {
        longest: u64,
        values: Box<Shape>,
        /// Whether a path may also step into it as into an object.
        as_fields: bool,
    },
    /// By the names that expressions use.
    Object(BTreeMap<Arc<str>, Field>),
}

/// `x-kubernetes-list-type`
#[derive(Clone, Debug)]
pub(super) enum Semantics {
    Atomic,
    Set,
    /// By these fields, as expressions write them.
    Map(Vec<Arc<str>>),
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    /// The name in documents.
    pub(super) json: Arc<str>,
    pub(super) shape: Shape,
}

impl Semantics {
    pub(super) fn view(&self) -> ListSemantics<'_> {
        match self {
            Self::Atomic => ListSemantics::Atomic,
            Self::Set => ListSemantics::Set,
            Self::Map(keys) => ListSemantics::Map(keys),
        }
    }

    fn map<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        Self::Map(keys.into_iter().map(|key| escape(key).unwrap_or(key.to_owned()).into()).collect())
    }
}

impl Shape {
    fn new(kind: ShapeKind, max_elements: u64, min_size: u64) -> Self {
        Self { kind, max_elements, min_size, nullable: false }
    }

    /// Anything.
    fn open() -> Self {
        Self::new(ShapeKind::Open, MAX_REQUEST - 2, 1)
    }

    fn text() -> Self {
        Self::new(ShapeKind::String, MAX_REQUEST - 2, 2)
    }

    fn list(items: Shape, semantics: Semantics, max_items: Option<u64>) -> Self {
        let max = max_items.unwrap_or((MAX_REQUEST - 2) / (items.min_size + 1));
        Self::new(ShapeKind::List { items: Box::new(items), semantics }, max, 2)
    }

    fn map(values: Shape, max_properties: Option<u64>) -> Self {
        // A key with its quotes, a colon and a comma besides the value.
        let max = max_properties.unwrap_or((MAX_REQUEST - 2) / (values.min_size + 6));
        Self::new(ShapeKind::Map(Box::new(values)), max, 2)
    }

    fn object(fields: BTreeMap<Arc<str>, Field>, min_size: u64) -> Self {
        Self::new(ShapeKind::Object(fields), 0, min_size)
    }

    /// How many values of this schema a request can hold at most: what the cost of a rule is multiplied by that
    /// stands below a list or map without a stated size.
    pub fn max_cardinality(&self) -> u64 {
        MAX_REQUEST / (self.min_size + 1)
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self.kind, ShapeKind::Object(_))
    }

    /// The field that expressions call so: its name in documents, and its shape.
    pub(super) fn field(&self, name: &str) -> Option<(&str, &Shape)> {
        match &self.kind {
            ShapeKind::Object(fields) => {
                // Words that the language reserves may also be written plainly, where the grammar lets them.
                let field = fields.get(name).or_else(|| fields.get(format!("__{name}__").as_str()));
                field.map(|field| (&*field.json, &field.shape))
            }
            _ => None,
        }
    }

    /// The shape of what a document has under this name.
    pub(super) fn member(&self, json: &str) -> Option<&Shape> {
        match &self.kind {
            ShapeKind::Map(values) | ShapeKind::Names { values, .. } => Some(values),
            ShapeKind::Object(fields) => match fields.get(json) {
                Some(field) if *field.json == *json => Some(&field.shape),
                _ => fields.get(&*escape(json)?).map(|field| &field.shape),
            },
            _ => None,
        }
    }

    /// The type of values; objects are declared by names below `name`.
    pub(super) fn declare(&self, name: &str, sink: &mut dyn FnMut(Arc<str>, BTreeMap<Arc<str>, Type>)) -> Type {
        match &self.kind {
            ShapeKind::Open | ShapeKind::IntOrString => Type::Dyn,
            ShapeKind::Bool => Type::Bool,
            ShapeKind::Int => Type::Int,
            ShapeKind::Double => Type::Double,
            ShapeKind::String => Type::String,
            ShapeKind::Bytes => Type::Bytes,
            ShapeKind::Duration => Type::Duration,
            ShapeKind::Date | ShapeKind::DateTime => Type::Timestamp,
            ShapeKind::List { items, .. } => Type::list(items.declare(&format!("{name}.@idx"), sink)),
            ShapeKind::Map(values) | ShapeKind::Names { values, .. } => {
                Type::map(Type::String, values.declare(&format!("{name}.@elem"), sink))
            }
            ShapeKind::Object(fields) => {
                let mut declared = BTreeMap::new();
                for (field, Field { shape, .. }) in fields {
                    declared.insert(field.clone(), shape.declare(&format!("{name}.{field}"), sink));
                }
                let name: Arc<str> = name.into();
                sink(name.clone(), declared);
                Type::Object(name)
            }
        }
    }

    /// The size of what a path of fields leads to; `@items`, `@values` and `@keys` step into lists and maps.
    pub(super) fn size_at<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> Option<SizeEstimate> {
        let mut shape = self;
        let mut path = path.into_iter();
        while let Some(name) = path.next() {
            shape = match (&shape.kind, name) {
                (ShapeKind::List { items, .. }, "@items" | "@values") => items,
                (ShapeKind::Map(values) | ShapeKind::Names { values, .. }, "@items" | "@values") => values,
                (ShapeKind::Names { longest, .. }, "@keys") => {
                    return path.next().is_none().then_some(SizeEstimate { min: 0, max: *longest });
                }
                (ShapeKind::Names { values, as_fields: true, .. }, _) => values,
                // Keys are strings, of which the size is not stated; nothing is below them.
                (ShapeKind::Map(_), "@keys") => {
                    return path.next().is_none().then_some(SizeEstimate { min: 0, max: 0 });
                }
                (_, name) => shape.field(name)?.1,
            };
        }
        Some(SizeEstimate { min: 0, max: shape.max_elements })
    }
}
