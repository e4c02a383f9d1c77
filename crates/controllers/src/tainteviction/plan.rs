//! How long a pod may stay on a tainted node.

use std::time::Duration;

use api::object::Entry;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Toleration};

use crate::common::nodes::tolerates;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    StayFor(Duration),
    Evict,
}

/// Whether a node can have a NoExecute taint at all: a cheap look before decoding.
pub(super) fn may_evict(node: &Entry) -> bool {
    let needle = b"NoExecute";
    node.stored_json().windows(needle.len()).any(|window| window == needle)
}

/// The shortest of the pod's tolerances counts, from the time of each taint.
pub(super) fn judge(pod: &Pod, node: &Node, now: Timestamp) -> Verdict {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut verdict = Verdict::Stay;
    for taint in taints.filter(|taint| taint.effect == "NoExecute") {
        let matching: Vec<&Toleration> = tolerations.iter().filter(|toleration| tolerates(toleration, taint)).collect();
        if matching.is_empty() {
            return Verdict::Evict;
        }
        let Some(seconds) = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min() else {
            continue;
        };
        let since = taint.time_added.as_ref().map_or(now, |time| time.0);
        let due = since + Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let Some(left) = Duration::try_from(due.duration_since(now)).ok().filter(|left| !left.is_zero()) else {
            return Verdict::Evict;
        };
        verdict = match verdict {
            Verdict::StayFor(shorter) if shorter < left => verdict,
            _ => Verdict::StayFor(left),
        };
    }
    verdict
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_shortest_tolerance_counts() {
        let taint = |key: &str| json!({"key": key, "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"});
        let tolerate = |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        let cases: [(Vec<Value>, Vec<Value>, Verdict); 6] = [
            (vec![], vec![], Verdict::Stay),
            (vec![taint("a")], vec![], Verdict::Evict),
            (vec![taint("a")], vec![tolerate("a", None)], Verdict::Stay),
            (vec![taint("a")], vec![tolerate("a", Some(300))], Verdict::StayFor(Duration::from_secs(240))),
            (vec![taint("a")], vec![tolerate("a", Some(30))], Verdict::Evict),
            (
                vec![taint("a"), taint("b")],
                vec![tolerate("a", Some(100)), tolerate("b", Some(90))],
                Verdict::StayFor(Duration::from_secs(30)),
            ),
        ];
        for (taints, tolerations, expected) in cases {
            let node = serde_json::from_value(json!({"metadata": {}, "spec": {"taints": taints}})).unwrap();
            let pod = json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}});
            let pod = serde_json::from_value(pod).unwrap();
            assert_eq!(judge(&pod, &node, "2026-01-01T00:01:00Z".parse().unwrap()), expected, "{tolerations:?}");
        }
    }
}
