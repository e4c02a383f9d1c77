//! Objects as the rows that `kubectl get` prints.

use api::custom::PrinterColumn;
use api::resources::columns::{self, Embed};
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::negotiate::Negotiated;
use crate::registry::Served;
use crate::registry::encode::in_version;
use crate::request::query_value;

/// A `meta.k8s.io/v1 Table` of `objects`, which are as writes work on them. The columns are named only in the first
/// Table of a watch (`with_columns`). `?includeObject=` says how much of each object goes along.
pub(crate) fn of(
    served: &Served,
    objects: Vec<Value>,
    metadata: Value,
    query: &str,
    asked: Negotiated,
    with_columns: bool,
) -> Result<Value, Status> {
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
    let now = Timestamp::now();
    let mut table = match &served.custom {
        Some(custom) => {
            let printed = &custom.version().columns;
            let rows = objects.iter().map(|object| {
                let own = printed.iter().map(|column| column.cell(object, now));
                columns::row(std::iter::once(columns::name(object)).chain(own).collect(), object, embed)
            });
            let definitions =
                std::iter::once(columns::name_definition()).chain(printed.iter().map(PrinterColumn::definition));
            columns::table_of(definitions.collect(), rows.collect(), metadata)
        }
        None => {
            let rows = objects.iter().map(|stored| {
                let shown = in_version(served, stored.clone());
                columns::table_row(&served.row, stored, &shown, embed, now)
            });
            columns::table(&served.row, rows.collect(), metadata)
        }
    };
    if !with_columns {
        table["columnDefinitions"] = Value::Null;
    }
    if asked.beta {
        table["apiVersion"] = json!("meta.k8s.io/v1beta1");
    }
    Ok(table)
}
