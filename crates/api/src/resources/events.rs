//! `events.k8s.io`: the core group's Events under a second name and in a second shape.

use serde_json::Value;

use super::hooks::{Hooks, PLAIN};
use super::row::{Row, namespaced};
use crate::resource::Resource;

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

static EVENTS: Hooks = Hooks { create_on_update: true, convert, ..PLAIN };

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
            Entry::from_value(event, 1, &row.selectable).unwrap().fields[at].clone()
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
}
