//! How often it was asked whether somebody may, and who decided, by upstream's names.

use std::sync::LazyLock;
use std::time::Duration;

use client::metrics::{Family, Series};

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
static DECISIONS: Family = Family::counter(
    "apiserver_authorization_decisions_total",
    "[ALPHA] Decisions by the authorizer that made them",
    &["decision", "name", "type"],
);

pub(crate) static FAMILIES: [&Family; 3] = [&ATTEMPTS, &DURATION, &DECISIONS];

/// The series of one result. Nobody here forbids: whoever is not let through by any authorizer is not by none.
static RESULTS: LazyLock<[(Series, Series); 2]> =
    LazyLock::new(|| ["no-opinion", "allowed"].map(|result| (ATTEMPTS.of(&[result]), DURATION.of(&[result]))));
static BY_NODE: LazyLock<Series> = LazyLock::new(|| DECISIONS.of(&["allowed", "node", "Node"]));
static BY_RBAC: LazyLock<Series> = LazyLock::new(|| DECISIONS.of(&["allowed", "rbac", "RBAC"]));

/// Counts a request that was let through, or was not.
pub(crate) fn attempt(allowed: bool, took: Duration) {
    let (attempts, duration) = &RESULTS[usize::from(allowed)];
    attempts.add(1.0);
    duration.observe(took.as_secs_f64());
}

/// Counts what the Node authorizer let through.
pub(super) fn by_node() {
    BY_NODE.add(1.0);
}

/// Counts what RBAC let through.
pub(super) fn by_rbac() {
    BY_RBAC.add(1.0);
}
