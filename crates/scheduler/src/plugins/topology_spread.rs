//! Pods that are to be spread evenly over topology domains. Pods without constraints of their own that a Service or
//! controller selects are spread over nodes and zones, softly.

use std::collections::{BTreeSet, HashMap};

use api::object::ObjectKey;
use api::selector::label::LabelSelector;

use super::{Filter, MOST, Plugin, Rejection, Score, Verdict, node_affinity, taints};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot, Spread};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// What is assumed of pods without constraints (KEP-1258): the skews allowed over nodes and zones.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

/// Constraints that must hold.
pub struct Filtering<'a> {
    pod: &'a PodInfo,
    counted: Vec<Counted<'a>>,
}

/// A constraint and how many pods it finds in each domain.
struct Counted<'a> {
    spread: &'a Spread,
    domains: HashMap<&'a str, i64>,
}

impl<'a> Filtering<'a> {
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Self {
        let hard: Vec<&Spread> = pod.needs.spread.iter().filter(|spread| spread.hard).collect();
        let eligible = |spread: &Spread, node: &NodeInfo| {
            hard.iter().all(|other| node.label(&other.topology_key).is_some()) && counts(spread, pod, node)
        };
        let counted = hard.iter().map(|spread| {
            let mut domains = HashMap::new();
            for node in snapshot.nodes().filter(|node| eligible(spread, node)) {
                if let Some(value) = node.label(&spread.topology_key) {
                    *domains.entry(value).or_default() += matching(node, &spread.selector, &pod.key.namespace);
                }
            }
            Counted { spread, domains }
        });
        Self { pod, counted: counted.collect() }
    }
}

impl Counted<'_> {
    /// The least crowded domain's pods; zero while there are fewer domains than wanted.
    fn least(&self) -> i64 {
        let domains = i64::try_from(self.domains.len()).unwrap_or(i64::MAX);
        if self.spread.min_domains.is_some_and(|wanted| domains < wanted) {
            return 0;
        }
        self.domains.values().copied().min().unwrap_or_default()
    }
}

impl Filter for Filtering<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        const REASON: &str = "node(s) didn't match pod topology spread constraints";
        for counted in &self.counted {
            let spread = counted.spread;
            let Some(value) = node.label(&spread.topology_key) else {
                let reason = format!("{REASON} (missing required label)");
                return Err(Rejection::unresolvable(Plugin::PodTopologySpread, reason));
            };
            let itself = i64::from(spread.selector.matches(self.pod.labels()));
            let here = counted.domains.get(value).copied().unwrap_or_default();
            if here + itself - counted.least() > spread.max_skew {
                return Err(Rejection::resolvable(Plugin::PodTopologySpread, REASON));
            }
        }
        Ok(())
    }
}

/// Constraints that had better hold.
pub struct Scoring<'a> {
    pod: &'a PodInfo,
    weighed: Vec<Weighed<'a>>,
    /// Nodes without a constraint's label get the lowest score.
    strict: bool,
}

struct Weighed<'a> {
    spread: Spread,
    domains: HashMap<&'a str, i64>,
    /// Grows with the number of domains: more domains have fewer pods each, which must not make them count less.
    weight: f64,
}

impl<'a> Scoring<'a> {
    pub fn new(pod: &'a PodInfo, snapshot: &'a Snapshot, feasible: &BTreeSet<&str>) -> Self {
        let strict = !pod.needs.spread.is_empty();
        let soft: Vec<Spread> = match strict {
            true => pod.needs.spread.iter().filter(|spread| !spread.hard).cloned().collect(),
            false => defaults(pod, snapshot),
        };
        let labelled: Vec<&NodeInfo> = snapshot
            .nodes()
            .map(|node| &**node)
            .filter(|node| !strict || soft.iter().all(|spread| node.label(&spread.topology_key).is_some()))
            .collect();
        let weighed = soft.iter().map(|spread| {
            let mut domains = HashMap::new();
            let candidates = labelled.iter().filter(|node| feasible.contains(node.name.as_str()));
            for value in candidates.clone().filter_map(|node| node.label(&spread.topology_key)) {
                domains.insert(value, 0);
            }
            for node in labelled.iter().filter(|node| counts(spread, pod, node)) {
                if let Some(held) = node.label(&spread.topology_key).and_then(|value| domains.get_mut(value)) {
                    *held += matching(node, &spread.selector, &pod.key.namespace);
                }
            }
            let size = if spread.topology_key == HOSTNAME { candidates.count() } else { domains.len() };
            Weighed { spread: spread.clone(), domains, weight: ((size + 2) as f64).ln() }
        });
        Self { pod, weighed: weighed.collect(), strict }
    }

    /// How crowded the node's domains are; `None` if the node has none.
    fn crowd(&self, node: &NodeInfo) -> Option<f64> {
        let mut sum = 0.0;
        for weighed in &self.weighed {
            let key = weighed.spread.topology_key.as_str();
            let Some(value) = node.label(key) else {
                if self.strict {
                    return None;
                }
                continue;
            };
            let held = match key {
                HOSTNAME => matching(node, &weighed.spread.selector, &self.pod.key.namespace),
                _ => weighed.domains.get(value).copied().unwrap_or_default(),
            };
            sum += held as f64 * weighed.weight + (weighed.spread.max_skew - 1) as f64;
        }
        Some(sum)
    }
}

impl Score for Scoring<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        self.crowd(node).map_or(-1, |crowd| crowd.round() as i64)
    }

    /// The least crowded is best; what has no domain is marked by -1 and gets nothing.
    fn normalize(&self, scores: &mut [i64]) {
        if self.weighed.is_empty() {
            scores.fill(0);
            return;
        }
        let known = scores.iter().copied().filter(|score| *score >= 0);
        let lowest = known.clone().min().unwrap_or_default();
        let highest = known.max().unwrap_or_default();
        for score in scores {
            *score = match *score {
                ..0 => 0,
                _ if highest == 0 => MOST,
                crowd => MOST * (highest + lowest - crowd) / highest,
            };
        }
    }
}

/// Whether the node's pods are counted by the constraint.
fn counts(spread: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!spread.honor_affinity || node_affinity::required(pod, node))
        && (!spread.honor_taints || !taints::repels(&node.spec.taints, &pod.needs.tolerations))
}

fn matching(node: &NodeInfo, selector: &LabelSelector, namespace: &str) -> i64 {
    let pods = node.pods.values().filter(|pod| !pod.deleting && pod.key.namespace == namespace);
    i64::try_from(pods.filter(|pod| selector.matches(pod.labels())).count()).unwrap_or(i64::MAX)
}

fn defaults(pod: &PodInfo, snapshot: &Snapshot) -> Vec<Spread> {
    let Some(selector) = siblings(pod, snapshot) else { return Vec::new() };
    let spread = |(key, max_skew): (&str, i64)| Spread {
        max_skew,
        topology_key: key.to_owned(),
        hard: false,
        selector: selector.clone(),
        min_domains: None,
        honor_affinity: true,
        honor_taints: false,
    };
    DEFAULTS.map(spread).into()
}

/// Selects the pods of the Services and of the controller that this pod belongs to.
fn siblings(pod: &PodInfo, snapshot: &Snapshot) -> Option<LabelSelector> {
    let mut requirements = Vec::new();
    for (key, labels) in &snapshot.services {
        let selector = LabelSelector::from_labels(labels);
        if key.namespace == pod.key.namespace && !labels.is_empty() && selector.matches(pod.labels()) {
            requirements.extend_from_slice(selector.requirements());
        }
    }
    if let Some((kind, name)) = &pod.needs.controller {
        let key = (kind.clone(), ObjectKey::new(&pod.key.namespace, name));
        if let Some(selector) = snapshot.controllers.get(&key) {
            requirements.extend_from_slice(selector.requirements());
        }
    }
    (!requirements.is_empty()).then_some(LabelSelector::All(requirements))
}
