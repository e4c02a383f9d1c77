//! When no node has room: which pods of lower priority could leave so that one has (upstream's DefaultPreemption).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use api::object::ObjectKey;
use jiff::Timestamp;

use super::{Rejection, Verdict, filters};
use crate::plan::{histogram, run_filters};
use crate::snapshot::{PodInfo, Snapshot, selector};

const NOT_HELPFUL: &str = "Preemption is not helpful for scheduling";

/// What preemption can do for a pod.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Deleting these pods makes room on the node.
    Victims { node: String, victims: Vec<Arc<PodInfo>> },
    /// The pod may not preempt.
    NotEligible(&'static str),
    /// It would not help anywhere: a reason for each node.
    Useless { total: usize, reasons: Vec<String> },
}

/// The pods to remove from one node.
struct Candidate {
    node: String,
    victims: Vec<Arc<PodInfo>>,
    /// How many victims have a PodDisruptionBudget that does not allow it.
    violations: usize,
}

/// Looks for the node where making room costs least. `rejected` is why each node cannot take the pod now.
pub fn preempt(pod: &PodInfo, snapshot: &Snapshot, rejected: &BTreeMap<String, Rejection>) -> Outcome {
    if pod.needs.never_preempts {
        return Outcome::NotEligible("not eligible due to preemptionPolicy=Never.");
    }
    if victims_are_leaving(pod, snapshot, rejected) {
        return Outcome::NotEligible("not eligible due to a terminating pod on the nominated node.");
    }
    let mut trial = snapshot.clone();
    let (mut candidates, mut reasons) = (Vec::new(), Vec::new());
    for (node, rejection) in rejected {
        if rejection.unresolvable {
            reasons.push(NOT_HELPFUL.to_owned());
            continue;
        }
        match candidate(pod, &mut trial, node) {
            Ok(candidate) => candidates.push(candidate),
            Err(why) => reasons.extend(why),
        }
    }
    match candidates.into_iter().min_by_key(cost) {
        Some(Candidate { node, victims, .. }) => Outcome::Victims { node, victims },
        None => Outcome::Useless { total: rejected.len(), reasons },
    }
}

/// Whether pods less important are already leaving the node that was made ready for this one: it is its turn next.
fn victims_are_leaving(pod: &PodInfo, snapshot: &Snapshot, rejected: &BTreeMap<String, Rejection>) -> bool {
    let Some(node) = pod.nominated.as_deref().or_else(|| snapshot.nominated_node(&pod.uid)) else { return false };
    if rejected.get(node).is_some_and(|rejection| rejection.unresolvable) {
        return false;
    }
    let pods = snapshot.node(node).into_iter().flat_map(|node| node.pods.values());
    pods.into_iter().any(|other| other.deleting && other.needs.priority < pod.needs.priority)
}

/// The fewest pods that must leave the node; or why that would not help. Leaves `trial` as it was.
fn candidate(pod: &PodInfo, trial: &mut Snapshot, node: &str) -> Result<Candidate, Vec<String>> {
    let Some(info) = trial.node(node) else { return Err(Vec::new()) };
    let mut lower: Vec<Arc<PodInfo>> =
        info.pods.values().filter(|other| other.needs.priority < pod.needs.priority).cloned().collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    for other in &lower {
        trial.remove_pod(&other.uid);
    }
    if let Err(rejection) = fits(pod, trial, node) {
        lower.into_iter().for_each(|other| trial.assume(other, node));
        return Err(rejection.reasons);
    }
    // The most important are spared first, and before all others those whose budget is used up.
    lower.sort_by_key(|other| (Reverse(other.needs.priority), other.started.unwrap_or(Timestamp::MAX)));
    let (violating, allowed) = by_budget(lower, trial);
    let mut found = Candidate { node: node.to_owned(), victims: Vec::new(), violations: 0 };
    for (other, violates) in violating.iter().map(|other| (other, true)).chain(allowed.iter().map(|o| (o, false))) {
        trial.assume(other.clone(), node);
        if fits(pod, trial, node).is_err() {
            trial.remove_pod(&other.uid);
            found.victims.push(other.clone());
            found.violations += usize::from(violates);
        }
    }
    for other in &found.victims {
        trial.assume(other.clone(), node);
    }
    found.victims.sort_by_key(|other| (Reverse(other.needs.priority), other.started.unwrap_or(Timestamp::MAX)));
    Ok(found)
}

fn fits(pod: &PodInfo, snapshot: &Snapshot, node: &str) -> Verdict {
    let filters = filters(pod, snapshot)?;
    snapshot.node(node).map_or(Ok(()), |node| run_filters(&filters, pod, snapshot, node))
}

/// Splits pods into those whose eviction a budget does not allow, and the others.
fn by_budget(pods: Vec<Arc<PodInfo>>, snapshot: &Snapshot) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: BTreeMap<&ObjectKey, i32> = BTreeMap::new();
    pods.into_iter().partition(|pod| {
        let mut violates = false;
        for (key, budget) in snapshot.budgets.iter().filter(|(key, _)| key.namespace == pod.key.namespace) {
            let wanted = selector(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
            let status = budget.status.as_ref();
            let counted = status.and_then(|status| status.disrupted_pods.as_ref());
            if !wanted.matches(pod.labels()) || counted.is_some_and(|pods| pods.contains_key(&pod.key.name)) {
                continue;
            }
            let allowed = status.and_then(|status| status.disruptions_allowed).unwrap_or_default();
            let left = left.entry(key).or_insert(allowed);
            *left -= 1;
            violates |= *left < 0;
        }
        violates
    })
}

/// Fewer violated budgets; a less important most important victim; less importance in all; fewer victims; victims
/// that have run less long.
fn cost(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
    let highest = candidate.victims.iter().map(|pod| pod.needs.priority).max().unwrap_or(i32::MIN);
    // Shifted so that more victims never add up to less because their priorities are negative.
    let sum = candidate.victims.iter().map(|pod| i64::from(pod.needs.priority) + i64::from(i32::MAX) + 1).sum();
    let top = candidate.victims.iter().filter(|pod| pod.needs.priority == highest);
    let earliest = top.filter_map(|pod| pod.started).min().unwrap_or(Timestamp::MAX);
    (candidate.violations, highest, sum, candidate.victims.len(), Reverse(earliest))
}

impl Outcome {
    /// What keeps the pod from being placed is not other pods.
    pub fn not_helpful(total: usize) -> Self {
        Self::Useless { total, reasons: vec![NOT_HELPFUL.to_owned(); total] }
    }
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Victims { node, victims } => write!(f, "{} pods leave {node}.", victims.len()),
            Self::NotEligible(why) => f.write_str(why),
            Self::Useless { total, reasons } => {
                let reasons = histogram(reasons.iter().map(String::as_str));
                write!(f, "0/{total} nodes are available: {reasons}.")
            }
        }
    }
}
