//! Which nodes lack a pod, and which pods are to go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::int_or_string::IntOrString;
use api::object::Entry;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Toleration};

use crate::common::history::{HASH, History};
use crate::common::nodes;
use crate::common::pods::{self, Availability};

const BURST: usize = 250;

pub(super) struct Observed {
    pub(super) entry: Arc<Entry>,
    pub(super) set: DaemonSet,
    pub(super) spec: DaemonSetSpec,
    pub(super) pods: Vec<Pod>,
    pub(super) nodes: Vec<Node>,
    pub(super) history: History,
    /// False while the view does not show what was done before.
    pub(super) current: bool,
}

pub(super) struct Plan {
    /// Names of nodes to make a pod for.
    pub(super) create: Vec<String>,
    /// Pods to delete; with the reason and message of an event if they ended by themselves.
    pub(super) delete: Vec<(Pod, Option<(&'static str, String)>)>,
    pub(super) status: DaemonSetStatus,
    pub(super) look_again: Option<Duration>,
}

/// What the set wants of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fit {
    run: bool,
    /// Whether a pod that is there may stay.
    stay: bool,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let by_node = group(&observed.pods);
    let mut pod = observed.spec.template.spec.clone().unwrap_or_default();
    pod.tolerations.get_or_insert_default().extend(tolerations(pod.host_network == Some(true)));
    let fits: BTreeMap<&str, Fit> =
        observed.nodes.iter().map(|node| (pods::name(&node.metadata), fit(&pod, node))).collect();
    let mut plan = Plan {
        create: Vec::new(),
        delete: Vec::new(),
        status: status(observed, &by_node, &fits, now),
        look_again: observed.pods.iter().filter_map(|pod| wait(observed, pod, now)).min(),
    };
    if !observed.current || observed.set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    for (node, fit) in &fits {
        manage(&mut plan, node, *fit, by_node.get(node).map(Vec::as_slice).unwrap_or_default());
    }
    // Pods of nodes that are gone are pod garbage collection's.
    let rolling = observed.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    if rolling != Some("OnDelete") {
        roll(observed, &by_node, &fits, now, &mut plan);
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

/// The node that a pod is on or for.
fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(node);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = required.node_selector_terms.iter().flat_map(|term| term.match_fields.iter().flatten());
    let mut named = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    named.next()?.values.as_ref()?.first().map(String::as_str)
}

fn group(all: &[Pod]) -> BTreeMap<&str, Vec<&Pod>> {
    let mut groups: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in all {
        if let Some(node) = target(pod) {
            groups.entry(node).or_default().push(pod);
        }
    }
    groups
}

/// What every daemon pod tolerates: it shall be on a node before and after others can.
pub(super) fn tolerations(host_network: bool) -> Vec<Toleration> {
    let one = |key: &str, effect: &str| Toleration {
        key: Some(format!("node.kubernetes.io/{key}")),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    };
    let mut all = vec![
        one("not-ready", "NoExecute"),
        one("unreachable", "NoExecute"),
        one("disk-pressure", "NoSchedule"),
        one("memory-pressure", "NoSchedule"),
        one("pid-pressure", "NoSchedule"),
        one("unschedulable", "NoSchedule"),
    ];
    if host_network {
        all.push(one("network-unavailable", "NoSchedule"));
    }
    all
}

fn fit(pod: &PodSpec, node: &Node) -> Fit {
    let named = pod.node_name.as_deref().is_none_or(|name| name.is_empty() || name == pods::name(&node.metadata));
    let tolerations = pod.tolerations.as_deref().unwrap_or_default();
    let selected = named && nodes::selects(pod, node);
    Fit {
        run: selected && nodes::tolerates_all(tolerations, node, &["NoSchedule", "NoExecute"]),
        stay: selected && nodes::tolerates_all(tolerations, node, &["NoExecute"]),
    }
}

fn manage(plan: &mut Plan, node: &str, fit: Fit, all: &[&Pod]) {
    let name = |pod: &Pod| format!("{}/{}", pods::namespace(&pod.metadata), pods::name(&pod.metadata));
    if fit.stay {
        let mut running: Vec<&Pod> = Vec::new();
        let mut ended = false;
        for pod in all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
            let (reason, how) = match pods::phase(pod) {
                "Failed" => ("FailedDaemonPod", "failed"),
                "Succeeded" => ("SucceededDaemonPod", "succeeded"),
                _ => {
                    running.push(pod);
                    continue;
                }
            };
            ended = true;
            let message = format!("Found {how} daemon pod {} on node {node}, will try to kill it", name(pod));
            plan.delete.push(((*pod).clone(), Some((reason, message))));
        }
        running.sort_by_key(|pod| (!is_bound(pod), pod.metadata.creation_timestamp.clone()));
        if running.is_empty() && !ended && fit.run {
            plan.create.push(node.to_owned());
        }
        // During a surge an old and a new pod share a node: `roll` knows which goes.
        let newest = |pod: &&Pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get(HASH)).cloned();
        let mut seen = Vec::new();
        for pod in &running {
            let hash = newest(pod);
            if seen.contains(&hash) {
                plan.delete.push(((*pod).clone(), None));
            }
            seen.push(hash);
        }
    } else {
        let present = all.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        plan.delete.extend(present.map(|pod| ((*pod).clone(), None)));
    }
}

fn is_bound(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty())
}

fn is_new(observed: &Observed, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH)) == Some(&observed.history.newest().hash)
}

fn is_available(observed: &Observed, pod: &Pod, now: Timestamp) -> bool {
    pods::is_available(pod, observed.spec.min_ready_seconds.unwrap_or_default(), now)
}

fn wait(observed: &Observed, pod: &Pod, now: Timestamp) -> Option<Duration> {
    match pods::availability(pod, observed.spec.min_ready_seconds.unwrap_or_default(), now) {
        Availability::In(wait) => Some(wait),
        _ => None,
    }
}

/// Replaces pods of older templates.
fn roll(
    observed: &Observed,
    by_node: &BTreeMap<&str, Vec<&Pod>>,
    fits: &BTreeMap<&str, Fit>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let desired = fits.values().filter(|fit| fit.run).count();
    let (surge, mut budget) = limits(&observed.spec, desired);
    let mut candidates: Vec<&Pod> = Vec::new();
    let mut surging = Vec::new();
    let mut surged = 0;
    for (node, _) in fits.iter().filter(|(_, fit)| fit.run) {
        let present = by_node.get(node).map(Vec::as_slice).unwrap_or_default();
        let alive = || present.iter().filter(|pod| pods::is_active(pod));
        let new = alive().find(|pod| is_new(observed, pod));
        let old = alive().find(|pod| !is_new(observed, pod));
        let available = alive().any(|pod| is_available(observed, pod, now));
        match (old, new) {
            (Some(old), Some(new)) => {
                surged += 1;
                if is_available(observed, new, now) || !is_available(observed, old, now) {
                    plan.delete.push(((*old).clone(), None));
                }
            }
            // Nothing is lost by replacing one that is not available.
            (Some(old), None) if !available && surge == 0 => {
                budget = budget.saturating_sub(1);
                plan.delete.push(((*old).clone(), None));
            }
            (Some(_), None) if surge > 0 => surging.push((*node).to_owned()),
            (Some(old), None) => candidates.push(old),
            _ if !available => budget = budget.saturating_sub(1),
            _ => {}
        }
    }
    if surge > 0 {
        plan.create.extend(surging.into_iter().take(surge.saturating_sub(surged)));
    } else {
        plan.delete.extend(candidates.into_iter().take(budget).map(|pod| (pod.clone(), None)));
    }
}

/// maxSurge and maxUnavailable as numbers.
fn limits(spec: &DaemonSetSpec, desired: usize) -> (usize, usize) {
    let rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let scaled = |value: Option<&k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>, default: i32| {
        let value = value.and_then(|value| IntOrString::from_json(&serde_json::to_value(value).ok()?));
        let value = value.unwrap_or(IntOrString::Int(default));
        let total = i64::try_from(desired).unwrap_or(i64::MAX);
        usize::try_from(value.scaled(total, true).unwrap_or_default()).unwrap_or_default()
    };
    let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
    let unavailable = scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
    (surge, if surge == 0 { unavailable.max(1) } else { unavailable })
}

fn status(
    observed: &Observed,
    by_node: &BTreeMap<&str, Vec<&Pod>>,
    fits: &BTreeMap<&str, Fit>,
    now: Timestamp,
) -> DaemonSetStatus {
    let old = observed.set.status.clone().unwrap_or_default();
    let (mut desired, mut scheduled, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    for (node, fit) in fits {
        let mut present = by_node.get(node).cloned().unwrap_or_default();
        present.sort_by_key(|pod| !pods::is_ready(pod));
        if !fit.run {
            misplaced += i32::from(!present.is_empty());
            continue;
        }
        desired += 1;
        if present.is_empty() {
            continue;
        }
        scheduled += 1;
        ready += i32::from(present.iter().any(|pod| pods::is_ready(pod)));
        available += i32::from(present.iter().any(|pod| is_available(observed, pod, now)));
        updated += i32::from(present.iter().any(|pod| is_new(observed, pod)));
    }
    let some = |count: i32| (count != 0).then_some(count);
    DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: scheduled,
        number_misscheduled: misplaced,
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: observed.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
    }
}
