//! What `kubectl get` shows: the columns of each kind, and their cells.
//!
//! A cell is a function of the object and the time. Kinds that upstream has no printer for show their name and
//! when they were created.

mod builtin;
mod cells;
pub mod duration;
mod hpa;
mod pod;
mod scale;

use jiff::Timestamp;
pub use scale::scale;
use serde_json::{Value, json};

use crate::resource::Resource;
use crate::resources::fields::text;

/// A column of a Table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// An OpenAPI type: `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// `name` for the column that names the object.
    pub format: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u8,
    pub description: &'static str,
    cell: fn(&Value, Timestamp) -> Value,
}

/// What a row of a Table carries of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embed {
    None,
    Metadata,
    Object,
}

/// The columns of a kind.
pub fn columns(row: &Resource) -> &'static [Column] {
    builtin::columns(&row.group, &row.plural)
}

/// `columnDefinitions` of a Table of this kind.
pub fn definitions(row: &Resource) -> Value {
    columns(row).iter().map(definition).collect()
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.kind,
        "format": column.format,
        "description": column.description,
        "priority": column.priority,
    })
}

/// The definition of the column that names an object: every kind's first.
pub fn name_definition() -> Value {
    definition(&NAME)
}

/// The cell that names an object.
pub fn name(object: &Value) -> Value {
    text(&object["metadata"], "name").into()
}

/// The row of one object, given in its storage version: cells, conditions, and of `served` (the object in the
/// version that the client asked for) what `embed` says.
pub fn table_row(row: &Resource, stored: &Value, served: &Value, embed: Embed, now: Timestamp) -> Value {
    let cells: Vec<Value> = columns(row).iter().map(|column| (column.cell)(stored, now)).collect();
    let mut out = self::row(cells, served, embed);
    if row.group.is_empty() && row.plural == "pods" {
        let conditions = pod::conditions(stored);
        if !conditions.is_null() {
            out["conditions"] = conditions;
        }
    }
    out
}

/// A row of cells, with what `embed` says of the object.
pub fn row(cells: Vec<Value>, served: &Value, embed: Embed) -> Value {
    let mut out = json!({"cells": cells});
    match embed {
        Embed::None => out["object"] = Value::Null,
        Embed::Metadata => {
            out["object"] = json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": served["metadata"],
            });
        }
        Embed::Object => out["object"] = served.clone(),
    }
    out
}

/// A Table of `rows`. Its `metadata` is the list's.
pub fn table(row: &Resource, rows: Vec<Value>, metadata: Value) -> Value {
    table_of(definitions(row), rows, metadata)
}

/// A Table of `rows` under columns that are defined elsewhere.
pub fn table_of(definitions: Value, rows: Vec<Value>, metadata: Value) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

const fn column(
    name: &'static str,
    kind: &'static str,
    description: &'static str,
    cell: fn(&Value, Timestamp) -> Value,
) -> Column {
    Column { name, kind, format: "", priority: 0, description, cell }
}

/// A column of text.
const fn string(name: &'static str, description: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Column {
    column(name, "string", description, cell)
}

/// A column of numbers.
const fn integer(name: &'static str, description: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Column {
    column(name, "integer", description, cell)
}

impl Column {
    /// Shown with `-o wide` only.
    const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    const fn named(mut self) -> Self {
        self.format = "name";
        self
    }
}

/// Every kind's first column.
const NAME: Column = string("Name", "The object's name.", |object, _| text(&object["metadata"], "name").into()).named();

/// Nearly every kind's last column.
const AGE: Column = string("Age", "How long ago the object was created.", |object, now| {
    duration::since(&object["metadata"]["creationTimestamp"], now).into()
});

#[cfg(test)]
mod tests;
