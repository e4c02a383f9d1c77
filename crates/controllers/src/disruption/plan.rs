//! What a budget's pods mean for its status.

use std::collections::BTreeMap;
use std::time::Duration;

use api::int_or_string::IntOrString;
use client::events::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time};

use super::observe::{Observed, Scale};
use crate::common::pods;

/// How long an evicted pod may take to be deleted before it counts again.
const DELETION: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub(super) struct Plan {
    pub(super) status: PodDisruptionBudgetStatus,
    pub(super) events: Vec<Event>,
    /// When the first evicted pod counts again.
    pub(super) look_again: Option<Duration>,
}

/// Something to tell about a pod, or without one about the budget.
#[derive(Debug, PartialEq)]
pub(super) struct Event {
    pub(super) pod: Option<ObjectMeta>,
    pub(super) kind: EventType,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Event {
    fn new(kind: EventType, reason: &'static str, message: impl Into<String>) -> Self {
        Self { pod: None, kind, reason, message: message.into() }
    }
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut events = Vec::new();
    if observed.pods.is_empty() {
        events.push(Event::new(EventType::Normal, "NoPods", "No matching pods found"));
    }
    let counted = observed.scale.as_ref().map_err(String::clone).and_then(|scale| expected(observed, scale));
    match counted {
        Ok((expected, desired)) => {
            if observed.scale.as_ref().is_ok_and(|scale| scale.unmanaged) {
                events.push(Event::new(EventType::Warning, "UnmanagedPods", UNMANAGED));
            }
            let (disrupted, look_again) = disrupted(observed, now, &mut events);
            let status = status(observed, (expected, desired), disrupted, now);
            Plan { status, events, look_again }
        }
        Err(why) => {
            let message = format!("Failed to calculate the number of expected pods: {why}");
            events.push(Event::new(EventType::Warning, "CalculateExpectedPodCountFailed", message));
            Plan { status: closed(&observed.budget, why, now), events, look_again: None }
        }
    }
}

const UNMANAGED: &str = "Pods selected by this PodDisruptionBudget were found to be unmanaged: how many there should be is \
                         not known, so the status may be wrong. Set \".spec.minAvailable\" to a number to count them.";

/// How many pods there should be, and how many of them healthy.
fn expected(observed: &Observed, scale: &Scale) -> Result<(i32, i32), String> {
    let Some(spec) = &observed.budget.spec else { return Ok((0, 0)) };
    let read = |value: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString| {
        serde_json::to_value(value).ok().as_ref().and_then(IntOrString::from_json)
    };
    let scaled = |value: &IntOrString| {
        let number = value.scaled(i64::from(scale.replicas), true).map_err(|error| error.to_string())?;
        Ok::<_, String>(i32::try_from(number).unwrap_or(i32::MAX))
    };
    if let Some(most) = spec.max_unavailable.as_ref().and_then(read) {
        return Ok((scale.replicas, scale.replicas.saturating_sub(scaled(&most)?).max(0)));
    }
    match spec.min_available.as_ref().and_then(read) {
        Some(IntOrString::Int(number)) => Ok((i32::try_from(observed.pods.len()).unwrap_or(i32::MAX), number)),
        Some(share) => Ok((scale.replicas, scaled(&share)?)),
        None => Ok((0, 0)),
    }
}

/// The evicted pods that are not going yet, and when the first of them is taken to stay.
fn disrupted(
    observed: &Observed,
    now: Timestamp,
    events: &mut Vec<Event>,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let noted = observed.budget.status.as_ref().and_then(|status| status.disrupted_pods.clone()).unwrap_or_default();
    let (mut kept, mut look_again) = (BTreeMap::new(), None);
    for pod in observed.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let name = pods::name(&pod.metadata);
        let Some(time) = noted.get(name) else { continue };
        let left = (time.0 + DELETION).duration_since(now);
        match Duration::try_from(left) {
            Ok(left) => {
                kept.insert(name.to_owned(), time.clone());
                look_again = Some(look_again.map_or(left, |first: Duration| first.min(left)));
            }
            Err(_) => {
                let budget = &observed.entry.key;
                let message = format!("Pod was expected by PDB {budget} to be deleted but it wasn't");
                let about = Some(pod.metadata.clone());
                events.push(Event { pod: about, ..Event::new(EventType::Warning, "NotDeleted", message) });
            }
        }
    }
    (kept, look_again)
}

fn status(
    observed: &Observed,
    (expected, desired): (i32, i32),
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let is_healthy = |pod: &&Pod| {
        pod.metadata.deletion_timestamp.is_none()
            && !disrupted.contains_key(pods::name(&pod.metadata))
            && pods::is_ready(pod)
    };
    let healthy = i32::try_from(observed.pods.iter().filter(is_healthy).count()).unwrap_or(i32::MAX);
    // A budget without pods allows nothing: its first pods may be there before they are counted.
    let allowed = if expected <= 0 { 0 } else { healthy.saturating_sub(desired).max(0) };
    let (state, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let generation = observed.budget.metadata.generation;
    let mut status = PodDisruptionBudgetStatus {
        conditions: conditions(&observed.budget),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: generation,
    };
    set(&mut status, state, reason, String::new(), now);
    status
}

/// The status of a budget that could not be counted: what is known stays, nothing is allowed.
fn closed(budget: &PodDisruptionBudget, why: String, now: Timestamp) -> PodDisruptionBudgetStatus {
    let mut status = budget.status.clone().unwrap_or_default();
    status.disruptions_allowed = Some(0);
    set(&mut status, "False", "SyncFailed", why, now);
    status
}

fn conditions(budget: &PodDisruptionBudget) -> Option<Vec<Condition>> {
    budget.status.as_ref()?.conditions.clone()
}

fn set(status: &mut PodDisruptionBudgetStatus, state: &str, reason: &str, message: String, now: Timestamp) {
    const KIND: &str = "DisruptionAllowed";
    let conditions = status.conditions.get_or_insert_default();
    let old = conditions.iter().find(|condition| condition.type_ == KIND && condition.status == state);
    let condition = Condition {
        type_: KIND.to_owned(),
        status: state.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: status.observed_generation,
        last_transition_time: old.map_or(Time(now), |old| old.last_transition_time.clone()),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == KIND) {
        Some(old) => *old = condition,
        None => conditions.push(condition),
    }
}
