//! Objects as the rows that `kubectl get` prints.

use api::custom::PrinterColumn;
use api::resources::columns::{self, Embed};
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::document::Document;
use crate::negotiate::Negotiated;
use crate::registry::Served;
use crate::registry::encode::in_version;
use crate::request::query_value;

/// How objects become the rows of a `meta.k8s.io/v1 Table`. `?includeObject=` says how much of each goes along.
pub(crate) struct Rows {
    embed: Embed,
    now: Timestamp,
    /// Of Tables and of metadata.
    version: &'static str,
}

impl Rows {
    pub(crate) fn asked(query: &str, asked: Negotiated) -> Result<Self, Status> {
        let embed = match query_value(query, "includeObject").as_deref() {
            Some("None") => Embed::None,
            Some("Object") => Embed::Object,
            None | Some("" | "Metadata") => Embed::Metadata,
            Some(other) => {
                return Err(Status::bad_request(format!(
                    "Unable to convert to Table as requested: includeObject: Invalid value: \"{other}\": must be \
                     'Metadata', 'Object', 'None', or empty"
                )));
            }
        };
        Ok(Self { embed, now: Timestamp::now(), version: asked.view_version() })
    }

    /// The row of an object, which is as writes work on it.
    pub(crate) fn row(&self, served: &Served, object: &Value) -> Value {
        let mut row = match &served.custom {
            Some(custom) => {
                let own = custom.version().columns.iter().map(|column| column.cell(object, self.now));
                columns::row(std::iter::once(columns::name(object)).chain(own).collect(), object, self.embed)
            }
            None => {
                let shown = in_version(served, object.clone());
                columns::table_row(&served.row, object, &shown, self.embed, self.now)
            }
        };
        if self.embed == Embed::Metadata {
            row["object"]["apiVersion"] = json!(self.version);
            (served.row.hooks.metadata_alone)(&mut row["object"]["metadata"]);
        }
        row
    }

    /// The Table of `rows`.
    pub(crate) fn table(&self, served: &Served, rows: Vec<Value>, metadata: Value) -> Value {
        let mut table = match &served.custom {
            Some(custom) => {
                let printed = &custom.version().columns;
                let definitions =
                    std::iter::once(columns::name_definition()).chain(printed.iter().map(PrinterColumn::definition));
                columns::table_of(definitions.collect(), rows, metadata)
            }
            None => columns::table(&served.row, rows, metadata),
        };
        table["apiVersion"] = json!(self.version);
        table
    }
}

/// A Table of `objects`, which are as writes work on them. The columns are named only in the first Table of a watch
/// (`with_columns`).
pub(crate) fn of(
    served: &Served,
    objects: Vec<Value>,
    metadata: Value,
    query: &str,
    asked: Negotiated,
    with_columns: bool,
) -> Result<Value, Status> {
    let rows = Rows::asked(query, asked)?;
    let mut table = rows.table(served, objects.iter().map(|object| rows.row(served, object)).collect(), metadata);
    if !with_columns {
        table["columnDefinitions"] = Value::Null;
    }
    Ok(table)
}

/// The Table of a Scale.
pub(crate) fn of_scale(served: &Served, scale: &Value, query: &str, asked: Negotiated) -> Result<Value, Status> {
    let rows = Rows::asked(query, asked)?;
    let mut table = columns::scale(scale, served.custom.is_some(), rows.embed, rows.now);
    table["apiVersion"] = json!(rows.version);
    if rows.embed == Embed::Metadata {
        table["rows"][0]["object"]["apiVersion"] = json!(rows.version);
    }
    Ok(table)
}

/// The Table of one object, which is of its revision.
pub(crate) fn of_one(
    served: &Served,
    object: Value,
    query: &str,
    asked: Negotiated,
    with_columns: bool,
) -> Result<Value, Status> {
    let metadata = match object.resource_version() {
        "" => json!({}),
        revision => json!({"resourceVersion": revision}),
    };
    of(served, vec![object], metadata, query, asked, with_columns)
}
