use std::collections::BTreeSet;
use std::fmt::Write;

use expect_test::expect_file;
use serde_json::json;

use super::*;

/// The table as discovery tells it, one line a path.
#[test]
fn the_table_is_upstreams() {
    let mut text = String::new();
    for row in builtin() {
        for version in &row.versions {
            let api_version = crate::resource::api_version(&row.group, &version.name);
            let scope = if row.namespaced { "Namespaced" } else { "Cluster" };
            let names = [&row.short_names[..], &row.categories[..]].concat().join(",");
            let verbs = if row.verbs == crate::resource::Verbs::ALL { "ALL".to_owned() } else { row.verbs.0.join(",") };
            writeln!(text, "{api_version} {} {} {} {scope} [{names}] {verbs}", row.plural, row.singular, row.kind)
                .unwrap();
            for sub in &version.subresources {
                let kind = crate::resource::api_version(&sub.group, &sub.version);
                let verbs = sub.verbs.0.join(",");
                writeln!(text, "{api_version} {}/{} {kind} {} {verbs}", row.plural, sub.name, sub.kind).unwrap();
            }
        }
    }
    expect_file!["testdata/discovery.txt"].assert_eq(&text);
}

#[test]
fn every_row_is_of_a_served_group_and_version() {
    for row in builtin() {
        let group = GROUPS.iter().find(|group| group.name == row.group).expect("a listed group");
        for version in &row.versions {
            assert!(group.versions.iter().any(|(name, _)| *name == version.name), "{}", row.plural);
        }
        assert!(row.version(&row.storage_version).is_some(), "{}", row.plural);
    }
    let names: BTreeSet<_> = builtin().iter().map(Resource::group_resource).collect();
    assert_eq!(names.len(), builtin().len());
}

#[test]
fn definition_names_are_those_of_openapi() {
    assert_eq!(find("apps", "deployments").unwrap().versions[0].type_name, "io.k8s.api.apps.v1.Deployment");
    assert_eq!(definition_name("flowcontrol.apiserver.k8s.io", "v1", "X"), "io.k8s.api.flowcontrol.v1.X");
    assert_eq!(definition_name("stable.example.com", "v1", "Widget"), "com.example.stable.v1.Widget");
}

#[test]
fn an_absent_bool_is_selected_as_false() {
    let row = find("", "pods").unwrap();
    let (at, field) = row.selectable("spec.hostNetwork").unwrap();
    let pod = json!({"metadata": {"name": "a"}, "spec": {}});
    let entry = crate::object::Entry::from_value(pod, 1, &row.selectable).unwrap();
    assert_eq!(field.value(&entry.fields[at]), "false");
}

#[test]
fn an_ordinary_status_is_written_by_its_subresource_only() {
    let row = find("policy", "poddisruptionbudgets").unwrap();
    let old = json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"s": 1}});

    let mut new = json!({"metadata": {}, "spec": {"a": 1}, "status": {"s": 2}});
    strategy::prepare_update(row, &mut new, &old);
    assert_eq!(new, old);

    let mut new = json!({"metadata": {}, "spec": {"a": 2}, "status": {"s": 2}});
    strategy::prepare_subresource(row, "status", &mut new, &old);
    assert_eq!(new, json!({"metadata": {"generation": 3}, "spec": {"a": 1}, "status": {"s": 2}}));
}
