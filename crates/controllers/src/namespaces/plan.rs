//! What a look at a dying namespace means for its status.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::common::conditions;

/// What was found after everything was told to go.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Why nothing is known of what there is.
    pub(super) unknown: Option<String>,
    /// The group versions that nothing is known of, each with the reason.
    pub(super) discovery_failures: Vec<String>,
    pub(super) content_failures: Vec<String>,
    pub(super) remaining: Vec<Remaining>,
}

/// Objects of one resource that are still there.
#[derive(Debug)]
pub(super) struct Remaining {
    /// `pods.` or `deployments.apps`, as upstream writes it.
    pub(super) resource: String,
    pub(super) count: usize,
    /// Every finalizer of every object.
    pub(super) finalizers: Vec<String>,
}

impl Survey {
    pub(super) fn is_empty(&self) -> bool {
        self.discovery().is_none() && self.content_failures.is_empty() && self.remaining.is_empty()
    }

    fn discovery(&self) -> Option<String> {
        let (count, each) = (self.discovery_failures.len(), self.discovery_failures.join(", "));
        let some = format!(
            "Discovery failed for some groups, {count} failing: unable to retrieve the complete list of server APIs: {each}"
        );
        self.unknown.clone().or_else(|| (count > 0).then_some(some))
    }

    fn content(&self) -> Option<String> {
        let mut each = self.content_failures.clone();
        each.sort();
        let (count, each) = (each.len(), each.join(", "));
        (count > 0).then(|| format!("Failed to delete all resource types, {count} remaining: {each}"))
    }
}

/// The five conditions in upstream's words (`pkg/controller/namespace/deletion/status_condition_utils.go`).
pub(super) fn status(old: &NamespaceStatus, survey: &Survey, now: Timestamp) -> NamespaceStatus {
    let mut status = old.clone();
    status.phase = Some("Terminating".to_owned());
    let list = status.conditions.get_or_insert_default();
    let findings = [
        (
            "NamespaceDeletionDiscoveryFailure",
            survey.discovery().map(|why| ("DiscoveryFailed", why)),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            survey.content().map(|why| ("ContentDeletionFailed", why)),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        ("NamespaceContentRemaining", resources(survey), ("ContentRemoved", "All content successfully removed")),
        (
            "NamespaceFinalizersRemaining",
            finalizers(survey),
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ];
    for (kind, trouble, fine) in findings {
        let (is, reason, message) = match trouble {
            Some((reason, message)) => (true, reason, message),
            None => (false, fine.0, fine.1.to_owned()),
        };
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: conditions::truth(is),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        replace(list, condition);
    }
    status
}

/// As [`conditions::set`], but a new message alone counts too: it says what is still there.
fn replace(list: &mut Vec<NamespaceCondition>, condition: NamespaceCondition) {
    if let Some(old) = list.iter_mut().find(|old| old.type_ == condition.type_)
        && old.status == condition.status
    {
        old.reason = condition.reason;
        old.message = condition.message;
        return;
    }
    conditions::set(list, condition);
}

fn resources(survey: &Survey) -> Option<(&'static str, String)> {
    let mut found: Vec<String> =
        survey.remaining.iter().map(|one| format!("{} has {} resource instances", one.resource, one.count)).collect();
    found.sort();
    (!found.is_empty()).then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", found.join(", "))))
}

fn finalizers(survey: &Survey) -> Option<(&'static str, String)> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for finalizer in survey.remaining.iter().flat_map(|one| &one.finalizers) {
        *counts.entry(finalizer).or_default() += 1;
    }
    let found: Vec<String> =
        counts.iter().map(|(finalizer, count)| format!("{finalizer} in {count} resource instances")).collect();
    let message = format!("Some content in the namespace has finalizers remaining: {}", found.join(", "));
    (!found.is_empty()).then_some(("SomeFinalizersRemain", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_upstreams_words() {
        let message = |survey: &Survey, kind: &str| {
            let status = status(&NamespaceStatus::default(), survey, Timestamp::UNIX_EPOCH);
            let found = status.conditions.unwrap().into_iter().find(|it| it.type_ == kind).unwrap();
            (found.status == "True").then(|| found.message.unwrap())
        };
        let discovery = "NamespaceDeletionDiscoveryFailure";
        let stale = "metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1".to_owned();
        let survey = Survey { discovery_failures: vec![stale], ..Survey::default() };
        let expected = "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server \
                        APIs: metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1";
        assert_eq!(message(&survey, discovery).unwrap(), expected);
        let survey = Survey { unknown: Some("no answer".to_owned()), ..Survey::default() };
        assert_eq!(message(&survey, discovery).unwrap(), "no answer");
        assert!(!survey.is_empty());
        let failures = ["b", "a"].map(str::to_owned).to_vec();
        let survey = Survey { content_failures: failures, ..Survey::default() };
        let expected = "Failed to delete all resource types, 2 remaining: a, b";
        assert_eq!(message(&survey, "NamespaceDeletionContentFailure").unwrap(), expected);
        assert_eq!(message(&survey, discovery), None);
    }
}
