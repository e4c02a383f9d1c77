//! Tables, compared with those of upstream's own printers. Each line of the file is a case.

use serde_json::{Value, json};

use super::*;
use crate::resource::split_api_version;
use crate::resources::find_kind;

const NOW: &str = "2026-01-01T12:00:00Z";

#[test]
fn tables_are_upstreams() {
    let now = crate::time::parse(NOW).unwrap();
    let mut wrong = String::new();
    let mut compare = |about: &str, ours: &Value, upstream: &Value| {
        if ours != upstream {
            wrong += &format!("{about}\n ours     {ours}\n upstream {upstream}\n");
        }
    };
    for line in include_str!("../testdata/upstream/tables.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut object = case["object"].clone();
        let (group, _) = split_api_version(object["apiVersion"].as_str().unwrap());
        let row = find_kind(group, object["kind"].as_str().unwrap()).unwrap();
        (row.hooks.default)(&mut object);
        let about = case["about"].as_str().unwrap();

        let names: Vec<String> = columns(row)
            .iter()
            .map(|column| format!("{}:{}:{}:{}", column.name, column.kind, column.format, column.priority))
            .collect();
        compare(about, &json!(names), &case["columns"]);
        let shown = table_row(row, &object, &object, Embed::None, now);
        compare(about, &shown["cells"], &case["cells"]);
        compare(about, &shown["conditions"], &case["conditions"]);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn kinds_without_columns_show_when_they_were_made() {
    let row = find_kind("rbac.authorization.k8s.io", "Role").unwrap();
    let role = json!({"metadata": {"name": "reader", "creationTimestamp": NOW}});
    let shown = table_row(row, &role, &role, Embed::Metadata, crate::time::parse(NOW).unwrap());
    assert_eq!(shown["cells"], json!(["reader", NOW]));
    assert_eq!(shown["object"]["kind"], "PartialObjectMetadata");
}
