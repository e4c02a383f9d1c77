//! Which pods go first when there are too many.

use std::cmp::Ordering;
use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts pods so that those to be deleted first come first, by upstream's eight criteria (`ActivePodsWithRanks`):
/// unassigned, then not running, not ready, cheap, crowded (by `related` pods per node), briefly ready, often
/// restarted, young.
pub(crate) fn sort_for_deletion(pods: &mut [Pod], related: &HashMap<String, usize>, now: Timestamp) {
    pods.sort_by(|a, b| compare(a, b, related, now));
}

fn compare(a: &Pod, b: &Pod, related: &HashMap<String, usize>, now: Timestamp) -> Ordering {
    let by = |f: &dyn Fn(&Pod) -> i64| f(a).cmp(&f(b));
    by(&|pod| i64::from(!node(pod).is_empty()))
        .then_with(|| by(&|pod| phase_rank(pod)))
        .then_with(|| by(&|pod| i64::from(pods::is_ready(pod))))
        .then_with(|| by(&|pod| cost(pod)))
        .then_with(|| {
            by(&|pod| -i64::try_from(related.get(node(pod)).copied().unwrap_or_default()).unwrap_or(i64::MAX))
        })
        .then_with(|| by(&|pod| age_class(pods::ready_since(pod), now)))
        .then_with(|| by(&|pod| -restarts(pod)))
        .then_with(|| by(&|pod| age_class(pod.metadata.creation_timestamp.as_ref().map(|time| time.0), now)))
        .then_with(|| uid(a).cmp(uid(b)))
}

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

fn uid(pod: &Pod) -> &str {
    pods::uid(&pod.metadata)
}

fn phase_rank(pod: &Pod) -> i64 {
    match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn cost(pod: &Pod) -> i64 {
    pods::annotation(&pod.metadata, DELETION_COST).and_then(|cost| cost.parse::<i32>().ok()).map_or(0, i64::from)
}

fn restarts(pod: &Pod) -> i64 {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_ref());
    containers.map_or(0, |containers| containers.iter().map(|one| i64::from(one.restart_count)).max().unwrap_or(0))
}

/// Ages on a logarithmic scale, so that pods of about the same age tie and are told apart by their uid, at random.
fn age_class(since: Option<Timestamp>, now: Timestamp) -> i64 {
    let seconds = since.map_or(0, |since| now.duration_since(since).as_secs());
    if seconds <= 0 { 0 } else { i64::from(seconds.unsigned_abs().ilog2()) + 1 }
}
