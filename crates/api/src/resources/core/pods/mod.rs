//! Pods, and the Pod spec that templates share.

pub(crate) mod defaults;
mod overlaps;
mod prepare;
pub mod qos;
pub mod references;
pub(crate) mod validation;
pub(crate) mod warnings;

pub use validation::tolerations;

use serde_json::Value;

use crate::resources::fields::{object, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN, STATUS, SubresourceHooks};

pub(super) static PODS: Hooks = Hooks {
    generation: Generation::Counted,
    default: defaults::pod,
    prepare_create: prepare::create,
    validate_create: validation::create,
    validate_update: validation::update::validate,
    warnings: warnings::of_pod,
    subresources: &[
        ("status", SubresourceHooks { prepare: prepare::status, validate: validation::subresources::status, ..STATUS }),
        (
            "ephemeralcontainers",
            SubresourceHooks {
                prepare: prepare::ephemeral_containers,
                validate: validation::subresources::ephemeral_containers,
                resets: &[],
                ..STATUS
            },
        ),
        (
            "resize",
            SubresourceHooks {
                prepare: prepare::resize,
                validate: validation::subresources::resize,
                resets: &[],
                ..STATUS
            },
        ),
    ],
    grace: Some(grace),
    ..PLAIN
};

/// Readies the Pod template of a new workload's `spec`.
pub(crate) fn prepare_template(spec: &mut Value) {
    within(spec, "template", |template| within(template, "spec", prepare::drop_disabled));
}

/// What upstream fills into a Pod template.
pub(crate) fn template_defaults(template: &mut Value) {
    within(template, "metadata", defaults::drop_old_annotations);
    defaults::spec(object(template, "spec"));
}

/// The asked grace period, else the Pod's own; none for a Pod that runs nowhere or no more.
fn grace(pod: &Value, asked: Option<i64>) -> i64 {
    let own = || pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or_default();
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
    match asked.unwrap_or_else(own) {
        _ if unscheduled || ended => 0,
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}
