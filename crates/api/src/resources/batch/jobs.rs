//! Jobs.

use serde_json::{Value, json};

use super::validation;
use crate::resources::core::pods;
use crate::resources::fields::{default, default_zero, each, flag, is_empty, object, same, text, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN};

pub(super) static JOBS: Hooks = Hooks {
    generation: Generation::Counted,
    orphans: true,
    orphan_warning: "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
    default: defaults,
    prepare_create: create,
    settle_create: take_labels,
    validate_create: validation::job,
    validate_update: validation::job_update,
    warnings: pods::warnings::of_workload,
    ..PLAIN
};

fn defaults(job: &mut Value) {
    take_labels(job);
    spec(object(job, "spec"));
}

/// A Job without labels has those of its template.
fn take_labels(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    if !is_empty(&labels) && is_empty(&job["metadata"]["labels"]) {
        object(job, "metadata")["labels"] = labels;
    }
}

/// What a Job's spec gets as such. In a CronJob's template it gets less.
fn spec(spec: &mut Value) {
    if spec["parallelism"].is_null() {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let per_index = !spec["backoffLimitPerIndex"].is_null();
    default(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let replace = if spec["podFailurePolicy"].is_null() { "TerminatingOrFailed" } else { "Failed" };
    default(spec, "podReplacementPolicy", replace);
    template_defaults(spec);
}

/// What a Job's spec gets also in a CronJob.
pub(super) fn template_defaults(spec: &mut Value) {
    within(spec, "podFailurePolicy", |policy| {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| default_zero(pattern, "status", "True"));
        });
    });
    within(spec, "template", pods::template_defaults);
}

/// A Job that brings no selector of its own selects its Pods by its UID.
fn create(job: &mut Value) {
    within(job, "spec", pods::prepare_template);
    if flag(&job["spec"], "manualSelector") {
        return;
    }
    // Labels that the Job took over from its template follow the template here too.
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    let shared = !is_empty(labels) && same(&job["metadata"]["labels"], labels);
    let (name, uid) = (text(&job["metadata"], "name").to_owned(), text(&job["metadata"], "uid").to_owned());
    let labels = object(object(object(object(job, "spec"), "template"), "metadata"), "labels");
    for (key, value) in [
        ("job-name", &name),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("batch.kubernetes.io/controller-uid", &uid),
    ] {
        default(labels, key, json!(value));
    }
    if shared {
        let labels = labels.clone();
        job["metadata"]["labels"] = labels;
    }
    let selected = object(object(&mut job["spec"], "selector"), "matchLabels");
    default(selected, "batch.kubernetes.io/controller-uid", uid);
}
