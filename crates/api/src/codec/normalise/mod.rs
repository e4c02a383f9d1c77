//! What upstream's typed decoding and encoding do to a document, done to the document itself.
//!
//! Fields that the schema does not know are dropped and reported; values of the wrong type are refused in the
//! words of Go's decoder; quantities, times and durations get their canonical text; nulls and zero values go or
//! stay as each field says. Without this an update that changes nothing would write, generations would move and
//! server-side apply would find conflicts with itself.
//!
//! Parts of a custom resource ([`Type::structural`]) are only pruned: what their values may be is the business of
//! [`schema::structural`](crate::schema), with messages of its own.

pub mod empties;
mod error;
mod scalars;
pub mod unstructured;

use serde_json::{Map, Value};

pub use empties::Empty;
pub use error::{DecodeError, Place};

use crate::schema::{Field, Model, Schema, SchemaAlternative, Shape, Type, TypeId};

/// What to do about fields that the schema does not know. They are dropped in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// `fieldValidation=Ignore`
    Ignore,
    /// `fieldValidation=Warn` and `Strict`: each is named, as `unknown field "spec.foo"`.
    Report,
}

/// Brings `value`, an object of `model`'s kind, to the form that upstream would write, and reports unknown fields.
pub fn normalise(value: &mut Value, model: &Model, mode: Unknown) -> Result<Vec<String>, DecodeError> {
    normalise_noting(value, model, mode).map(|(reports, _)| reports)
}

/// [`normalise`], which also tells what it emptied.
pub fn normalise_noting(
    value: &mut Value,
    model: &Model,
    mode: Unknown,
) -> Result<(Vec<String>, Vec<Empty>), DecodeError> {
    let mut normaliser = Normaliser { schema: model.schema(), mode, reports: Vec::new(), empties: Vec::new() };
    let place = Place::root();
    normaliser.structure(model.root(), value, &place)?;
    Ok((normaliser.reports, normaliser.empties))
}

/// The JSON that upstream writes for the zero value of a built-in type.
pub fn zero(schema: &Schema, shape: &Shape) -> Value {
    match shape {
        Shape::Bool => Value::Bool(false),
        Shape::Int32 | Shape::Int64 | Shape::Double | Shape::IntOrString => Value::from(0),
        Shape::String => Value::from(""),
        Shape::Quantity => Value::from("0"),
        Shape::Duration => Value::from("0s"),
        Shape::Struct(id) => Value::Object(zero_struct(schema, *id)),
        Shape::Bytes
        | Shape::Time
        | Shape::MicroTime
        | Shape::RawExtension
        | Shape::Json
        | Shape::FieldsV1
        | Shape::List(_)
        | Shape::Map(_)
        | Shape::StringList
        | Shape::SchemaOr(..) => Value::Null,
    }
}

fn zero_struct(schema: &Schema, id: TypeId) -> Map<String, Value> {
    let mut object = Map::new();
    for field in &schema.get(id).fields {
        match (&field.shape, field.is_inline()) {
            (Shape::Struct(inner), true) if !field.pointer => object.extend(zero_struct(schema, *inner)),
            _ if field.is_inline() || field.omit_empty => {}
            _ => {
                object.insert(field.json.to_string(), zero_field(schema, field));
            }
        }
    }
    object
}

fn zero_field(schema: &Schema, field: &Field) -> Value {
    if field.pointer { Value::Null } else { zero(schema, &field.shape) }
}

/// Whether Go's `omitempty` leaves this value out.
pub(super) fn is_zero(shape: &Shape, value: &Value) -> bool {
    match value {
        Value::Null => true,
        // To Go these are bytes, of which there are some.
        _ if matches!(shape, Shape::RawExtension | Shape::Json) => false,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        // A quantity or duration is a struct to Go, and never empty.
        Value::String(text) => text.is_empty() && matches!(shape, Shape::String | Shape::Bytes),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && matches!(shape, Shape::Map(_)),
    }
}

struct Normaliser<'m> {
    schema: &'m Schema,
    mode: Unknown,
    reports: Vec<String>,
    empties: Vec<Empty>,
}

impl<'m> Normaliser<'m> {
    fn structure(&mut self, id: TypeId, value: &mut Value, place: &Place<'_>) -> Result<(), DecodeError> {
        let ty = self.schema.get(id);
        let Value::Object(object) = value else {
            if !ty.structural {
                return Err(DecodeError::wrong_type(value, self.go_struct(ty), place));
            }
            // What a custom resource's value is instead, its schema judges.
            if !ty.preserve_unknown {
                self.drop_all(value, place);
            }
            return Ok(());
        };
        let mut known = 0;
        if ty.structural {
            self.structural_fields(ty, object, &mut known, place)?;
        } else {
            self.fields(ty, ty, object, &mut known, place)?;
        }
        if known < object.len() && !ty.preserve_unknown {
            self.drop_unknown(id, object, place);
        }
        Ok(())
    }

    /// Brings the fields of `ty`, and of what it embeds, to their form; `known` counts those that are there then.
    /// `owner` is the struct that embeds `ty`, which Go names in errors.
    fn fields(
        &mut self,
        ty: &'m Type,
        owner: &'m Type,
        object: &mut Map<String, Value>,
        known: &mut usize,
        place: &Place<'_>,
    ) -> Result<(), DecodeError> {
        for field in &ty.fields {
            if let (true, Shape::Struct(inner)) = (field.is_inline(), &field.shape) {
                let inner = self.schema.get(*inner);
                self.fields(inner, owner, object, known, &place.embedded(inner))?;
                continue;
            }
            let place = place.field(field, owner);
            match object.get_mut(&*field.json) {
                Some(value) if !value.is_null() => {
                    self.value(&field.shape, value, &place)?;
                    if !field.pointer && is_zero(&field.shape, value) {
                        let can_be_stated =
                            matches!(value, Value::Array(_) | Value::Object(_)) || field.shape == Shape::Bytes;
                        if can_be_stated && self.empties.len() < super::json::MOST_REPORTS {
                            self.empties.push(Empty {
                                pointer: place.pointer(),
                                stated: value.take(),
                                always_written: !field.omit_empty,
                            });
                        }
                        self.settle(field, object);
                    }
                }
                Some(_) => self.settle(field, object),
                None if field.omit_empty => continue,
                None => self.settle(field, object),
            }
            *known += usize::from(object.contains_key(&*field.json));
        }
        Ok(())
    }

    /// Leaves a field that is absent, null or zero as upstream writes it.
    fn settle(&self, field: &Field, object: &mut Map<String, Value>) {
        if field.omit_empty {
            object.remove(&*field.json);
        } else {
            object.insert(field.json.to_string(), zero_field(self.schema, field));
        }
    }

    fn structural_fields(
        &mut self,
        ty: &'m Type,
        object: &mut Map<String, Value>,
        known: &mut usize,
        place: &Place<'_>,
    ) -> Result<(), DecodeError> {
        for field in &ty.fields {
            if let Some(value) = object.get_mut(&*field.json) {
                *known += 1;
                self.structural_value(&field.shape, value, &place.field(field, ty))?;
            }
        }
        Ok(())
    }

    fn structural_value(&mut self, shape: &Shape, value: &mut Value, place: &Place<'_>) -> Result<(), DecodeError> {
        match (shape, value) {
            (_, Value::Null) => Ok(()),
            (Shape::Struct(id), value) => self.structure(*id, value, place),
            (Shape::List(item), Value::Array(items)) => items
                .iter_mut()
                .enumerate()
                .try_for_each(|(at, value)| self.structural_value(item, value, &place.index(at))),
            (Shape::Map(item), Value::Object(fields)) => {
                fields.iter_mut().try_for_each(|(key, value)| self.structural_value(item, value, &place.key(key)))
            }
            (Shape::Json | Shape::RawExtension | Shape::FieldsV1, _) => Ok(()),
            (_, value) => {
                self.drop_all(value, place);
                Ok(())
            }
        }
    }

    /// Where a schema speaks of no fields, none is known (upstream: `pruning.PruneWithOptions` without a schema).
    fn drop_all(&mut self, value: &mut Value, place: &Place<'_>) {
        match value {
            Value::Object(fields) => {
                for name in std::mem::take(fields).keys() {
                    self.report_unknown(name, place);
                }
            }
            Value::Array(items) => {
                items.iter_mut().enumerate().for_each(|(at, item)| self.drop_all(item, &place.index(at)));
            }
            _ => {}
        }
    }

    fn report_unknown(&mut self, name: &str, place: &Place<'_>) {
        if self.mode == Unknown::Report && self.reports.len() < super::json::MOST_REPORTS {
            self.reports.push(format!("unknown field {:?}", place.path_to(name)));
        }
    }

    fn drop_unknown(&mut self, id: TypeId, object: &mut Map<String, Value>, place: &Place<'_>) {
        object.retain(|name, _| {
            let known = self.schema.field(id, name).is_some();
            if !known {
                self.report_unknown(name, place);
            }
            known
        });
    }

    /// Brings a value that is not null to its form.
    fn value(&mut self, shape: &Shape, value: &mut Value, place: &Place<'_>) -> Result<(), DecodeError> {
        match (shape, &mut *value) {
            (Shape::Struct(id), value) => self.structure(*id, value, place),
            (Shape::List(item), Value::Array(items)) => {
                items.iter_mut().enumerate().try_for_each(|(at, value)| self.element(item, value, &place.index(at)))
            }
            (Shape::StringList, Value::Array(items)) => items
                .iter_mut()
                .enumerate()
                .try_for_each(|(at, value)| self.element(&Shape::String, value, &place.index(at))),
            (Shape::Map(item), Value::Object(fields)) => {
                fields.iter_mut().try_for_each(|(key, value)| self.element(item, value, &place.key(key)))?;
                // A ResourceList has nothing finer (upstream: `SetDefaults_ResourceList`).
                if **item == Shape::Quantity {
                    fields.values_mut().for_each(scalars::in_thousandths);
                }
                Ok(())
            }
            (Shape::SchemaOr(alternative, props), _) => self.schema_or(*alternative, *props, value, place),
            (Shape::Json | Shape::RawExtension | Shape::FieldsV1, _) => Ok(()),
            (Shape::List(_) | Shape::StringList | Shape::Map(_), _) => {
                Err(DecodeError::wrong_type(value, self.go_type(shape), place))
            }
            _ => scalars::canonical(shape, value, place),
        }
    }

    /// An item of a list or map, where null is the zero value.
    fn element(&mut self, shape: &Shape, value: &mut Value, place: &Place<'_>) -> Result<(), DecodeError> {
        if value.is_null() {
            *value = match shape {
                // These come back from protobuf as empty, not as null.
                Shape::Bytes => Value::from(""),
                Shape::StringList => Value::Array(Vec::new()),
                _ => zero(self.schema, shape),
            };
            return Ok(());
        }
        self.value(shape, value, place)
    }

    fn schema_or(
        &mut self,
        alternative: SchemaAlternative,
        props: TypeId,
        value: &mut Value,
        place: &Place<'_>,
    ) -> Result<(), DecodeError> {
        match (alternative, &mut *value) {
            (_, Value::Object(_)) => self.structure(props, value, place),
            (SchemaAlternative::Bool, Value::Bool(_)) => Ok(()),
            (SchemaAlternative::Schemas, Value::Array(_)) => {
                self.value(&Shape::List(Box::new(Shape::Struct(props))), value, place)
            }
            (SchemaAlternative::Strings, Value::Array(_)) => {
                self.value(&Shape::List(Box::new(Shape::String)), value, place)
            }
            (SchemaAlternative::Bool, _) => Err(DecodeError::NotBooleanOrSchema),
            _ => Err(DecodeError::wrong_type(value, self.go_struct(self.schema.get(props)), place)),
        }
    }

    fn go_struct(&self, ty: &Type) -> String {
        let (package, name) = error::go_name(&ty.name);
        format!("{package}.{name}")
    }

    fn go_type(&self, shape: &Shape) -> String {
        match shape {
            Shape::Struct(id) => self.go_struct(self.schema.get(*id)),
            Shape::List(item) => format!("[]{}", self.go_type(item)),
            Shape::Map(value) => format!("map[string]{}", self.go_type(value)),
            // The one such list that anybody posts.
            Shape::StringList => "v1.ExtraValue".to_owned(),
            scalar => scalars::go_type(scalar).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
