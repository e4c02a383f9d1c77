//! Events: the core group's, and `events.k8s.io`, which are the same under a second name and in a second shape.
//!
//! Both are stored in the core group's shape; what is particular to `events.k8s.io` is what it asks of writers.

use serde_json::Value;

use super::fields::{int, is_empty, text};
use super::hooks::{Hooks, Names, PLAIN};
use super::metadata::{self, immutable, immutable_text};
use super::row::{Row, namespaced};
use crate::field_path::Path;
use crate::names;
use crate::resource::Resource;
use crate::status::Cause;
use crate::validation::Errors;

/// The fields that the two groups name differently: here, and in the core group.
const RENAMED: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

const NEITHER: Hooks = Hooks { create_on_update: true, own_metadata: true, ..PLAIN };

pub(super) static CORE_EVENTS: Hooks = Hooks {
    validate_create: |event| checked(event, "reportingComponent"),
    validate_update: |new, _| checked(new, "reportingComponent"),
    ..NEITHER
};

static EVENTS: Hooks = Hooks { convert, validate_create: create, validate_update: update, ..NEITHER };

/// The rows of the group.
pub(super) fn rows() -> Vec<Resource> {
    let mut row = namespaced("events.k8s.io", "events", "Event").uncollected().short(&["ev"]).hooks(&EVENTS);
    // In the core group's order: both rows select from what is kept of the one stored object.
    for field in ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"] {
        row = row.select_as(&format!("regarding.{field}"), &format!("/involvedObject/{field}"), "");
    }
    row = row.select(&["reason"]).select_as("reportingController", "/reportingComponent", "").select(&["type"]);
    row.storage_group = String::new();
    vec![row]
}

fn convert(event: &mut Value, _from: &str, to: &str) {
    for (here, core) in RENAMED {
        let (from, to) = if to == "v1" { (here, core) } else { (core, here) };
        // What Go always writes is null where there is nothing.
        if let Some(value) = event.as_object_mut().and_then(|fields| fields.remove(*from)) {
            event[*to] = value;
        }
    }
}

const REPORTER: &str = "reportingController";

/// What both groups check. An Event with an `eventTime` was made by a client that knows the new fields.
fn checked(event: &Value, reporter: &str) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (namespace, about) = (text(&event["metadata"], "namespace"), text(&event["involvedObject"], "namespace"));
    let timed = !event["eventTime"].is_null();
    let fits = match about {
        "" if timed => matches!(namespace, "default" | "kube-system"),
        "" => matches!(namespace, "" | "default"),
        about => timed || about == namespace,
    };
    if !fits {
        let path = Path::root("involvedObject");
        errors.invalid(&path.child("namespace"), about, "does not match event.namespace");
    }
    if timed {
        reported(&mut errors, event, reporter);
    }
    errors.invalid_each(&Path::root("namespace"), namespace, names::dns_subdomain(namespace));
    errors.into_causes()
}

fn reported(errors: &mut Errors, event: &Value, reporter: &str) {
    let controller = text(event, "reportingComponent");
    if controller.is_empty() {
        errors.required(&Path::root(reporter), "");
    }
    errors.invalid_each(&Path::root(reporter), controller, names::qualified_name(controller));
    for (field, limit) in [("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024)] {
        let length = text(event, field).len();
        if length == 0 && field != "message" {
            errors.required(&Path::root(field), "");
        }
        if length > limit {
            errors.invalid(&Path::root(field), "", &format!("can have at most {limit} characters"));
        }
    }
}

/// `events.k8s.io` takes new Events in the new form alone.
fn create(event: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    metadata::validate(&mut errors, &event["metadata"], true, Names::Subdomain);
    metadata::validate_builtin_finalizers(&mut errors, &event["metadata"]);
    series(&mut errors, event);
    if event["eventTime"].is_null() {
        errors.required(&Path::root("eventTime"), "");
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        errors.invalid(&Path::root("type"), "", &format!("has invalid value: {kind}"));
    }
    let unset = |field: &str| match field {
        "count" => int(event, field) == 0,
        "source" => ["component", "host"].iter().all(|part| text(&event[field], part).is_empty()),
        field => is_empty(&event[field]),
    };
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if !unset(field) {
            errors.invalid(&Path::root(field), "", "needs to be unset");
        }
    }
    let mut causes = checked(event, REPORTER);
    causes.extend(errors.into_causes());
    causes
}

/// What happened does not change; that it happened again is counted.
fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    metadata::validate_update(&mut errors, &new["metadata"], &old["metadata"]);
    if new["series"] != old["series"] {
        series(&mut errors, new);
    }
    const TEXTS: [&str; 6] = ["reason", "message", "type", "action", "reportingComponent", "reportingInstance"];
    let fixed = [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", REPORTER),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, shown) in fixed {
        let path = Path::root(shown);
        match TEXTS.contains(&field) {
            true => immutable_text(&mut errors, new, old, field, &path),
            false => immutable(&mut errors, &new[field], &old[field], &path),
        }
    }
    let mut causes = checked(new, REPORTER);
    causes.extend(errors.into_causes());
    causes
}

fn series(errors: &mut Errors, event: &Value) {
    let series = &event["series"];
    if series.is_null() {
        return;
    }
    if int(series, "count") < 2 {
        errors.invalid(&Path::root("series.count"), "", "should be at least 2");
    }
    if series["lastObservedTime"].is_null() {
        errors.required(&Path::root("series.lastObservedTime"), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Entry;
    use serde_json::json;

    #[test]
    fn both_groups_select_from_the_same_places() {
        let places = |group: &str| {
            let row = crate::resources::builtin().iter().find(|row| row.group == group && row.plural == "events");
            let fields = row.unwrap().selectable.iter().map(|field| field.pointer.clone());
            fields.collect::<Vec<_>>()
        };
        let (core, here) = (places(""), places("events.k8s.io"));
        assert_eq!(core[..here.len()], here);
        assert_eq!(core[here.len()..], ["/source/component"]);
    }

    #[test]
    fn the_source_is_the_reporter_where_none_is_named() {
        let row =
            crate::resources::builtin().iter().find(|row| row.group.is_empty() && row.plural == "events").unwrap();
        let source = |event: Value| {
            let (at, _) = row.selectable("source").unwrap();
            Entry::from_value(event, 1, &row.selectable).unwrap().fields.get(at).unwrap().to_owned()
        };
        let meta = json!({"name": "a", "namespace": "b"});
        assert_eq!(source(json!({"metadata": meta, "source": {}, "reportingComponent": "r"})), "r");
        assert_eq!(source(json!({"metadata": meta, "source": {"component": "s"}, "reportingComponent": "r"})), "s");
    }

    #[test]
    fn events_change_names_between_groups() {
        let core = json!({"involvedObject": {"name": "web"}, "message": "Started", "count": 2, "reason": "Started"});
        let mut event = core.clone();
        convert(&mut event, "v1", "events.k8s.io/v1");
        let here = json!({"regarding": {"name": "web"}, "note": "Started", "deprecatedCount": 2, "reason": "Started"});
        assert_eq!(event, here);
        convert(&mut event, "events.k8s.io/v1", "v1");
        assert_eq!(event, core);
    }

    fn fields(causes: &[Cause]) -> Vec<&str> {
        causes.iter().map(|cause| cause.field.as_str()).collect()
    }

    #[test]
    fn the_new_group_takes_the_new_form_alone() {
        let mut event = json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {"namespace": "n"}});
        assert_eq!(checked(&event, "reportingComponent"), []);
        assert_eq!(fields(&create(&event)), ["eventTime", "type"]);
        event["eventTime"] = json!("2026-01-02T03:04:05.000000Z");
        event["type"] = json!("Normal");
        assert_eq!(fields(&create(&event)), [REPORTER, REPORTER, REPORTER, "reportingInstance", "action", "reason"]);
        let written = json!({
            "reportingComponent": "c", "reportingInstance": "i", "action": "Act", "reason": "Why",
        });
        for (field, value) in written.as_object().unwrap() {
            event[field] = value.clone();
        }
        assert_eq!(create(&event), []);
        event["count"] = json!(2);
        assert_eq!(fields(&create(&event)), ["count"]);
    }

    #[test]
    fn an_event_lives_beside_what_it_is_about() {
        let event = json!({"metadata": {"name": "e", "namespace": "n"}, "involvedObject": {}});
        assert_eq!(fields(&checked(&event, "x")), ["involvedObject.namespace"]);
    }

    #[test]
    fn what_happened_does_not_change() {
        let metadata = json!({"name": "e", "namespace": "n", "resourceVersion": "1"});
        let old = json!({"metadata": metadata, "involvedObject": {"namespace": "n"}, "message": "a"});
        let mut new = old.clone();
        assert_eq!(update(&new, &old), []);
        new["message"] = json!("b");
        assert_eq!(fields(&update(&new, &old)), ["message"]);
    }
}
