use jiff::Timestamp;
use serde_json::json;

use super::*;

fn definition() -> Definition {
    Definition::read(&json!({
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "versions": [
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                 "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v1", "served": true, "storage": true,
                 "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer"}, "color": {"type": "string", "default": "blue"}}},
                    "status": {"type": "object", "properties": {"size": {"type": "integer"}}}}}},
                 "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                 "selectableFields": [{"jsonPath": ".spec.color"}],
                 "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1}]},
                {"name": "v2", "served": false, "storage": false},
            ],
        },
        "status": {
            "acceptedNames": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                              "shortNames": ["wd"], "categories": ["all"]},
            "conditions": [{"type": "Terminating", "status": "False"}],
        },
    }))
}

fn widget(spec: Value, status: Value) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "spec": spec, "status": status,
        "metadata": {"name": "w", "namespace": "shop", "uid": "u", "generation": 1, "resourceVersion": "1",
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
    })
}

fn texts(causes: Vec<crate::status::Cause>) -> Vec<String> {
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[test]
fn a_definition_is_a_row_like_any_other() {
    let definition = definition();
    let row = &definition.row;
    assert_eq!(row.group_resource(), "widgets.example.com");
    assert_eq!(row.storage_api_version(), "example.com/v1");
    let names: Vec<_> = row.versions.iter().map(|version| version.name.as_str()).collect();
    assert_eq!(names, ["v1", "v1beta1"]);
    assert_eq!(row.versions[0].type_name, "com.example.v1.Widget");
    let subresources: Vec<_> = row.versions[0].subresources.iter().map(|sub| sub.name.as_str()).collect();
    assert_eq!(subresources, ["status", "scale"]);
    assert_eq!(
        row.versions[1].deprecated.as_deref(),
        Some("example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget")
    );
    assert!(!definition.terminating && definition.webhook.is_none());
}

#[test]
fn versions_are_in_the_order_of_their_maturity() {
    let mut names = ["v1", "foo1", "v10beta3", "v2", "v3beta1", "v12alpha1", "v11alpha2", "foo10", "v10", "v11beta2"];
    names.sort_by(|a, b| compare_versions(a, b));
    let expected = ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
    assert_eq!(names, expected);
}

#[test]
fn spec_and_status_guard_each_other_and_generations_count_what_changed() {
    let definition = definition();
    let version = &definition.versions[0];
    let old = widget(json!({"size": 1}), json!({"size": 1}));
    let mut new = widget(json!({"size": 2}), json!({"size": 9}));
    version.prepare_update(&mut new, &old);
    assert_eq!((&new["status"]["size"], &new["metadata"]["generation"]), (&json!(1), &json!(2)));

    let mut same = old.clone();
    same["metadata"]["labels"] = json!({"a": "b"});
    version.prepare_update(&mut same, &old);
    assert_eq!(same["metadata"]["generation"], 1);

    let mut status = widget(json!({"size": 5}), json!({"size": 2}));
    status["metadata"]["labels"] = json!({"a": "b"});
    version.prepare_status(&mut status, &old);
    assert_eq!(status, widget(json!({"size": 1}), json!({"size": 2})));

    // Without the subresource a status is a field like others.
    let mut new = widget(json!({"size": 1}), json!({"size": 9}));
    definition.versions[1].prepare_update(&mut new, &old);
    assert_eq!((&new["status"]["size"], &new["metadata"]["generation"]), (&json!(9), &json!(2)));
}

#[test]
fn objects_are_refused_in_upstreams_words() {
    let definition = definition();
    let (row, version) = (&definition.row, &definition.versions[0]);
    assert!(version.validate_create(row, &widget(json!({"size": 1}), json!({}))).is_empty());
    assert_eq!(
        texts(version.validate_create(row, &widget(json!({"size": -1}), json!({"size": "x"})))),
        [
            r#"status.size: Invalid value: "string": status.size in body must be of type integer: "string""#,
            ".spec.size: Invalid value: -1: should be a non-negative integer",
            ".status.size: Invalid value: 0: .status.size accessor error: x is of the type string, expected int64",
        ]
    );
    assert_eq!(texts(version.validate_create(row, &widget(json!({}), json!({})))), ["spec.size: Required value"]);
}

#[test]
fn columns_and_fields_show_what_is_there() {
    let definition = definition();
    let version = &definition.versions[0];
    let mut object = widget(json!({"size": 3}), json!({}));
    version.conform(&mut object);
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let cells: Vec<_> = version.columns.iter().map(|column| column.cell(&object, now)).collect();
    assert_eq!(cells, [json!(3), json!("blue")]);
    assert!(version.columns[0].definition()["description"].as_str().unwrap().contains(".spec.size"));
    assert_eq!(definition.versions[1].columns[0].cell(&object, now), json!("60m"));
    assert_eq!(version.selectable[0].label, "spec.color");
    assert_eq!(version.selectable[0].value(&object), "blue");
}

#[test]
fn scales_are_read_and_written_by_path() {
    let definition = definition();
    let scale = definition.versions[0].scale.as_ref().unwrap();
    let mut object = json!({});
    assert_eq!(scale.replicas(&object), Ok(None));
    scale.set_replicas(&mut object, 4).unwrap();
    assert_eq!(object, json!({"spec": {"size": 4}}));
    assert_eq!(scale.replicas(&object), Ok(Some(4)));
    assert!(scale.set_replicas(&mut json!({"spec": "x"}), 4).is_err());
}

#[test]
fn finalizers_of_others_names_are_warned_of() {
    let with = |names: &[&str]| json!({"metadata": {"finalizers": names}});
    let said = rules::warnings(&with(&["a.b/c", "plain", "a.b", "orphan"]), Some(&with(&[])));
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with(r#"metadata.finalizers: "a.b": prefer a domain-qualified finalizer name including"#));
    assert!(rules::warnings(&with(&["plain"]), Some(&with(&["plain"]))).is_empty());
}
