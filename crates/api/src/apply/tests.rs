//! Server-side apply against what upstream's field manager makes of the same requests.
//!
//! `testdata/scenarios.json` holds sequences of writes, each with upstream's outcome (its own Go types for built-in
//! kinds, deduced types for a kind without a schema). Times are `T` there.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::{Schema, Type, TypeId, builtin_model};

const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

fn model(api_version: &str, kind: &str) -> Model {
    let (group, version) = split_api_version(api_version);
    let package = match group {
        "" => "core",
        group => group.split('.').next().unwrap(),
    };
    builtin_model(&format!("io.k8s.api.{package}.{version}.{kind}")).unwrap_or_else(|| {
        let anything = Type { preserve_unknown: true, ..Type::default() };
        Model::new(Arc::new(Schema::new(vec![anything])), TypeId(0))
    })
}

fn is_served(_: &str) -> bool {
    true
}

fn reset_fields(step: &Value) -> Option<FieldSet> {
    let paths: Vec<Vec<&str>> = step["reset"]
        .as_array()?
        .iter()
        .map(|path| path.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect())
        .collect();
    Some(FieldSet::of_fields(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// What differs between this and upstream's outcome without meaning anything: what Go writes though it is zero, the
/// times, and the uid that a server would give.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, value)| match key.as_str() {
                    "fieldsV1" => (key.clone(), value.clone()),
                    "time" => (key.clone(), json!("T")),
                    _ => (key.clone(), plain(value)),
                })
                .filter(|(key, value)| key == "fieldsV1" || !is_zero(value))
                .filter(|(key, value)| !(key == "uid" && value == "u"))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        other => other.clone(),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

#[test]
fn writes_end_as_upstreams_do() {
    let scenarios: Vec<Value> = serde_json::from_str(include_str!("testdata/scenarios.json")).unwrap();
    let mut wrong = Vec::new();
    for scenario in &scenarios {
        let (api_version, kind) = scenario["type"].as_str().unwrap().split_once(' ').unwrap();
        let model = model(api_version, kind);
        let mut live: Option<Value> = None;
        for (at, step) in scenario["steps"].as_array().unwrap().iter().enumerate() {
            let reset = reset_fields(step);
            let request = Request {
                model: &model,
                api_version,
                kind,
                manager: step["manager"].as_str().unwrap(),
                subresource: step["subresource"].as_str().unwrap_or_default(),
                reset: reset.as_ref(),
                is_served: &is_served,
                now: NOW,
            };
            let outcome = match step["do"].as_str() {
                Some("apply") => apply(&request, live.as_ref(), &step["object"], step["force"] == true),
                _ => Ok(update(&request, live.as_ref(), step["object"].clone())),
            };
            if let Err(difference) = compared(step, &outcome) {
                wrong.push(format!("{} (step {at}):\n{difference}", scenario["name"]));
            }
            if let Some(result) = step.get("result") {
                live = Some(with_time(result));
            }
        }
    }
    assert!(wrong.is_empty(), "{} steps differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A golden's object with a time that can be read.
fn with_time(object: &Value) -> Value {
    let mut object = object.clone();
    for entry in object["metadata"]["managedFields"].as_array_mut().into_iter().flatten() {
        if entry.get("time").is_some() {
            entry["time"] = json!(crate::time::format(NOW));
        }
    }
    object
}

fn compared(step: &Value, outcome: &Result<Value, Status>) -> Result<(), String> {
    let (expected, found) = match (step.get("result"), outcome) {
        (Some(expected), Ok(found)) => (plain(expected), plain(found)),
        (None, Err(status)) => {
            let causes: Vec<String> =
                status.details.iter().flat_map(|details| &details.causes).map(cause_text).collect();
            let mut expected = json!({"error": step["error"], "code": step["code"]});
            if let Some(causes) = step.get("causes") {
                // Upstream's order of managers and their causes is random.
                let mut causes: Vec<&str> = causes.as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
                causes.sort_unstable();
                expected["causes"] = json!(causes);
            }
            let mut found = json!({"error": status.message, "code": status.code});
            if !causes.is_empty() {
                let mut causes = causes;
                causes.sort_unstable();
                found["causes"] = json!(causes);
            }
            (expected, found)
        }
        (_, Ok(found)) => (json!(step["error"]), plain(found)),
        (_, Err(status)) => (plain(&step["result"]), json!(status.message)),
    };
    match expected == found {
        true => Ok(()),
        false => Err(format!("  expected {expected}\n  found    {found}")),
    }
}

fn cause_text(cause: &crate::status::Cause) -> String {
    format!("{}|{}|{}", cause.reason, cause.message, cause.field)
}

fn request<'a>(model: &'a Model, manager: &'a str) -> Request<'a> {
    Request {
        model,
        api_version: "apps/v1",
        kind: "Deployment",
        manager,
        subresource: "",
        reset: None,
        is_served: &is_served,
        now: NOW,
    }
}

#[test]
fn managers_of_versions_no_longer_served_lose_their_fields() {
    let model = model("apps/v1", "Deployment");
    let entry = |manager: &str, api_version: &str| {
        json!({"manager": manager, "operation": "Update", "apiVersion": api_version, "fieldsType": "FieldsV1",
               "fieldsV1": {"f:spec": {"f:replicas": {}}}})
    };
    let live = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "uid": "u",
                     "managedFields": [entry("old", "extensions/v1beta1"), entry("beta", "apps/v1beta2")]},
        "spec": {"replicas": 1},
    });
    let is_served = |api_version: &str| api_version == "apps/v1beta2";
    let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                         "spec": {"replicas": 2}});
    let request = Request { is_served: &is_served, ..request(&model, "a") };
    let error = apply(&request, Some(&live), &applied, false).unwrap_err();
    assert_eq!(
        error.message,
        "Apply failed with 1 conflict: conflict with \"beta\" using apps/v1beta2: .spec.replicas"
    );
    let object = apply(&request, Some(&live), &applied, true).unwrap();
    let managers: Vec<&Value> =
        object["metadata"]["managedFields"].as_array().unwrap().iter().map(|entry| &entry["manager"]).collect();
    assert_eq!(managers, ["a"]);
}

#[test]
fn sets_below_what_is_now_owned_as_a_whole_become_it() {
    let model = model("apps/v1", "Deployment");
    let typing = Typing::new(&model);
    let set = |fields| FieldSet::from_json(&fields).unwrap();
    let old = set(json!({"f:spec": {"f:selector": {"f:matchLabels": {"f:app": {}}}, "f:replicas": {}}}));
    let new = set(json!({"f:spec": {"f:selector": {}, "f:replicas": {}}}));
    for mut set in [old, new.clone()] {
        walk::reconcile(&typing, &mut set);
        assert_eq!(set, new);
    }
}

#[test]
fn a_write_that_changes_only_times_changes_nothing() {
    let model = model("apps/v1", "Deployment");
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
                        "spec": {"replicas": 2}});
    let first = update(&request(&model, "a"), None, object);
    let later = Request { now: Timestamp::constant(1_767_225_999, 0), ..request(&model, "a") };
    assert_eq!(update(&later, Some(&first), first.clone()), first);

    let mut changed = first.clone();
    changed["metadata"]["managedFields"][0]["time"] = json!("2030-01-01T00:00:00Z");
    restore_times(&first, &mut changed);
    assert_eq!(changed, first);
}

#[test]
fn field_sets_read_what_upstream_writes() {
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"a/b\"": {}}},
                        "f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                                   "f:args": {"i:0": {}}}});
    let set = FieldSet::from_json(&fields).unwrap();
    assert_eq!(set.to_json(), fields);
    let paths: Vec<String> = set.paths().iter().map(|path| Path(path).to_string()).collect();
    assert_eq!(
        paths,
        [
            ".metadata.labels",
            ".metadata.finalizers[=\"a/b\"]",
            ".metadata.labels.app",
            ".spec.args[0]",
            ".spec.ports[port=80,protocol=\"TCP\"]",
            ".spec.ports[port=80,protocol=\"TCP\"].port",
        ]
    );
    for wrong in
        [json!([]), json!({"x": {}}), json!({"k:1": {}}), json!({"v:": {}}), json!({"i:x": {}}), json!({"f:a": 1})]
    {
        assert!(FieldSet::from_json(&wrong).is_err(), "{wrong}");
    }
    assert_eq!(FieldSet::from_json(&json!({"x:y": {}})), Ok(FieldSet::new()));
}

/// Documents that mostly look like a Deployment.
fn deployment() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        "[ab]".prop_map(Value::from),
    ];
    let keys = "replicas|selector|template|spec|containers|name|ports|containerPort|args|metadata|labels|finalizers";
    let spec = scalar.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    let container = (("[abc]", "[xy]"), prop::collection::vec(1..4i64, 0..3)).prop_map(|((name, image), ports)| {
        let ports: Vec<Value> = ports.into_iter().map(|port| json!({"containerPort": port})).collect();
        json!({"name": name, "image": image, "ports": ports})
    });
    let proper = prop::collection::vec(container, 0..4)
        .prop_map(|containers| json!({"replicas": containers.len(), "template": {"spec": {"containers": containers}}}));
    prop_oneof![1 => spec, 3 => proper].prop_map(|spec| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "uid": "u"}, "spec": spec})
    })
}

/// A set of a few short paths, which meet often.
fn paths() -> impl Strategy<Value = FieldSet> {
    prop::collection::vec(prop::collection::vec("[abc]|[.:]|", 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::new();
        for path in paths {
            let steps: Vec<Step> = path.iter().map(|name| Step::field(name)).collect();
            set.insert(&steps);
        }
        set
    })
}

proptest! {
    #[test]
    fn applying_again_changes_nothing(
        writes in prop::collection::vec((any::<bool>(), "[ab]", deployment()), 1..6),
    ) {
        let model = model("apps/v1", "Deployment");
        let mut live: Option<Value> = None;
        for (applies, manager, object) in writes {
            let request = request(&model, &manager);
            if !applies {
                live = Some(update(&request, live.as_ref(), object));
                continue;
            }
            if let Ok(new) = apply(&request, live.as_ref(), &object, true) {
                // The second time may still turn an absent list into the empty one that is applied.
                let again = apply(&request, Some(&new), &object, false).unwrap();
                let third = apply(&request, Some(&again), &object, false).unwrap();
                prop_assert_eq!(third, again);
                live = Some(new);
            }
        }
    }

    #[test]
    fn field_sets_survive_their_json(set in paths()) {
        let read = FieldSet::from_json(&set.to_json()).unwrap();
        prop_assert_eq!(&read, &set);
        prop_assert!(set.difference(&read).is_empty());
        prop_assert!(set.is_within(&read));
        prop_assert_eq!(set.union(&read), set);
    }

    #[test]
    fn sets_are_sets_of_paths(a in paths(), b in paths()) {
        let that = |set: &FieldSet, keep: &dyn Fn(&Vec<Step>) -> bool| -> Vec<_> {
            set.paths().into_iter().filter(keep).collect()
        };
        prop_assert_eq!(a.difference(&b).paths(), that(&a, &|path| !b.contains(path)));
        prop_assert_eq!(a.intersection(&b).paths(), that(&a, &|path| b.contains(path)));
        prop_assert_eq!(a.within_json(&b.to_json()).paths(), that(&a, &|path| b.contains(path)));
        prop_assert_eq!(a.is_within(&b), that(&a, &|path| !b.contains(path)).is_empty());
        let mut less = a.clone();
        less.subtract_below(&b);
        let outside = |path: &Vec<Step>| !(1..=path.len()).any(|end| b.contains(&path[..end]));
        prop_assert_eq!(less.paths(), that(&a, &outside));
        let union = a.union(&b);
        prop_assert!(a.is_within(&union) && b.is_within(&union));
        prop_assert!(union.difference(&a).is_within(&b));
    }
}
