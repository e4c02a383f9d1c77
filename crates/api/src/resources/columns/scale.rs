//! The columns of a Scale, which is no resource of its own: what workloads and custom resources show at their `scale`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::duration::since;
use super::{Embed, name, name_definition, row, table_of};

/// The Table of one Scale. Custom resources leave cells of what the Scale does not say empty.
pub fn scale(document: &Value, custom: bool, embed: Embed, now: Timestamp) -> Value {
    let column = |name: &str, kind: &str, description: &str| json!({"name": name, "type": kind, "format": "", "description": description, "priority": 0});
    let mut first = name_definition();
    if !custom {
        first["format"] = json!("");
    }
    let definitions = json!([
        first,
        column("Desired", "integer", "Number of desired replicas"),
        column("Available", "integer", "Number of actual replicas"),
        column("Age", if custom { "date" } else { "string" }, "When the object was created"),
    ]);
    let count = |part: &str| match &document[part]["replicas"] {
        Value::Null if !custom => json!(0),
        said => said.clone(),
    };
    let age = json!(since(&document["metadata"]["creationTimestamp"], now));
    let cells = vec![name(document), count("spec"), count("status"), age];
    let metadata = json!({"resourceVersion": document["metadata"]["resourceVersion"]});
    table_of(definitions, vec![row(cells, document, embed)], metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_shows_what_is_wanted_and_what_there_is() {
        let cells = |document: &Value, custom| {
            let now = "2026-01-01T00:01:00Z".parse().unwrap();
            scale(document, custom, Embed::None, now)["rows"][0]["cells"].clone()
        };
        let metadata = json!({"name": "web", "creationTimestamp": "2026-01-01T00:00:00Z"});
        let scaled = json!({"metadata": metadata, "spec": {"replicas": 3}, "status": {"replicas": 2}});
        assert_eq!(cells(&scaled, true), json!(["web", 3, 2, "60s"]));
        let to_nothing = json!({"metadata": metadata, "spec": {}, "status": {"replicas": 0}});
        assert_eq!(cells(&to_nothing, false), json!(["web", 0, 0, "60s"]));
        assert_eq!(cells(&to_nothing, true), json!(["web", null, 0, "60s"]));
    }
}
