//! What a value is at each place of an object: the schema as merging and comparing see it
//! (`structured-merge-diff/schema`).
//!
//! A place holds a scalar, a list or a map, and for lists and maps it matters whether they are owned as a whole.
//! Where the schema says nothing (embedded objects, unknown fields of live objects) the value itself tells: maps are
//! granular, lists are owned as a whole. Upstream calls that *deduced*. What is embedded raw is owned as a whole,
//! whatever it is.

use serde_json::Value;

use super::field_set::{Scalar, Step};
use crate::schema::{ListKind, Model, Schema, Shape, TypeId};

/// The declared type of a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ty<'s> {
    Declared(&'s Shape, &'s ListKind),
    Root(TypeId),
    Deduced,
}

/// The form of a value at a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Atom<'s> {
    Scalar(ScalarKind),
    List(ListAtom<'s>),
    Map(MapAtom<'s>),
    /// Whatever the value is.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Bool,
    Number,
    String,
    Untyped,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct ListAtom<'s> {
    pub(super) item: Ty<'s>,
    pub(super) kind: &'s ListKind,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct MapAtom<'s> {
    /// The struct whose fields are declared.
    fields: Option<TypeId>,
    /// What else may be in it.
    entry: Option<Ty<'s>>,
    pub(super) atomic: bool,
}

const UNSTATED: &ListKind = &ListKind::Unstated;

/// The schema of one kind.
pub(super) struct Typing<'s> {
    pub(super) schema: &'s Schema,
    root: TypeId,
}

impl<'s> Typing<'s> {
    pub(super) fn new(model: &'s Model) -> Self {
        Self { schema: model.schema(), root: model.root() }
    }

    pub(super) fn root(&self) -> Ty<'s> {
        Ty::Root(self.root)
    }

    /// The form of `value` at a place of type `ty`.
    pub(super) fn atom(&self, ty: Ty<'s>, value: Option<&Value>) -> Atom<'s> {
        match (ty, self.declared_atom(ty)) {
            (Ty::Declared(Shape::RawExtension, _), _) => raw(value),
            (_, Atom::Any) => deduced(value),
            (_, atom) => atom,
        }
    }

    fn declared_atom(&self, ty: Ty<'s>) -> Atom<'s> {
        let (shape, kind) = match ty {
            Ty::Deduced => return Atom::Any,
            Ty::Root(id) => return self.struct_atom(id, UNSTATED),
            Ty::Declared(shape, kind) => (shape, kind),
        };
        match shape {
            Shape::Bool => Atom::Scalar(ScalarKind::Bool),
            Shape::Int32 | Shape::Int64 | Shape::Double => Atom::Scalar(ScalarKind::Number),
            Shape::String | Shape::Bytes | Shape::Duration => Atom::Scalar(ScalarKind::String),
            Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime => Atom::Scalar(ScalarKind::Untyped),
            Shape::RawExtension => raw(None),
            Shape::FieldsV1 => Atom::Map(DEDUCED_MAP),
            Shape::Json | Shape::SchemaOr(..) => Atom::Any,
            Shape::Struct(id) => self.struct_atom(*id, kind),
            Shape::List(item) => Atom::List(ListAtom { item: Ty::Declared(item, UNSTATED), kind }),
            Shape::StringList => Atom::List(ListAtom { item: Ty::Declared(&Shape::String, UNSTATED), kind }),
            Shape::Map(entry) => Atom::Map(MapAtom {
                fields: None,
                entry: Some(Ty::Declared(entry, UNSTATED)),
                atomic: *kind == ListKind::Atomic,
            }),
        }
    }

    fn struct_atom(&self, id: TypeId, kind: &ListKind) -> Atom<'s> {
        let ty = self.schema.get(id);
        Atom::Map(MapAtom {
            fields: Some(id),
            entry: ty.preserve_unknown.then_some(Ty::Deduced),
            atomic: (ty.atomic && *kind != ListKind::Granular) || *kind == ListKind::Atomic,
        })
    }

    /// The type of a map's declared field.
    pub(super) fn field(&self, map: MapAtom<'s>, key: &str) -> Option<Ty<'s>> {
        let field = self.schema.field(map.fields?, key)?;
        Some(Ty::Declared(&field.shape, &field.list))
    }

    /// The type of a map's field or entry, if it may have one of that name.
    pub(super) fn field_or_entry(&self, map: MapAtom<'s>, key: &str) -> Option<Ty<'s>> {
        self.field(map, key).or(map.entry)
    }

    /// The type of what a live object holds at `key`: what the schema does not know is deduced.
    pub(super) fn member(&self, map: MapAtom<'s>, key: &str) -> Ty<'s> {
        self.field_or_entry(map, key).unwrap_or(Ty::Deduced)
    }

    /// The type that a step leads to, as far as the schema tells without a value.
    pub(super) fn below(&self, ty: Ty<'s>, step: &Step) -> Option<Ty<'s>> {
        match step {
            Step::Field(name) => self.below_field(ty, name),
            Step::Key(_) | Step::Item(_) | Step::Index(_) => self.below_item(ty),
        }
    }

    pub(super) fn below_field(&self, ty: Ty<'s>, name: &str) -> Option<Ty<'s>> {
        match self.declared_atom(ty) {
            Atom::Map(map) => self.field_or_entry(map, name),
            Atom::Any => Some(Ty::Deduced),
            _ => None,
        }
    }

    pub(super) fn below_item(&self, ty: Ty<'s>) -> Option<Ty<'s>> {
        match self.declared_atom(ty) {
            Atom::List(list) => Some(list.item),
            Atom::Any => Some(Ty::Deduced),
            _ => None,
        }
    }

    /// True where the step names a declared field.
    pub(super) fn declares(&self, ty: Ty<'s>, step: &Step) -> bool {
        match (self.declared_atom(ty), step) {
            (Atom::Map(map), Step::Field(name)) => self.field(map, name).is_some(),
            _ => false,
        }
    }

    /// How an item of an associative list is named; else why it has no name.
    pub(super) fn item_step(&self, list: ListAtom<'s>, item: &Value) -> Result<Step, String> {
        match list.kind {
            ListKind::Map(keys) => self.keyed_step(list, keys, item),
            ListKind::Set => match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
                scalar => Ok(Step::Item(Scalar(scalar.clone()))),
            },
            ListKind::Unstated | ListKind::Atomic | ListKind::Granular => {
                Err("invalid indexing of non-associative list".to_owned())
            }
        }
    }

    fn keyed_step(&self, list: ListAtom<'s>, keys: &[crate::schema::Name], item: &Value) -> Result<Step, String> {
        let members = match item {
            Value::Object(members) => members,
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        };
        let mut named: Vec<(String, Scalar)> = Vec::with_capacity(keys.len());
        for key in keys {
            let value = members.get(key.as_ref()).cloned().or_else(|| self.default_of(list.item, key));
            if let Some(value) = value {
                named.push((key.clone().into_owned(), Scalar(value)));
            }
        }
        if named.is_empty() {
            let keys: Vec<String> = keys.iter().map(|key| crate::validation::quote(key)).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
                 values for any key fields)",
                keys.join(" ")
            ));
        }
        named.sort();
        Ok(Step::Key(named))
    }

    /// What a key has that an item leaves out: its declared default, or zero where Go always writes the field.
    fn default_of(&self, item: Ty<'s>, key: &str) -> Option<Value> {
        let Ty::Declared(Shape::Struct(id), _) = item else {
            return None;
        };
        let field = self.schema.field(*id, key)?;
        match (&field.default, &field.shape) {
            (Some(default), _) => Some((**default).clone()),
            _ if field.omit_empty || field.pointer => None,
            (None, Shape::String) => Some(Value::from("")),
            (None, Shape::Int32 | Shape::Int64 | Shape::Double) => Some(Value::from(0)),
            (None, Shape::Bool) => Some(Value::from(false)),
            _ => None,
        }
    }
}

impl ListAtom<'_> {
    pub(super) fn is_atomic(self) -> bool {
        !matches!(self.kind, ListKind::Set | ListKind::Map(_))
    }
}

impl MapAtom<'_> {
    /// True where the value alone tells what is in it.
    pub(super) fn is_deduced(self) -> bool {
        !self.atomic && self.fields.is_none() && matches!(self.entry, Some(Ty::Deduced))
    }
}

impl Atom<'_> {
    /// Whether two values at one place have the same form.
    pub(super) fn same_form(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

fn deduced<'s>(value: Option<&Value>) -> Atom<'s> {
    match value {
        None | Some(Value::Null) => Atom::Any,
        Some(Value::Array(_)) => Atom::List(ListAtom { item: Ty::Deduced, kind: &ListKind::Atomic }),
        Some(Value::Object(_)) => Atom::Map(DEDUCED_MAP),
        Some(_) => Atom::Scalar(ScalarKind::Untyped),
    }
}

/// What an object of no declared fields is in OpenAPI (`__untyped_atomic_`): of any form, and never in parts.
fn raw<'s>(value: Option<&Value>) -> Atom<'s> {
    match value {
        None | Some(Value::Null | Value::Object(_)) => Atom::Map(MapAtom { atomic: true, ..DEDUCED_MAP }),
        value => deduced(value),
    }
}

/// The form of an absent value of unknown type.
pub(super) const DEDUCED_MAP: MapAtom<'static> = MapAtom { fields: None, entry: Some(Ty::Deduced), atomic: false };

impl ScalarKind {
    /// Why `value` is not such a scalar. Absent and null are any.
    pub(super) fn refuse(self, value: Option<&Value>) -> Option<String> {
        let value = value.filter(|value| !value.is_null())?;
        let fits = match self {
            Self::Bool => value.is_boolean(),
            Self::Number => value.is_number(),
            Self::String => value.is_string(),
            Self::Untyped => !(value.is_array() || value.is_object()),
        };
        match (fits, self) {
            (true, _) => None,
            (_, Self::Bool) => Some(format!("expected boolean, got {}", printed(value))),
            (_, Self::Number) => Some(format!("expected numeric (int or float), got {}", go_type(value))),
            (_, Self::String) => {
                Some(format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value)))
            }
            (_, Self::Untyped) => Some(format!("expected any scalar, got {}", printed(value))),
        }
    }
}

/// A value as upstream's messages print it.
pub(super) fn printed(value: &Value) -> String {
    format!("&{{{}}}", go_text(value))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Go's `%v`.
fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => crate::validation::quote(text),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(go_syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> = members
                .iter()
                .map(|(key, value)| format!("{}:{}", crate::validation::quote(key), go_syntax(value)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}
