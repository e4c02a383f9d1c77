//! A node must have what the pod requests; the node with the most left is the best.

use super::{Filter, MOST, Plugin, Rejection, Score, Verdict};
use crate::snapshot::{NodeInfo, PodInfo};

pub struct Fit<'a> {
    pod: &'a PodInfo,
}

impl<'a> Fit<'a> {
    pub fn new(pod: &'a PodInfo) -> Self {
        Self { pod }
    }
}

impl Filter for Fit<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let allocatable = &node.spec.allocatable;
        let mut rejection = Rejection { plugin: Plugin::NodeResourcesFit, reasons: Vec::new(), unresolvable: false };
        let held = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
        if held >= allocatable.get("pods") {
            rejection.reasons.push("Too many pods".to_owned());
        }
        for (name, wanted) in self.pod.needs.requests.iter().filter(|(_, wanted)| *wanted > 0) {
            let all = allocatable.get(name);
            if wanted > all.saturating_sub(node.requested.get(name)) {
                rejection.reasons.push(format!("Insufficient {name}"));
                // Not even the empty node would do.
                rejection.unresolvable |= wanted > all;
            }
        }
        if rejection.reasons.is_empty() { Ok(()) } else { Err(rejection) }
    }
}

pub struct LeastAllocated<'a> {
    pod: &'a PodInfo,
}

impl<'a> LeastAllocated<'a> {
    pub fn new(pod: &'a PodInfo) -> Self {
        Self { pod }
    }
}

impl Score for LeastAllocated<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let left = ["cpu", "memory"].into_iter().filter_map(|name| {
            let all = Some(node.spec.allocatable.get(name)).filter(|all| *all > 0)?;
            let taken = node.scored.get(name).saturating_add(self.pod.needs.scored.get(name));
            let free = all.saturating_sub(taken).max(0);
            i64::try_from(i128::from(free) * i128::from(MOST) / i128::from(all)).ok()
        });
        let left: Vec<i64> = left.collect();
        left.iter().sum::<i64>() / i64::try_from(left.len().max(1)).unwrap_or(1)
    }
}
