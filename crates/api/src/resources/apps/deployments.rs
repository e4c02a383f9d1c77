//! Deployments.

use serde_json::Value;

use super::validation;
use crate::resources::core::pods;
use crate::resources::fields::{default, default_zero, object, same, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN, STATUS, SubresourceHooks};
use crate::resources::strategy::{bump_generation, changed, keep, keep_all_but_status};

pub(super) static DEPLOYMENTS: Hooks = Hooks {
    generation: Generation::Counted,
    default: defaults,
    prepare_create: |deployment| within(deployment, "spec", pods::prepare_template),
    prepare_update: update,
    validate_create: validation::deployment,
    validate_update: |new, old| validation::update(new, old, validation::deployment),
    warnings: pods::warnings::of_workload,
    subresources: &[("status", LABELLED_STATUS)],
    ..PLAIN
};

const LABELLED_STATUS: SubresourceHooks =
    SubresourceHooks { prepare: keep_labels_too, resets: &[&["spec"], &["metadata", "labels"]], ..STATUS };

/// A status write leaves a Deployment's labels alone.
fn keep_labels_too(new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    keep(&mut new["metadata"], &old["metadata"], "labels");
}

fn defaults(deployment: &mut Value) {
    let spec = object(deployment, "spec");
    default(spec, "replicas", 1);
    let strategy = object(spec, "strategy");
    default_zero(strategy, "type", "RollingUpdate");
    if strategy["type"] == "RollingUpdate" {
        let rolling = object(strategy, "rollingUpdate");
        default(rolling, "maxUnavailable", "25%");
        default(rolling, "maxSurge", "25%");
    }
    default(spec, "revisionHistoryLimit", 10);
    default(spec, "progressDeadlineSeconds", 600);
    within(spec, "template", pods::template_defaults);
}

/// Annotations count like the spec: they are copied to ReplicaSets.
fn update(new: &mut Value, old: &Value) {
    if !changed(new, old) && !same(&new["metadata"]["annotations"], &old["metadata"]["annotations"]) {
        bump_generation(new, old);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn annotations_count() {
        let row = crate::resources::find("apps", "deployments").expect("a row");
        let old = json!({"metadata": {"generation": 1}, "spec": {"replicas": 1}});
        let mut new = json!({"metadata": {"annotations": {"a": "b"}}, "spec": {"replicas": 1}});
        crate::resources::strategy::prepare_update(row, &mut new, &old);
        assert_eq!(new["metadata"]["generation"], 2);
    }
}
