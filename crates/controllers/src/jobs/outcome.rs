//! How a pod ended, and what that means by the Job's rules.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use crate::common::pods;

/// What a failed pod does to its Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// One more failure.
    Count,
    /// None.
    Ignore,
    /// Its index will not be tried again.
    FailIndex,
    /// The end of the Job; and why.
    FailJob(String),
}

/// Judges a failed pod by the Job's `podFailurePolicy`; the first rule that matches counts.
pub(super) fn judge(spec: &JobSpec, pod: &Pod) -> Failure {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| policy.rules.iter().enumerate());
    for (at, rule) in rules {
        let Some(what) = matches(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Failure::Ignore,
            "FailIndex" => Failure::FailIndex,
            "FailJob" => Failure::FailJob(format!("{what} matching FailJob rule at index {at}")),
            _ => Failure::Count,
        };
    }
    Failure::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let name = format!("{}/{}", pods::namespace(&pod.metadata), pods::name(&pod.metadata));
    if let Some(codes) = &rule.on_exit_codes {
        let found = terminations(pod).find(|(container, ended)| {
            let named = codes.container_name.as_ref().is_none_or(|wanted| wanted == container);
            let listed = codes.values.contains(&ended.exit_code);
            named && ended.exit_code != 0 && listed == (codes.operator == "In")
        });
        return found.map(|(container, ended)| {
            format!("Container {container} for pod {name} failed with exit code {}", ended.exit_code)
        });
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let patterns = rule.on_pod_conditions.iter().flatten();
    patterns
        .filter_map(|pattern| {
            let wanted = pattern.status.as_deref().unwrap_or("True");
            conditions.iter().find(|condition| condition.type_ == pattern.type_ && condition.status == wanted)
        })
        .map(|condition| format!("Pod {name} has condition {}", condition.type_))
        .next()
}

fn terminations(pod: &Pod) -> impl Iterator<Item = (&str, &ContainerStateTerminated)> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(main).filter_map(|one| Some((one.name.as_str(), one.state.as_ref()?.terminated.as_ref()?)))
}

/// When a pod ended: with the last of its containers, or when it was told to.
pub(super) fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let last = terminations(pod).filter_map(|(_, ended)| ended.finished_at.as_ref()).map(|time| time.0).max();
    last.or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|time| time.0))
        .or_else(|| pod.metadata.creation_timestamp.as_ref().map(|time| time.0))
}

/// Restarts of all containers, which count as failures where containers are restarted in place.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
    let main = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    init.iter().chain(main).map(|one| one.restart_count).sum()
}
