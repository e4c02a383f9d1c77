//! DaemonSets.

use serde_json::{Value, json};

use super::validation;
use crate::resources::core::pods;
use crate::resources::fields::{default, default_zero, is_empty, object, same, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN};
use crate::resources::strategy::remove;

/// Where `apps/v1` keeps the template's own generation. Upstream's internal type has a number there, so that whatever is
/// written says one.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) static DAEMON_SETS: Hooks = Hooks {
    generation: Generation::Counted,
    default: defaults,
    metadata_alone,
    prepare_create: create,
    prepare_update: update,
    validate_create: validation::daemon_set,
    validate_update: validation::daemon_set_update,
    warnings: pods::warnings::of_workload,
    ..PLAIN
};

fn defaults(set: &mut Value) {
    let spec = object(set, "spec");
    let strategy = object(spec, "updateStrategy");
    default_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", 1);
        default(rolling, "maxSurge", 0);
    }
    default(spec, "revisionHistoryLimit", 10);
    within(spec, "template", pods::template_defaults);
    set_template_generation(set, template_generation(set));
}

fn create(set: &mut Value) {
    within(set, "spec", pods::prepare_template);
    if template_generation(set) < 1 {
        set_template_generation(set, 1);
    }
}

fn update(new: &mut Value, old: &Value) {
    let generation = template_generation(old);
    let changed = !same(&new["spec"]["template"], &old["spec"]["template"]);
    set_template_generation(new, if changed { generation + 1 } else { generation });
}

fn metadata_alone(metadata: &mut Value) {
    let annotations = &mut metadata["annotations"];
    remove(annotations, TEMPLATE_GENERATION);
    if is_empty(annotations) {
        remove(metadata, "annotations");
    }
}

fn template_generation(set: &Value) -> i64 {
    set["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn set_template_generation(set: &mut Value, generation: i64) {
    object(object(set, "metadata"), "annotations")[TEMPLATE_GENERATION] = json!(generation.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_counts_its_own_changes() {
        let row = crate::resources::find("apps", "daemonsets").expect("a row");
        let generation = |set: &Value| set["metadata"]["annotations"][TEMPLATE_GENERATION].clone();
        let mut old =
            json!({"metadata": {"generation": 1}, "spec": {"template": {"metadata": {"labels": {"a": "b"}}}}});
        (row.hooks.default)(&mut old);
        assert_eq!(generation(&old), "0");
        crate::resources::strategy::prepare_create(row, &mut old);
        assert_eq!(generation(&old), "1");

        let mut new = old.clone();
        new["metadata"]["labels"] = json!({"c": "d"});
        crate::resources::strategy::prepare_update(row, &mut new, &old);
        assert_eq!(generation(&new), "1");
        new["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
        crate::resources::strategy::prepare_update(row, &mut new, &old);
        assert_eq!(generation(&new), "2");
    }

    #[test]
    fn metadata_alone_have_no_generation_of_the_template() {
        let check = |mut metadata: Value, expected: Value| {
            metadata_alone(&mut metadata);
            assert_eq!(metadata, expected);
        };
        check(json!({"name": "a", "annotations": {TEMPLATE_GENERATION: "1"}}), json!({"name": "a"}));
        check(json!({"annotations": {TEMPLATE_GENERATION: "1", "b": "c"}}), json!({"annotations": {"b": "c"}}));
    }
}
