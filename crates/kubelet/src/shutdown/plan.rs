//! Which pods end together, and how long they get. Pure.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::pods::spec;

/// From this priority on a pod is critical to the cluster.
const CRITICAL: i32 = 2_000_000_000;

/// The seconds that pods get when the machine goes down, by the least priority of those that they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace(BTreeMap<i32, i64>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraceError {
    #[error("{0:?} is not PRIORITY=SECONDS, such as 1000=30")]
    Form(String),
    #[error("pods that are critical get {critical} s of {whole} s: they cannot get more than there is")]
    Critical { whole: u32, critical: u32 },
}

impl Default for Grace {
    fn default() -> Self {
        Self([(0, 20), (CRITICAL, 10)].into())
    }
}

impl Grace {
    /// Upstream's `shutdownGracePeriod` and `shutdownGracePeriodCriticalPods`: of the whole, critical pods get a part at
    /// the end.
    pub fn of(whole: u32, critical: u32) -> Result<Self, GraceError> {
        let others = whole.checked_sub(critical).ok_or(GraceError::Critical { whole, critical })?;
        Ok(Self([(0, others.into()), (CRITICAL, critical.into())].into()))
    }
}

/// Upstream's `shutdownGracePeriodByPodPriority`, written `PRIORITY=SECONDS,...`.
impl FromStr for Grace {
    type Err = GraceError;

    fn from_str(text: &str) -> Result<Self, GraceError> {
        let entries = text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(|entry| {
            let parsed = entry.split_once('=').and_then(|(priority, seconds)| {
                let seconds: u32 = seconds.trim().parse().ok()?;
                Some((priority.trim().parse().ok()?, i64::from(seconds)))
            });
            parsed.ok_or_else(|| GraceError::Form(entry.to_owned()))
        });
        Ok(Self(entries.collect::<Result<_, _>>()?))
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

    fn check(grace: &str, priorities: &[i32], expected: &[(i64, &[i32])]) {
        let pod = |priority: &i32| {
            let pod = json!({"metadata": {"name": "p"}, "spec": {"priority": priority, "containers": []}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let groups = groups(&grace.parse().unwrap(), priorities.iter().map(pod).collect());
        let of = |group: &Group| group.pods.iter().map(|pod| pod.spec.as_ref().unwrap().priority.unwrap()).collect();
        let found: Vec<(i64, Vec<i32>)> = groups.iter().map(|group| (group.seconds, of(group))).collect();
        let expected: Vec<(i64, Vec<i32>)> = expected.iter().map(|(seconds, all)| (*seconds, all.to_vec())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn pods_end_in_order_of_their_priority() {
        let grace = "100000=10, 10000=180,1000=120, 0=60";
        check(
            grace,
            &[100_000, 5, 99_999, 1000, -7, i32::MAX],
            &[(60, &[5, -7]), (120, &[1000]), (180, &[99_999]), (10, &[100_000, i32::MAX])],
        );
        check("10=5", &[0, 20], &[(5, &[0, 20])]);
        check("", &[0], &[]);
    }

    #[test]
    fn critical_pods_get_a_part_of_the_whole_and_end_last() {
        assert_eq!(Grace::of(30, 10).unwrap(), Grace::default());
        assert_eq!(Grace::default(), "0=20,2000000000=10".parse().unwrap());
        let wrong = Grace::of(5, 10).unwrap_err().to_string();
        assert_eq!(wrong, "pods that are critical get 10 s of 5 s: they cannot get more than there is");
        assert!(
            "1000".parse::<Grace>().is_err() && "a=1".parse::<Grace>().is_err() && "1=-1".parse::<Grace>().is_err()
        );
    }

    #[test]
    fn what_has_ended_is_not_ended_again() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"phase": "Succeeded"}});
        assert_eq!(groups(&Grace::default(), vec![Arc::new(serde_json::from_value(pod).unwrap())]), []);
    }
}
