//! Which pods end together, and how long they get. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec;

/// From this priority on a pod is critical to the cluster.
const CRITICAL: i32 = 2_000_000_000;

/// The seconds that pods get when the machine goes down, by the least priority of those that they are for. Without an
/// entry no pod is ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grace(BTreeMap<i32, i64>);

impl Grace {
    /// Upstream's `shutdownGracePeriod` and `shutdownGracePeriodCriticalPods`: of the whole, critical pods get a part at
    /// the end.
    pub fn of(whole: Duration, critical: Duration) -> Self {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        match whole.is_zero() {
            true => Self::default(),
            false => {
                [(0, seconds(whole.saturating_sub(critical))), (CRITICAL, seconds(critical))].into_iter().collect()
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Upstream's `shutdownGracePeriodByPodPriority`.
impl FromIterator<(i32, i64)> for Grace {
    fn from_iter<T: IntoIterator<Item = (i32, i64)>>(entries: T) -> Self {
        Self(entries.into_iter().collect())
    }
}

/// Pods that end together.
#[derive(Debug, PartialEq)]
pub(crate) struct Group {
    pub(crate) priority: i32,
    pub(crate) seconds: i64,
    pub(crate) pods: Vec<Arc<Pod>>,
}

/// The pods that have not ended, lowest priority first; a group without pods is none. A priority between two entries
/// belongs to the lower one, one below all to the lowest.
pub(crate) fn groups(grace: &Grace, pods: Vec<Arc<Pod>>) -> Vec<Group> {
    let mut groups: Vec<Group> = grace
        .0
        .iter()
        .map(|(priority, seconds)| Group { priority: *priority, seconds: *seconds, pods: vec![] })
        .collect();
    for pod in pods.into_iter().filter(|pod| !spec::has_ended(pod)) {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let at = groups.partition_point(|group| group.priority <= priority).saturating_sub(1);
        if let Some(group) = groups.get_mut(at) {
            group.pods.push(pod);
        }
    }
    groups.retain(|group| !group.pods.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check<const N: usize>(grace: [(i32, i64); N], priorities: &[i32], expected: &[(i64, &[i32])]) {
        let pod = |priority: &i32| {
            let pod = json!({"metadata": {"name": "p"}, "spec": {"priority": priority, "containers": []}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let groups = groups(&grace.into_iter().collect(), priorities.iter().map(pod).collect());
        let of = |group: &Group| group.pods.iter().map(|pod| pod.spec.as_ref().unwrap().priority.unwrap()).collect();
        let found: Vec<(i64, Vec<i32>)> = groups.iter().map(|group| (group.seconds, of(group))).collect();
        let expected: Vec<(i64, Vec<i32>)> = expected.iter().map(|(seconds, all)| (*seconds, all.to_vec())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn pods_end_in_order_of_their_priority() {
        let grace = [(100_000, 10), (10_000, 180), (1000, 120), (0, 60)];
        check(
            grace,
            &[100_000, 5, 99_999, 1000, -7, i32::MAX],
            &[(60, &[5, -7]), (120, &[1000]), (180, &[99_999]), (10, &[100_000, i32::MAX])],
        );
        check([(10, 5)], &[0, 20], &[(5, &[0, 20])]);
        check([], &[0], &[]);
    }

    #[test]
    fn critical_pods_get_a_part_of_the_whole_and_end_last() {
        let seconds = Duration::from_secs;
        assert_eq!(Grace::of(seconds(30), seconds(10)), [(0, 20), (CRITICAL, 10)].into_iter().collect());
        assert_eq!(Grace::of(seconds(0), seconds(0)), Grace::default(), "without time nobody is waited for");
    }

    #[test]
    fn what_has_ended_is_not_ended_again() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"phase": "Succeeded"}});
        assert_eq!(groups(&Grace::default(), vec![Arc::new(serde_json::from_value(pod).unwrap())]), []);
    }
}
