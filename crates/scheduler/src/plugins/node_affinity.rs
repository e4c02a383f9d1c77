//! `nodeSelector` and node affinity: labels that a node must have, and those that it had better have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use super::{Filter, Plugin, Rejection, Score, Verdict, scale};
use crate::snapshot::{NodeInfo, PodInfo};

pub struct NodeAffinity<'a> {
    pod: &'a PodInfo,
}

impl<'a> NodeAffinity<'a> {
    pub fn new(pod: &'a PodInfo) -> Self {
        Self { pod }
    }
}

impl Filter for NodeAffinity<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if required(self.pod, node) {
            return Ok(());
        }
        let reason = "node(s) didn't match Pod's node affinity/selector";
        Err(Rejection::unresolvable(Plugin::NodeAffinity, reason))
    }
}

impl Score for NodeAffinity<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let affinity = self.pod.needs.node_affinity.as_ref();
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let preferred = preferred.into_iter().flatten();
        preferred.filter(|term| matches_term(&term.preference, node)).map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, false);
    }
}

/// Whether the node is one that the pod may be on.
pub(crate) fn required(pod: &PodInfo, node: &NodeInfo) -> bool {
    let needs = &pod.needs;
    if !needs.node_selector.iter().all(|(key, value)| node.label(key) == Some(value)) {
        return false;
    }
    let affinity = needs.node_affinity.as_ref();
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|selector| matches(selector, node))
}

/// Whether any of the selector's terms matches.
pub(crate) fn matches(selector: &NodeSelector, node: &NodeInfo) -> bool {
    selector.node_selector_terms.iter().any(|term| matches_term(term, node))
}

/// A term without conditions matches nothing.
fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let known = BTreeMap::from([("metadata.name".to_owned(), node.name.clone())]);
    labels.iter().all(|requirement| fulfils(requirement, &node.spec.labels))
        && fields.iter().all(|requirement| fulfils(requirement, &known))
}

fn fulfils(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let numbers = || Some((value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?));
    match requirement.operator.as_str() {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, limit)| value > limit),
        "Lt" => numbers().is_some_and(|(value, limit)| value < limit),
        _ => false,
    }
}
