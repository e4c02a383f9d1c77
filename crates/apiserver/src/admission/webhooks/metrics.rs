//! Figures of calls to webhooks, by upstream's names.

use std::time::Duration;

use client::metrics::Family;

use super::Failure;
use super::configuration::Webhook;
use crate::admission::Operation;

static SECONDS: Family = Family::histogram(
    "apiserver_admission_webhook_admission_duration_seconds",
    "[STABLE] How long webhooks took, by name, step, operation and whether they refused",
    &["name", "operation", "rejected", "type"],
    &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0],
);
static REQUESTS: Family = Family::counter(
    "apiserver_admission_webhook_request_total",
    "[ALPHA] Calls to webhooks, by the code of their outcome",
    &["code", "name", "operation", "rejected", "type"],
);
static REJECTIONS: Family = Family::counter(
    "apiserver_admission_webhook_rejection_count",
    "[ALPHA] Writes that webhooks refused, or that failed because a webhook could not be asked",
    &["error_type", "name", "operation", "rejection_code", "type"],
);
static FAIL_OPEN: Family = Family::counter(
    "apiserver_admission_webhook_fail_open_count",
    "[ALPHA] Writes that passed although a webhook could not be asked",
    &["name", "type"],
);
static EXCLUSIONS: Family = Family::counter(
    "apiserver_admission_match_condition_exclusions_total",
    "[ALPHA] Writes that match conditions kept from a webhook",
    &["kind", "name", "operation", "type"],
);

pub(crate) static FAMILIES: [&Family; 5] = [&SECONDS, &REQUESTS, &REJECTIONS, &FAIL_OPEN, &EXCLUSIONS];

/// Codes beyond are one: a webhook must not be able to invent series.
const MOST_CODE: u16 = 600;

pub(super) fn observe(webhook: &Webhook, step: &str, operation: Operation, took: Duration, failure: Option<&Failure>) {
    let (code, error, rejected) = match failure {
        None => (200, None, false),
        Some(Failure::Call { code, .. }) => {
            (*code, webhook.fails_closed.then_some("calling_webhook_error"), webhook.fails_closed)
        }
        Some(Failure::Denied(status)) => (status.code, Some("no_error"), true),
        Some(Failure::Refused(_)) => (0, Some("apiserver_internal_error"), true),
    };
    let code = code.min(MOST_CODE).to_string();
    let (operation, refused) = (operation.name(), if rejected { "true" } else { "false" });
    if let Some(error) = error {
        REJECTIONS.add(&[error, &webhook.name, operation, &code, step], 1.0);
    }
    REQUESTS.add(&[&code, &webhook.name, operation, refused, step], 1.0);
    SECONDS.observe(&[&webhook.name, operation, refused, step], took.as_secs_f64());
}

pub(super) fn fail_open(webhook: &Webhook, step: &str) {
    FAIL_OPEN.add(&[&webhook.name, step], 1.0);
}

pub(super) fn exclude(webhook: &Webhook, step: &str, operation: Operation) {
    EXCLUSIONS.add(&["webhook", &webhook.name, operation.name(), step], 1.0);
}
