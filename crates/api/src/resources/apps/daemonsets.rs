//! DaemonSets.

use serde_json::{Value, json};

use super::validation;
use crate::resources::core::pods;
use crate::resources::fields::{default, default_zero, object, same, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN};
use crate::resources::strategy::remove;

/// Where `apps/v1` keeps the template's own generation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(super) static DAEMON_SETS: Hooks = Hooks {
    generation: Generation::Counted,
    default: defaults,
    prepare_create: create,
    prepare_update: update,
    validate_create: validation::daemon_set,
    validate_update: |new, old| validation::update(new, old, validation::daemon_set),
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
}

fn create(set: &mut Value) {
    pods::prepare_template(&mut set["spec"]);
    if template_generation(set) < 1 {
        set_template_generation(set, 1);
    }
}

fn update(new: &mut Value, old: &Value) {
    let generation = template_generation(old);
    let changed = !same(&new["spec"]["template"], &old["spec"]["template"]);
    set_template_generation(new, if changed { generation + 1 } else { generation });
}

fn template_generation(set: &Value) -> i64 {
    set["metadata"]["annotations"][TEMPLATE_GENERATION].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn set_template_generation(set: &mut Value, generation: i64) {
    let annotations = object(object(set, "metadata"), "annotations");
    match generation {
        0 => remove(annotations, TEMPLATE_GENERATION),
        _ => annotations[TEMPLATE_GENERATION] = json!(generation.to_string()),
    }
}
