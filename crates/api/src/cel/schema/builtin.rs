//! Shapes of built-in kinds, by the table of their types: what policies are type-checked against.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Field, Semantics, Shape, ShapeKind};
use crate::cel::names::escape;
use crate::schema::{Field as TableField, ListKind, Model, Schema, Shape as TableShape, TypeId};

impl Shape {
    /// The shape of a built-in kind.
    pub fn of_model(model: &Model) -> Self {
        Table { schema: model.schema(), within: Vec::new() }.structure(model.root())
    }
}

struct Table<'s> {
    schema: &'s Schema,
    /// The types around the one at hand: one that is within itself (a schema) is open from there on.
    within: Vec<TypeId>,
}

impl Table<'_> {
    fn structure(&mut self, id: TypeId) -> Shape {
        if self.within.contains(&id) {
            return Shape::open();
        }
        self.within.push(id);
        let mut fields = BTreeMap::new();
        let min_size = 2 + self.fields(id, &mut fields);
        self.within.pop();
        if fields.is_empty() && self.schema.get(id).preserve_unknown {
            return Shape::open();
        }
        Shape::object(fields, min_size)
    }

    /// Adds the fields of a type, and says how much of the least size is theirs.
    fn fields(&mut self, id: TypeId, into: &mut BTreeMap<Arc<str>, Field>) -> u64 {
        let mut size = 0;
        for field in &self.schema.get(id).fields {
            if let (true, TableShape::Struct(inlined)) = (field.is_inline(), &field.shape) {
                size += self.fields(*inlined, into);
                continue;
            }
            let shape = self.field(field);
            if field.required && field.default.is_none() {
                size += field.json.len() as u64 + shape.min_size + 4;
            }
            if let Some(name) = escape(&field.json) {
                into.insert(name.into(), Field { json: (&*field.json).into(), shape });
            }
        }
        size
    }

    fn field(&mut self, field: &TableField) -> Shape {
        let mut shape = self.shape(&field.shape);
        if let ShapeKind::List { semantics, .. } = &mut shape.kind {
            *semantics = match &field.list {
                ListKind::Set => Semantics::Set,
                ListKind::Map(keys) => Semantics::map(keys.iter().map(|key| &**key)),
                _ => Semantics::Atomic,
            };
        }
        shape.nullable = field.nullable || field.pointer;
        shape
    }

    fn shape(&mut self, shape: &TableShape) -> Shape {
        match shape {
            TableShape::Bool => Shape::new(ShapeKind::Bool, 0, 4),
            TableShape::Int32 | TableShape::Int64 => Shape::new(ShapeKind::Int, 0, 1),
            TableShape::Double => Shape::new(ShapeKind::Double, 0, 1),
            TableShape::String | TableShape::Duration => Shape::text(),
            TableShape::Bytes => Shape { kind: ShapeKind::Bytes, ..Shape::text() },
            TableShape::Time | TableShape::MicroTime => Shape::new(ShapeKind::DateTime, 32, 21),
            TableShape::Quantity
            | TableShape::IntOrString
            | TableShape::RawExtension
            | TableShape::Json
            | TableShape::FieldsV1
            | TableShape::SchemaOr(..) => Shape::open(),
            TableShape::Struct(id) => self.structure(*id),
            TableShape::List(items) => Shape::list(self.shape(items), Semantics::Atomic, None),
            TableShape::Map(values) => Shape::map(self.shape(values), None),
            TableShape::StringList => Shape::list(Shape::text(), Semantics::Atomic, None),
        }
    }
}
