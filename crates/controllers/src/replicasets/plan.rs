//! How many pods to create, which to delete, and what the status then is.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::BURST;
use super::observe::{Observed, Replicated};
use crate::common::pods::{self, Availability};
use crate::common::{conditions, ranking};

/// What is to be done.
pub(super) struct Plan {
    pub(super) create: usize,
    /// In the order in which they go.
    pub(super) delete: Vec<Pod>,
    /// When the next pod becomes available by the passing of time alone.
    pub(super) look_again: Option<Duration>,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let owner = &observed.owner;
    let mut active: Vec<Pod> = observed.pods.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let wanted = usize::try_from(owner.replicas).unwrap_or_default();
    let mut plan = Plan { create: 0, delete: Vec::new(), look_again: look_again(owner, &active, now) };
    if !observed.current || owner.meta.deletion_timestamp.is_some() {
        return plan;
    }
    if active.len() < wanted {
        plan.create = (wanted - active.len()).min(BURST);
    } else {
        let surplus = (active.len() - wanted).min(BURST);
        ranking::sort_for_deletion(&mut active, &observed.crowding, now);
        active.truncate(surplus);
        plan.delete = active;
    }
    plan
}

fn look_again(owner: &Replicated, active: &[Pod], now: Timestamp) -> Option<Duration> {
    let waits = active.iter().filter_map(|pod| match pods::availability(pod, owner.min_ready_seconds, now) {
        Availability::In(wait) => Some(wait),
        _ => None,
    });
    waits.min()
}

/// The status of what was observed. `failure` is what went wrong with `creating` or deleting pods.
pub(super) fn status(observed: &Observed, failure: Option<&Failure>, now: Timestamp) -> ReplicaSetStatus {
    let owner = &observed.owner;
    let active: Vec<&Pod> = observed.pods.iter().filter(|pod| pods::is_active(pod)).collect();
    let template = owner.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default();
    let count =
        |test: &dyn Fn(&Pod) -> bool| i32::try_from(active.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX);
    // Fields that upstream leaves out when they are zero.
    let some = |count: i32| (count != 0).then_some(count);
    let labelled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    let terminating =
        observed.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !pods::is_finished(pod));
    let mut status = ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: some(count(&labelled)),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&|pod| pods::is_available(pod, owner.min_ready_seconds, now))),
        terminating_replicas: Some(i32::try_from(terminating.count()).unwrap_or(i32::MAX)),
        observed_generation: owner.meta.generation,
        conditions: owner.status.conditions.clone(),
    };
    let list = status.conditions.get_or_insert_default();
    match failure {
        Some(failure) if conditions::find(Some(&*list), "ReplicaFailure").is_none() => list.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(failure.reason.to_owned()),
            message: Some(failure.message.clone()),
            last_transition_time: Some(Time(now)),
        }),
        Some(_) => {}
        None => conditions::remove(list, "ReplicaFailure"),
    }
    if list.is_empty() {
        status.conditions = None;
    }
    status
}

/// Why pods could not be created or deleted.
pub(super) struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub(super) reason: &'static str,
    pub(super) message: String,
}
