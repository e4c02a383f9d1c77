//! Objects as the rows that `kubectl get` prints.

use api::resources::columns::{self, Embed};
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::negotiate::Negotiated;
use crate::registry::Served;
use crate::registry::encode::in_version;
use crate::request::query_value;

/// A `meta.k8s.io/v1 Table` of `objects`, which are in the storage version. The columns are named only in the first
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
    let rows = objects.iter().map(|stored| {
        let shown = in_version(served, stored.clone());
        columns::table_row(&served.row, stored, &shown, embed, now)
    });
    let mut table = columns::table(&served.row, rows.collect(), metadata);
    if !with_columns {
        table["columnDefinitions"] = Value::Null;
    }
    if asked.beta {
        table["apiVersion"] = json!("meta.k8s.io/v1beta1");
    }
    Ok(table)
}
