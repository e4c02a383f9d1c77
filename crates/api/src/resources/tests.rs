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
    assert_eq!(field.value(entry.fields.get(at).unwrap()), "false");
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

/// What an API server answers to a request, as asked of upstream's own strategies. Each line of a file is a case.
mod upstream {
    use serde_json::Value;

    use super::super::fields::same;
    use super::super::{find_kind, strategy};
    use crate::codec::normalise::{Empty, Unknown, empties, normalise, normalise_noting};
    use crate::resource::{Resource, split_api_version};
    use crate::schema::table::builtin_model;
    use crate::status::Cause;

    fn row(object: &Value) -> &'static Resource {
        let (group, _) = split_api_version(object["apiVersion"].as_str().unwrap());
        find_kind(group, object["kind"].as_str().unwrap()).unwrap()
    }

    /// Decodes as the API server does: normalised, then defaulted.
    fn decoded(row: &Resource, mut object: Value) -> (Value, Vec<Empty>) {
        let model = builtin_model(&row.versions[0].type_name).unwrap();
        let (_, stated_empty) = normalise_noting(&mut object, &model, Unknown::Ignore).unwrap();
        empties::restore(&mut object, &stated_empty);
        (row.hooks.default)(&mut object);
        normalise(&mut object, &model, Unknown::Ignore).unwrap();
        (object, stated_empty)
    }

    fn answer(case: &Value) -> (Value, Vec<String>, Vec<String>) {
        let row = row(&case["object"]);
        let (mut object, stated_empty) = decoded(row, case["object"].clone());
        let subresource = case["subresource"].as_str();
        let old = (!case["old"].is_null()).then(|| decoded(row, case["old"].clone()).0);
        let stated = |object: &Value| {
            let mut object = object.clone();
            empties::restore(&mut object, &stated_empty);
            object
        };
        let (causes, warnings) = match (&old, subresource) {
            (None, _) => {
                object["metadata"]["uid"] = Value::from("u");
                strategy::prepare_create(row, &mut object);
                (strategy::validate_create(row, &stated(&object)), (row.hooks.warnings)(&object, None))
            }
            (Some(old), None) => {
                strategy::prepare_update(row, &mut object, old);
                (strategy::validate_update(row, &stated(&object), old), (row.hooks.warnings)(&object, Some(old)))
            }
            (Some(old), Some(name)) => {
                strategy::prepare_subresource(row, name, &mut object, old);
                let warnings = (row.hooks.subresource(name).warnings)(&object, old);
                (strategy::validate_subresource(row, name, &stated(&object), old), warnings)
            }
        };
        // Differences of whole objects are shown in words of our own, below the first line.
        let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let line = |cause: &Cause| format!("{} {}: {}", cause.reason, cause.field, first_line(&cause.message));
        let causes = causes.iter().map(line).collect();
        let model = builtin_model(&row.versions[0].type_name).unwrap();
        normalise(&mut object, &model, Unknown::Ignore).unwrap();
        (object, causes, warnings)
    }

    fn check(name: &str, cases: &str) {
        let mut wrong = String::new();
        for line in cases.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let (object, mut causes, warnings) = answer(&case);
            let mut expected: Vec<&str> = case["causes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            // Upstream looks at metadata twice on updates.
            let mut seen = std::collections::BTreeSet::new();
            causes.retain(|cause| seen.insert(cause.clone()));
            if case["unordered"] == true {
                // Upstream walks a map here, in no order.
                causes.sort();
                expected.sort_unstable();
            }
            let about = case["about"].as_str().unwrap_or_default();
            if causes != expected {
                wrong += &format!("\n{name}: {about}: causes\n");
                let ours: Vec<&str> = causes.iter().map(String::as_str).collect();
                ours.iter()
                    .filter(|cause| !expected.contains(cause))
                    .for_each(|cause| wrong += &format!(" + {cause}\n"));
                expected
                    .iter()
                    .filter(|cause| !ours.contains(cause))
                    .for_each(|cause| wrong += &format!(" - {cause}\n"));
            }
            if !case["result"].is_null() && !same(&object, &case["result"]) {
                wrong += &format!("\n{name}: {about}: object\n");
                differences(&object, &case["result"], String::new(), &mut wrong);
            }
            let expected: Vec<&str> =
                case["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if !case["warnings"].is_null() && warnings != expected {
                wrong += &format!("\n{name}: {about}: warnings\n ours  {warnings:#?}\n upstream {expected:#?}\n");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    /// The fields that differ, one a line.
    fn differences(ours: &Value, upstream: &Value, path: String, out: &mut String) {
        match (ours, upstream) {
            (Value::Object(a), Value::Object(b)) => {
                for field in a.keys().chain(b.keys().filter(|field| !a.contains_key(*field))) {
                    let (ours, upstream) = (&ours[field], &upstream[field]);
                    if !same(ours, upstream) {
                        differences(ours, upstream, format!("{path}/{field}"), out);
                    }
                }
            }
            _ => *out += &format!(" {path}: ours {ours}, upstream {upstream}\n"),
        }
    }

    #[test]
    fn defaults_are_upstreams() {
        check("defaults", include_str!("testdata/upstream/defaults.jsonl"));
    }

    #[test]
    fn pods_are_refused_as_upstream_refuses_them() {
        check("pods", include_str!("testdata/upstream/pods.jsonl"));
    }

    #[test]
    fn workloads_are_refused_as_upstream_refuses_them() {
        check("workloads", include_str!("testdata/upstream/workloads.jsonl"));
    }

    #[test]
    fn core_kinds_are_refused_as_upstream_refuses_them() {
        check("core", include_str!("testdata/upstream/core.jsonl"));
    }

    #[test]
    fn small_kinds_are_refused_as_upstream_refuses_them() {
        check("small", include_str!("testdata/upstream/small.jsonl"));
    }
}
