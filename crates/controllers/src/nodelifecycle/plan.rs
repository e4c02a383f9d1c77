//! What a node's silence means for its conditions, and its conditions for its taints.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use crate::common::conditions;

/// Silence after which a node is unknown (upstream's `--node-monitor-grace-period`).
pub(super) const GRACE: Duration = Duration::from_secs(50);
/// Silence allowed to a node that has never reported.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
/// Conditions that become unknown with the node.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// A condition, the status that taints, and the taint.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// What changes while a node lives: by being different, not by the times in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    renewed: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
}

impl Proof {
    pub(super) fn of(node: &Node, lease: Option<&Lease>) -> Self {
        let list = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions::find(list, "Ready").filter(|ready| ready.status != "Unknown");
        Self {
            renewed: lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|time| time.0),
            heartbeat: ready.and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Ready,
    NotReady,
    Unknown,
}

pub(super) fn standing(node: &Node) -> Standing {
    let list = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    match conditions::find(list, "Ready").map(|ready| ready.status.as_str()) {
        Some("True") => Standing::Ready,
        Some("False") => Standing::NotReady,
        _ => Standing::Unknown,
    }
}

pub(super) struct Plan {
    pub(super) standing: Standing,
    /// A merge patch of the status.
    pub(super) status: Option<Value>,
    /// The whole list of taints.
    pub(super) taints: Option<Vec<Taint>>,
    /// It was ready, and is unknown from now on.
    pub(super) fell_silent: bool,
    pub(super) look_again: Option<Duration>,
}

pub(super) fn plan(node: &Node, silence: Duration, any_ready: bool, now: Timestamp) -> Plan {
    let mut plan = Plan { standing: standing(node), status: None, taints: None, fell_silent: false, look_again: None };
    let status = node.status.as_ref();
    let list = status.and_then(|status| status.conditions.clone()).unwrap_or_default();
    let reported = conditions::find(Some(&list), "Ready").is_some();
    let grace = if reported { GRACE } else { STARTUP_GRACE };
    if silence < grace {
        plan.look_again = Some(grace - silence);
    } else {
        let unknown = unknown_conditions(&list, node.metadata.creation_timestamp.as_ref(), now);
        if unknown != list {
            plan.fell_silent = plan.standing == Standing::Ready;
            plan.status = Some(json!({"conditions": unknown}));
            return plan;
        }
    }
    let old = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let new = taints(node, &old, plan.standing, any_ready, now);
    plan.taints = (new != old).then_some(new);
    plan
}

fn unknown_conditions(list: &[NodeCondition], created: Option<&Time>, now: Timestamp) -> Vec<NodeCondition> {
    let mut list = list.to_vec();
    for kind in REPORTED {
        match list.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status != "Unknown" => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
            None => list.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: created.cloned(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    list
}

/// The node's taints with ours put right. Others' taints, and the time of ours that stay, are kept.
fn taints(node: &Node, old: &[Taint], standing: Standing, any_ready: bool, now: Timestamp) -> Vec<Taint> {
    let list = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let down = match standing {
        Standing::Ready => None,
        Standing::NotReady => Some(NOT_READY),
        Standing::Unknown => Some(UNREACHABLE),
    };
    if let Some(key) = down {
        wanted.push((key, "NoSchedule"));
        // When no node is ready, it is rather we who are cut off: nobody is evicted then.
        if any_ready {
            wanted.push((key, "NoExecute"));
        }
    }
    wanted.extend(
        PRESSURES.iter().filter(|(kind, _)| conditions::is_true(list, kind)).map(|(_, key)| (*key, "NoSchedule")),
    );
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_ours = |taint: &Taint| {
        let down = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        let pressure = PRESSURES.iter().any(|(_, key)| *key == taint.key) || taint.key == UNSCHEDULABLE;
        down || (pressure && taint.effect == "NoSchedule")
    };
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut taints: Vec<Taint> = old.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    taints
}
