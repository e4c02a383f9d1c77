//! Pods that want to be near or far from other pods, in terms of topology domains: sets of nodes with the same value of
//! a label.

use std::collections::HashMap;

use super::{Filter, MOST, Plugin, Rejection, Score, Verdict};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot, Term};

/// The weight of other pods' required affinity when a pod is scored.
const HARD_WEIGHT: i64 = 1;

/// Numbers per topology domain: label key and value.
type Domains<'a> = HashMap<(&'a str, &'a str), i64>;

/// What must be.
pub struct Filtering<'a> {
    pod: &'a PodInfo,
    /// Domains with pods that do not want this one near.
    repelling: Domains<'a>,
    /// Pods that match all affinity terms, per term's domain.
    attracting: Domains<'a>,
    /// Pods that this one does not want near, for each anti-affinity term.
    avoided: Vec<Domains<'a>>,
    /// No pod matches yet, but this one matches its own terms: the first of a group that wants to be together.
    first: bool,
}

impl<'a> Filtering<'a> {
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Self {
        let needs = &pod.needs;
        let mut this = Self {
            pod,
            repelling: Domains::new(),
            attracting: Domains::new(),
            avoided: vec![Domains::new(); needs.anti_affinity.len()],
            first: false,
        };
        for (node, other) in placed(snapshot) {
            for term in &other.needs.anti_affinity {
                if wants(term, pod, snapshot) {
                    count(&mut this.repelling, &term.topology_key, node, 1);
                }
            }
            if !needs.affinity.is_empty() && needs.affinity.iter().all(|term| wants(term, other, snapshot)) {
                for term in &needs.affinity {
                    count(&mut this.attracting, &term.topology_key, node, 1);
                }
            }
            for (term, avoided) in needs.anti_affinity.iter().zip(&mut this.avoided) {
                if wants(term, other, snapshot) {
                    count(avoided, &term.topology_key, node, 1);
                }
            }
        }
        this.first = this.attracting.is_empty() && needs.affinity.iter().all(|term| wants(term, pod, snapshot));
        this
    }

    fn attracted(&self, node: &NodeInfo) -> bool {
        let terms = &self.pod.needs.affinity;
        let labelled = terms.iter().all(|term| node.label(&term.topology_key).is_some());
        labelled && (self.first || terms.iter().all(|term| has(&self.attracting, &term.topology_key, node)))
    }

    fn avoids(&self, node: &NodeInfo) -> bool {
        let terms = self.pod.needs.anti_affinity.iter().zip(&self.avoided);
        terms.into_iter().any(|(term, avoided)| has(avoided, &term.topology_key, node))
    }

    fn repelled(&self, node: &NodeInfo) -> bool {
        self.repelling.keys().any(|(key, value)| node.label(key) == Some(*value))
    }
}

impl Filter for Filtering<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let plugin = Plugin::InterPodAffinity;
        if !self.attracted(node) {
            return Err(Rejection::unresolvable(plugin, "node(s) didn't match pod affinity rules"));
        }
        if self.avoids(node) {
            return Err(Rejection::resolvable(plugin, "node(s) didn't match pod anti-affinity rules"));
        }
        if self.repelled(node) {
            return Err(Rejection::resolvable(plugin, "node(s) didn't satisfy existing pods anti-affinity rules"));
        }
        Ok(())
    }
}

/// What had better be.
pub struct Scoring<'a> {
    domains: Domains<'a>,
}

impl<'a> Scoring<'a> {
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Self {
        let mut domains = Domains::new();
        for (node, other) in placed(snapshot) {
            // Both the pod's wishes about the other and the other's about it count.
            for (wishing, wished) in [(pod, &**other), (&**other, pod)] {
                for (weight, term) in &wishing.needs.preferred_affinity {
                    if wants(term, wished, snapshot) {
                        count(&mut domains, &term.topology_key, node, *weight);
                    }
                }
                for (weight, term) in &wishing.needs.preferred_anti_affinity {
                    if wants(term, wished, snapshot) {
                        count(&mut domains, &term.topology_key, node, -weight);
                    }
                }
            }
            for term in &other.needs.affinity {
                if wants(term, pod, snapshot) {
                    count(&mut domains, &term.topology_key, node, HARD_WEIGHT);
                }
            }
        }
        Self { domains }
    }
}

impl Score for Scoring<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let here = self.domains.iter().filter(|((key, value), _)| node.label(key) == Some(*value));
        here.map(|(_, weight)| weight).sum()
    }

    /// Scores may be negative: the span between the lowest and the highest becomes 0..=100.
    fn normalize(&self, scores: &mut [i64]) {
        let lowest = scores.iter().copied().min().unwrap_or_default();
        let span = scores.iter().copied().max().unwrap_or_default() - lowest;
        for score in scores {
            *score = if span == 0 { 0 } else { (*score - lowest) * MOST / span };
        }
    }
}

fn placed(snapshot: &Snapshot) -> impl Iterator<Item = (&NodeInfo, &std::sync::Arc<PodInfo>)> {
    snapshot.nodes().flat_map(|node| node.pods.values().map(move |pod| (&**node, pod)))
}

fn wants(term: &Term, pod: &PodInfo, snapshot: &Snapshot) -> bool {
    let namespace = &pod.key.namespace;
    (term.namespaces.contains(namespace) || snapshot.namespace_matches(namespace, &term.namespace_selector))
        && term.selector.matches(pod.labels())
}

fn count<'a>(domains: &mut Domains<'a>, key: &'a str, node: &'a NodeInfo, by: i64) {
    if let Some(value) = node.label(key) {
        *domains.entry((key, value)).or_default() += by;
    }
}

fn has(domains: &Domains<'_>, key: &str, node: &NodeInfo) -> bool {
    node.label(key).is_some_and(|value| domains.contains_key(&(key, value)))
}
