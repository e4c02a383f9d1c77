//! Objects as the rows that `kubectl get` prints.

use serde_json::{Value, json};

use crate::document::Document;
use crate::registry::Served;
use crate::registry::encode::metadata_only;
use crate::request::query_value;

/// A `meta.k8s.io/v1 Table` of `objects`, which are in the storage version. The columns are named only in the first
/// Table of a watch (`with_columns`). `?includeObject=` says how much of each object goes along.
pub(crate) fn of(served: &Served, objects: Vec<Value>, metadata: Value, query: &str, with_columns: bool) -> Value {
    let include = query_value(query, "includeObject").unwrap_or_default();
    let rows: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let cells = json!([object.name(), object.meta("creationTimestamp")]);
            let mut row = json!({"cells": cells});
            match include.as_str() {
                "None" => {}
                "Object" => row["object"] = object,
                _ => row["object"] = metadata_only(object),
            }
            row
        })
        .collect();
    let columns = match with_columns {
        true => json!([
            {"name": "Name", "type": "string", "format": "name", "description": "name of the object", "priority": 0},
            {"name": "Created At", "type": "date", "format": "", "description": "when the object was made", "priority": 0},
        ]),
        false => json!([]),
    };
    let _ = served;
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows,
    })
}
