//! How long admission took and what policies said, by upstream's names.

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use api::podsecurity::{Level, LevelVersion, Version};
use client::metrics::{Family, Series};

use super::conditions::Whose;
use super::{Operation, Request};

static STEPS: Family = Family::histogram(
    "apiserver_admission_step_admission_duration_seconds",
    "[STABLE] How long all plugins together took, by step, operation and whether they refused",
    &["operation", "rejected", "type"],
    &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5],
);
static CHECKS: Family = Family::counter(
    "apiserver_validating_admission_policy_check_total",
    "[BETA] What validating policies said of writes, by what was done about it",
    &["enforcement_action", "error_type", "policy", "policy_binding"],
);
static CHECK_SECONDS: Family = Family::histogram(
    "apiserver_validating_admission_policy_check_duration_seconds",
    "[BETA] How long validating policies took, by what was done about what they said",
    &["enforcement_action", "error_type", "policy", "policy_binding"],
    &[0.000_000_5, 0.001, 0.01, 0.1, 1.0],
);

static PLUGINS: Family = Family::histogram(
    "apiserver_admission_controller_admission_duration_seconds",
    "[STABLE] How long each plugin took, by name, step, operation and whether it refused",
    &["name", "operation", "rejected", "type"],
    &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5],
);
static CONDITION_SECONDS: Family = Family::histogram(
    "apiserver_admission_match_condition_evaluation_seconds",
    "[ALPHA] How long match conditions took, by whose they are",
    &["kind", "name", "operation", "type"],
    &[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25],
);
static CONDITION_ERRORS: Family = Family::counter(
    "apiserver_admission_match_condition_evaluation_errors_total",
    "[ALPHA] Match conditions that could not be evaluated, by whose they are",
    &["kind", "name", "operation", "type"],
);

static EVALUATIONS: Family = Family::counter(
    "pod_security_evaluations_total",
    "[ALPHA] Pods that were looked at, by what came of it",
    &["decision", "mode", "policy_level", "policy_version", "request_operation", "resource", "subresource"],
);
static EXEMPTIONS: Family = Family::counter(
    "pod_security_exemptions_total",
    "[ALPHA] Writes that were exempt",
    &["request_operation", "resource", "subresource"],
);
static ERRORS: Family = Family::counter(
    "pod_security_errors_total",
    "[ALPHA] What kept Pods from being looked at as they should be",
    &["fatal", "request_operation", "resource", "subresource"],
);

pub(crate) static FAMILIES: [&Family; 9] = [
    &STEPS,
    &CHECKS,
    &CHECK_SECONDS,
    &PLUGINS,
    &CONDITION_SECONDS,
    &CONDITION_ERRORS,
    &EVALUATIONS,
    &EXEMPTIONS,
    &ERRORS,
];

const OPERATIONS: [Operation; 4] = [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];

/// By step, operation, and whether it was refused: looked up once, since every write comes by.
static SERIES: LazyLock<[[[Series; 2]; 4]; 2]> = LazyLock::new(|| {
    ["admit", "validate"].map(|step| {
        OPERATIONS.map(|operation| ["false", "true"].map(|rejected| STEPS.of(&[operation.name(), rejected, step])))
    })
});

/// Counts one step of a write.
pub(super) fn step(validating: bool, operation: Operation, rejected: bool, took: Duration) {
    let at = OPERATIONS.iter().position(|it| *it == operation).unwrap_or_default();
    SERIES[usize::from(validating)][at][usize::from(rejected)].observe(took.as_secs_f64());
}

/// The series of one plugin in one step, by operation and whether it refused; each looked up when it is first used, so
/// that nobody is told of what never happens.
#[derive(Default)]
pub(super) struct OfPlugin([[OnceLock<Series>; 2]; 4]);

impl OfPlugin {
    pub(super) fn observe(&self, name: &str, step: &str, operation: Operation, rejected: bool, took: Duration) {
        let at = OPERATIONS.iter().position(|it| *it == operation).unwrap_or_default();
        let label = if rejected { "true" } else { "false" };
        let series =
            self.0[at][usize::from(rejected)].get_or_init(|| PLUGINS.of(&[name, operation.name(), label, step]));
        series.observe(took.as_secs_f64());
    }
}

/// Counts one evaluation of all conditions of somebody.
pub(super) fn conditions(whose: &Whose<'_>, took: Duration) {
    CONDITION_SECONDS.observe(&[whose.kind, whose.name, whose.operation, whose.step], took.as_secs_f64());
}

/// Counts a condition that could not be evaluated.
pub(super) fn condition_failed(whose: &Whose<'_>) {
    CONDITION_ERRORS.add(&[whose.kind, whose.name, whose.operation, whose.step], 1.0);
}

/// Counts what one validation of a policy came to: `allow`, `deny`, `warn` or `audit`.
pub(super) fn check(policy: &str, binding: &str, action: &str, took: Duration) {
    let labels = [action, "no_error", policy, binding];
    CHECKS.add(&labels, 1.0);
    CHECK_SECONDS.observe(&labels, took.as_secs_f64());
}

/// The minor version of Kubernetes whose rules are the latest that are known here.
const MINOR: u32 = 36;

/// Operation and resource, as Pod Security names them.
fn asked(request: &Request) -> [&'static str; 2] {
    let operation = if request.operation == Operation::Create { "create" } else { "update" };
    [operation, if request.resource == "pods" { "pod" } else { "controller" }]
}

/// Counts a Pod that was looked at in one mode.
pub(super) fn evaluated(request: &Request, mode: &str, level: LevelVersion, allowed: bool) {
    let decision = if allowed { "allow" } else { "deny" };
    let version = match level.version {
        // What is privileged is the same in all versions.
        _ if level.level == Level::Privileged => "latest".to_owned(),
        Version::Minor(minor) if minor > MINOR => "future".to_owned(),
        version => version.to_string(),
    };
    let [operation, resource] = asked(request);
    let labels = [decision, mode, &level.level.to_string(), &version, operation, resource, &request.subresource];
    EVALUATIONS.add(&labels, 1.0);
}

/// Counts a write that was exempt.
pub(super) fn exempted(request: &Request) {
    let [operation, resource] = asked(request);
    EXEMPTIONS.add(&[operation, resource, &request.subresource], 1.0);
}

/// Counts what kept a Pod from being looked at, altogether or by the right rules.
pub(super) fn failed(request: &Request, fatal: bool) {
    let [operation, resource] = asked(request);
    ERRORS.add(&[if fatal { "true" } else { "false" }, operation, resource, &request.subresource], 1.0);
}
