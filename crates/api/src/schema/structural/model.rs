//! The schema as a [`Model`]: fields, shapes and how they merge, in an arena of its own.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::{Additional, Node, Type as JsonType};
use crate::schema::{Field, ListKind, Model, Schema, Shape, Type, TypeId, builtin};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

pub(super) fn build(root: &Node) -> Model {
    let mut builder = Builder { types: Vec::new(), object_meta: None };
    let id = builder.structure(root, true);
    Model::new(Arc::new(Schema::new(builder.types)), id)
}

struct Builder {
    types: Vec<Type>,
    /// The copy of the built-in ObjectMeta, once something needs it.
    object_meta: Option<TypeId>,
}

impl Builder {
    fn structure(&mut self, node: &Node, is_object: bool) -> TypeId {
        let id = self.reserve();
        let mut fields = Vec::new();
        if is_object {
            fields.push(Field::new("apiVersion", Shape::String));
            fields.push(Field::new("kind", Shape::String));
            fields.push(Field::new("metadata", Shape::Struct(self.object_meta())));
        }
        for (name, child) in &node.properties {
            // Embedded objects may state their metadata again.
            if is_object && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let shape = self.shape(child);
            fields.push(Field {
                list: if child.atomic { ListKind::Atomic } else { child.list.clone() },
                required: node.rules.required.contains(name),
                default: child.default.clone().map(Box::new),
                nullable: child.nullable,
                ..Field::new(name.clone(), shape)
            });
        }
        self.types[id.0 as usize] = Type {
            fields,
            atomic: node.atomic,
            preserve_unknown: node.preserve_unknown,
            structural: true,
            ..Type::default()
        };
        id
    }

    fn shape(&mut self, node: &Node) -> Shape {
        if node.int_or_string {
            return Shape::IntOrString;
        }
        match node.ty {
            Some(JsonType::Boolean) => Shape::Bool,
            Some(JsonType::String) => Shape::String,
            Some(JsonType::Number) => Shape::Double,
            Some(JsonType::Integer) if node.rules.format.as_deref() == Some("int32") => Shape::Int32,
            Some(JsonType::Integer) => Shape::Int64,
            Some(JsonType::Array) => {
                let item = node.items.as_ref().map_or(Shape::Json, |items| self.shape(items));
                Shape::List(Box::new(item))
            }
            Some(JsonType::Object) | None => self.object_shape(node),
        }
    }

    fn object_shape(&mut self, node: &Node) -> Shape {
        match &node.additional {
            Additional::Any => Shape::Map(Box::new(Shape::Json)),
            Additional::Schema(value) => Shape::Map(Box::new(self.shape(value))),
            Additional::Unstated if node.properties.is_empty() && node.preserve_unknown && !node.embedded => {
                Shape::Json
            }
            Additional::Unstated => Shape::Struct(self.structure(node, node.embedded)),
        }
    }

    fn reserve(&mut self) -> TypeId {
        self.types.push(Type::default());
        TypeId(self.types.len() as u32 - 1)
    }

    fn object_meta(&mut self) -> TypeId {
        if let Some(id) = self.object_meta {
            return id;
        }
        let source = builtin().id(OBJECT_META).expect("the table of built-ins has ObjectMeta: a test looks");
        let id = self.copy(source, &mut HashMap::new());
        self.object_meta = Some(id);
        id
    }

    /// Copies a built-in type and all that it refers to.
    fn copy(&mut self, source: TypeId, copied: &mut HashMap<TypeId, TypeId>) -> TypeId {
        if let Some(id) = copied.get(&source) {
            return *id;
        }
        let id = self.reserve();
        copied.insert(source, id);
        let mut ty = builtin().get(source).clone();
        for field in &mut ty.fields {
            self.move_shape(&mut field.shape, copied);
        }
        self.types[id.0 as usize] = ty;
        id
    }

    fn move_shape(&mut self, shape: &mut Shape, copied: &mut HashMap<TypeId, TypeId>) {
        match shape {
            Shape::Struct(id) | Shape::SchemaOr(_, id) => *id = self.copy(*id, copied),
            Shape::List(item) | Shape::Map(item) => self.move_shape(item, copied),
            _ => {}
        }
    }
}
