//! ReplicationControllers.

use serde_json::Value;

use super::pods;
use super::pods::validation::not_negative;
use crate::field_path::Path;
use crate::resources::apps::validation::always_restarts;
use crate::resources::fields::{default, is_empty, object, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN};
use crate::resources::metadata::selects;
use crate::status::Cause;
use crate::validation::Errors;

pub(super) static REPLICATION_CONTROLLERS: Hooks = Hooks {
    generation: Generation::Counted,
    orphans: true,
    default: defaults,
    prepare_create: |controller| within(controller, "spec", pods::prepare_template),
    validate_create: validate,
    validate_update: |new, _| validate(new),
    warnings: pods::warnings::of_workload,
    ..PLAIN
};

/// Selector and labels are the template's, unless they are stated.
fn defaults(controller: &mut Value) {
    let labels = controller["spec"]["template"]["metadata"]["labels"].clone();
    if !is_empty(&labels) {
        if is_empty(&controller["spec"]["selector"]) {
            controller["spec"]["selector"] = labels.clone();
        }
        if is_empty(&controller["metadata"]["labels"]) {
            object(controller, "metadata")["labels"] = labels;
        }
    }
    let spec = object(controller, "spec");
    default(spec, "replicas", 1);
    within(spec, "template", pods::template_defaults);
}

fn validate(controller: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&controller["spec"], Path::root("spec"));
    not_negative(&mut errors, spec, "minReadySeconds", &path);
    if is_empty(&spec["selector"]) {
        errors.required(&path.child("selector"), "");
    }
    not_negative(&mut errors, spec, "replicas", &path);
    let (template, at) = (&spec["template"], path.child("template"));
    if template.is_null() {
        errors.required(&at, "");
        return errors.into_causes();
    }
    if !selects(&spec["selector"], &template["metadata"], "labels") {
        let labels = template["metadata"]["labels"].clone();
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&at.child("metadata").child("labels"), labels, detail);
    }
    pods::validation::template(&mut errors, template, &at);
    always_restarts(&mut errors, &template["spec"], "ReplicationController", &at.child("spec"));
    errors.into_causes()
}
