//! How long admission took and what policies said, by upstream's names.

use std::sync::LazyLock;
use std::time::Duration;

use client::metrics::{Family, Series};

use super::Operation;

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

pub(crate) static FAMILIES: [&Family; 3] = [&STEPS, &CHECKS, &CHECK_SECONDS];

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

/// Counts what one validation of a policy came to: `allow`, `deny`, `warn` or `audit`.
pub(super) fn check(policy: &str, binding: &str, action: &str, took: Duration) {
    let labels = [action, "no_error", policy, binding];
    CHECKS.add(&labels, 1.0);
    CHECK_SECONDS.observe(&labels, took.as_secs_f64());
}
