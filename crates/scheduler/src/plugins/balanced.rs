//! The best node is one whose CPU and memory will be taken to the same degree: neither is left over without the other.

use super::{MOST, Score};
use crate::snapshot::{NodeInfo, PodInfo};

pub struct BalancedAllocation<'a> {
    pod: &'a PodInfo,
}

impl<'a> BalancedAllocation<'a> {
    pub fn new(pod: &'a PodInfo) -> Self {
        Self { pod }
    }

    fn fraction(&self, node: &NodeInfo, name: &str) -> Option<f64> {
        let all = Some(node.spec.allocatable.get(name)).filter(|all| *all > 0)?;
        let taken = node.requested.get(name).saturating_add(self.pod.needs.requests.get(name));
        Some((taken as f64 / all as f64).min(1.0))
    }
}

impl Score for BalancedAllocation<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let requests = &self.pod.needs.requests;
        if requests.get("cpu") == 0 && requests.get("memory") == 0 {
            // A pod that takes nothing unbalances nothing.
            return 0;
        }
        // Of two values the standard deviation is half their distance.
        let deviation = match (self.fraction(node, "cpu"), self.fraction(node, "memory")) {
            (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
            _ => 0.0,
        };
        ((1.0 - deviation) * MOST as f64) as i64
    }
}
