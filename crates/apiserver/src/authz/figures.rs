//! How often it was asked whether somebody may, who decided, and how other servers did that were asked, by upstream's
//! names.

use std::sync::LazyLock;
use std::time::Duration;

use client::metrics::{Family, Series};

use super::Decision;

static ATTEMPTS: Family = Family::counter(
    "authorization_attempts_total",
    "[ALPHA] Requests by what was found out about whether they may be made",
    &["result"],
);
static DURATION: Family = Family::histogram(
    "authorization_duration_seconds",
    "[ALPHA] How long it took to find out whether a request may be made",
    &["result"],
    &[0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384],
);
pub(super) static DECISIONS: Family = Family::counter(
    "apiserver_authorization_decisions_total",
    "[ALPHA] Decisions by the authorizer that made them",
    &["decision", "name", "type"],
);
static CALLS: Family = Family::counter(
    "apiserver_authorization_webhook_evaluations_total",
    "[BETA] Calls to webhooks that authorize, by what came of them",
    &["name", "result"],
);
static CALL_TIME: Family = Family::histogram(
    "apiserver_authorization_webhook_duration_seconds",
    "[BETA] How long calls to webhooks that authorize took",
    &["name", "result"],
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
);
static FAILED_OPEN: Family = Family::counter(
    "apiserver_authorization_webhook_evaluations_fail_open_total",
    "[BETA] Webhooks that were passed over since they failed",
    &["name", "result"],
);
static CONDITION_TIME: Family = Family::histogram(
    "apiserver_authorization_match_condition_evaluation_seconds",
    "[BETA] How long it took to find out whether a webhook is about a request",
    &["name", "type"],
    &[0.001, 0.005, 0.01, 0.025, 0.1, 0.2, 0.25],
);
static CONDITION_ERRORS: Family = Family::counter(
    "apiserver_authorization_match_condition_evaluation_errors_total",
    "[BETA] Conditions of webhooks that have no value",
    &["name", "type"],
);
static EXCLUSIONS: Family = Family::counter(
    "apiserver_authorization_match_condition_exclusions_total",
    "[BETA] Webhooks that were not asked since their conditions do not hold",
    &["name", "type"],
);

pub(crate) static FAMILIES: [&Family; 9] = [
    &ATTEMPTS,
    &DURATION,
    &DECISIONS,
    &CALLS,
    &CALL_TIME,
    &FAILED_OPEN,
    &CONDITION_TIME,
    &CONDITION_ERRORS,
    &EXCLUSIONS,
];

/// The series of one result.
static RESULTS: LazyLock<[(Series, Series); 4]> = LazyLock::new(|| {
    ["no-opinion", "allowed", "denied", "error"].map(|result| (ATTEMPTS.of(&[result]), DURATION.of(&[result])))
});

/// Counts a request that was let through, or was not.
pub(crate) fn attempt(decision: &Decision, took: Duration) {
    let result = match decision {
        Decision { allowed: true, .. } => 1,
        Decision { error: Some(_), .. } => 3,
        Decision { denied: true, .. } => 2,
        _ => 0,
    };
    let (attempts, duration) = &RESULTS[result];
    attempts.add(1.0);
    duration.observe(took.as_secs_f64());
}

/// Counts a call to the webhook of this name: `success`, `timeout` or `error`.
pub(super) fn call(name: &str, result: &str, took: Duration) {
    CALLS.add(&[name, result], 1.0);
    CALL_TIME.observe(&[name, result], took.as_secs_f64());
}

pub(super) fn failed_open(name: &str, result: &str) {
    FAILED_OPEN.add(&[name, result], 1.0);
}

/// Counts a look at the conditions of the webhook of this name.
pub(super) fn conditions(name: &str, matches: &Result<bool, String>, failed: bool, took: Duration) {
    let labels = [name, "Webhook"];
    CONDITION_TIME.observe(&labels, took.as_secs_f64());
    if failed {
        CONDITION_ERRORS.add(&labels, 1.0);
    }
    if matches == &Ok(false) {
        EXCLUSIONS.add(&labels, 1.0);
    }
}
