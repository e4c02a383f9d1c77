//! Where a pod goes: a pure function of the pod and the snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::plugins::volume_binding::{Binding, VolumeBinding};
use crate::plugins::{self, Filter, Plugin, Rejection, Verdict, preemption};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

/// Chooses one of `n` equally good nodes: an index below `n`.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

/// The node for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub node: String,
    /// What must be done with the pod's claims before it is bound.
    pub volumes: Vec<Binding>,
}

/// No node can take the pod. Its text is upstream's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FitError {
    /// How many nodes there are.
    pub total: usize,
    /// What refused each node, by the node's name.
    pub nodes: BTreeMap<String, Rejection>,
    /// What refused all of them at once.
    pub all: Option<Rejection>,
    /// What came of looking for pods that could make room.
    pub preemption: Option<preemption::Outcome>,
}

/// Finds the best node for the pod.
///
/// # Errors
/// When there is none: why, and which pods could make room.
pub fn plan(pod: &PodInfo, snapshot: &Snapshot, choose: Choose<'_>) -> Result<Placement, FitError> {
    let total = snapshot.nodes().count();
    if total == 0 {
        return Err(FitError::default());
    }
    let filters = match plugins::filters(pod, snapshot) {
        Ok(filters) => filters,
        Err(all) => {
            let preemption = Some(preemption::Outcome::not_helpful(total));
            return Err(FitError { total, all: Some(all), preemption, ..FitError::default() });
        }
    };
    let mut rejected = BTreeMap::new();
    let mut feasible = Vec::new();
    for node in snapshot.nodes() {
        match run_filters(&filters, pod, snapshot, node) {
            Ok(()) => feasible.push(node),
            Err(rejection) => {
                rejected.insert(node.name.clone(), rejection);
            }
        }
    }
    if feasible.is_empty() {
        let mut error = FitError { total, nodes: rejected, ..FitError::default() };
        error.preemption = Some(preemption::preempt(pod, snapshot, &error.nodes));
        return Err(error);
    }
    let node = best(pod, snapshot, &feasible, choose);
    let volumes = VolumeBinding::new(pod, snapshot).ok().and_then(|binding| binding.bindings(node));
    Ok(Placement { node: node.name.clone(), volumes: volumes.unwrap_or_default() })
}

/// Filters a node, with the pods for which room is being made there as if they were on it already.
pub(crate) fn run_filters(
    filters: &[Box<dyn Filter + '_>],
    pod: &PodInfo,
    snapshot: &Snapshot,
    node: &NodeInfo,
) -> Verdict {
    let check = |node: &NodeInfo| filters.iter().try_for_each(|filter| filter.filter(node));
    let nominated: Vec<&Arc<PodInfo>> =
        snapshot.nominated_to(&node.name, pod).filter(|other| other.needs.priority >= pod.needs.priority).collect();
    if !nominated.is_empty() {
        let mut crowded = node.clone();
        nominated.into_iter().for_each(|other| crowded.add(other.clone()));
        check(&crowded)?;
    }
    check(node)
}

fn best<'a>(pod: &PodInfo, snapshot: &Snapshot, feasible: &[&'a Arc<NodeInfo>], choose: Choose<'_>) -> &'a NodeInfo {
    // The node on which room was made comes first: the victims left for this pod.
    let nominated = pod.nominated.as_deref().or_else(|| snapshot.nominated_node(&pod.uid));
    if let Some(node) = feasible.iter().find(|node| Some(node.name.as_str()) == nominated) {
        return node;
    }
    if let [only] = feasible {
        return only;
    }
    let names: BTreeSet<&str> = feasible.iter().map(|node| node.name.as_str()).collect();
    let mut totals = vec![0; feasible.len()];
    for (weight, score) in plugins::scores(pod, snapshot, &names) {
        let mut scores: Vec<i64> = feasible.iter().map(|node| score.score(node)).collect();
        score.normalize(&mut scores);
        for (total, score) in totals.iter_mut().zip(scores) {
            *total += weight * score;
        }
    }
    let highest = totals.iter().copied().max().unwrap_or_default();
    let equals: Vec<&Arc<NodeInfo>> =
        feasible.iter().zip(&totals).filter(|(_, total)| **total == highest).map(|(node, _)| *node).collect();
    equals[choose(equals.len()) % equals.len()]
}

impl FitError {
    /// The plugins whose mind a change in the cluster must change.
    pub fn plugins(&self) -> BTreeSet<Plugin> {
        self.nodes.values().chain(&self.all).map(|rejection| rejection.plugin).collect()
    }
}

/// `1 Insufficient cpu, 2 node(s) were unschedulable`
pub(crate) fn histogram<'a>(reasons: impl Iterator<Item = &'a str>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut lines: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    lines.sort();
    lines.join(", ")
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.total == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let reasons = match &self.all {
            Some(all) => all.reasons.join(", "),
            None => histogram(self.nodes.values().flat_map(|one| &one.reasons).map(String::as_str)),
        };
        write!(f, "0/{} nodes are available: {reasons}.", self.total)?;
        match &self.preemption {
            Some(outcome) => write!(f, " preemption: {outcome}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for FitError {}

#[cfg(test)]
mod tests;
