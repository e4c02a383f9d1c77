//! How far a rollout has come, in upstream's conditions and words.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::rolling::Limits;
use super::sets::Set;
use crate::common::{conditions, pods};

/// A Deployment at a moment.
pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
    /// False while paused or being resized: progress is then no matter.
    pub(super) follows_progress: bool,
    /// The ReplicaSet about to be created.
    pub(super) created: Option<String>,
}

/// The whole status, and when to look whether the deadline has passed.
pub(super) fn status(
    rollout: &Rollout<'_>,
    sets: &[Set],
    new: Option<usize>,
    old: &DeploymentStatus,
) -> (DeploymentStatus, Option<Duration>) {
    let mut status = counts(rollout, sets, new, old);
    let mut list = old.conditions.clone().unwrap_or_default();
    let deadline = rollout.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX);
    match deadline {
        None => conditions::remove(&mut list, "Progressing"),
        Some(seconds) => {
            note_pause(rollout, &mut list);
            note_sets(rollout, sets, new, &mut list);
            if rollout.follows_progress {
                note_progress(rollout, sets, new, old, &status, seconds, &mut list);
            }
        }
    }
    note_availability(rollout, &status, &mut list);
    note_failure(sets, new, rollout.now, &mut list);
    let look_again = deadline.filter(|_| rollout.follows_progress).and_then(|seconds| {
        let progressing = conditions::find(Some(&list), "Progressing")?;
        if matches!(progressing.reason.as_deref(), Some("NewReplicaSetAvailable" | "ProgressDeadlineExceeded")) {
            return None;
        }
        let due = progressing.last_update_time.as_ref()?.0 + Duration::from_secs(seconds.unsigned_abs().into());
        // A second more, since the deadline must have passed.
        Some(Duration::try_from(due.duration_since(rollout.now)).unwrap_or_default() + Duration::from_secs(1))
    });
    status.conditions = (!list.is_empty()).then_some(list);
    (status, look_again)
}

fn counts(rollout: &Rollout<'_>, sets: &[Set], new: Option<usize>, old: &DeploymentStatus) -> DeploymentStatus {
    let total: i32 = sets.iter().map(Set::status_replicas).sum();
    let available: i32 = sets.iter().map(Set::available).sum();
    let some = |count: i32| (count != 0).then_some(count);
    DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(new.map_or(0, |at| sets[at].status_replicas())),
        ready_replicas: some(sets.iter().map(Set::ready).sum()),
        available_replicas: some(available),
        unavailable_replicas: some((total - available).max(0)),
        terminating_replicas: sets.iter().map(Set::terminating).sum::<Option<i32>>(),
        collision_count: old.collision_count,
        conditions: None,
    }
}

pub(super) fn is_complete(limits: &Limits, generation: Option<i64>, status: &DeploymentStatus) -> bool {
    let all = [status.updated_replicas, status.replicas, status.available_replicas];
    all.iter().all(|count| count.unwrap_or_default() == limits.replicas) && status.observed_generation >= generation
}

fn condition(kind: &str, is: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: is.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn note_pause(rollout: &Rollout<'_>, list: &mut Vec<DeploymentCondition>) {
    let reason = conditions::find(Some(&*list), "Progressing").and_then(|known| known.reason.clone());
    let was_paused = reason.as_deref() == Some("DeploymentPaused");
    let paused = rollout.spec.paused == Some(true);
    // A reported lack of progress is not papered over.
    if reason.as_deref() == Some("ProgressDeadlineExceeded") || paused == was_paused {
        return;
    }
    let (reason, message) = match paused {
        true => ("DeploymentPaused", "Deployment is paused"),
        false => ("DeploymentResumed", "Deployment is resumed"),
    };
    conditions::set(list, condition("Progressing", "Unknown", reason, message.to_owned(), rollout.now));
}

fn note_sets(rollout: &Rollout<'_>, sets: &[Set], new: Option<usize>, list: &mut Vec<DeploymentCondition>) {
    if let Some(name) = &rollout.created {
        let message = format!("Created new replica set \"{name}\"");
        conditions::set(list, condition("Progressing", "True", "NewReplicaSetCreated", message, rollout.now));
    } else if let Some(new) = new
        && conditions::find(Some(&*list), "Progressing").is_none()
    {
        let message = format!("Found new replica set \"{}\"", sets[new].name());
        conditions::set(list, condition("Progressing", "True", "FoundNewReplicaSet", message, rollout.now));
    }
}

fn note_progress(
    rollout: &Rollout<'_>,
    sets: &[Set],
    new: Option<usize>,
    old: &DeploymentStatus,
    status: &DeploymentStatus,
    deadline: i32,
    list: &mut Vec<DeploymentCondition>,
) {
    let current = conditions::find(Some(&*list), "Progressing").cloned();
    let reason = current.as_ref().and_then(|current| current.reason.clone()).unwrap_or_default();
    if status.replicas == status.updated_replicas && reason == "NewReplicaSetAvailable" {
        return;
    }
    let subject = match new {
        Some(at) => format!("ReplicaSet \"{}\"", sets[at].name()),
        None => format!("Deployment \"{}\"", pods::name(&rollout.deployment.metadata)),
    };
    let now = rollout.now;
    if is_complete(&rollout.limits, rollout.deployment.metadata.generation, status) {
        let message = format!("{subject} has successfully progressed.");
        conditions::set(list, condition("Progressing", "True", "NewReplicaSetAvailable", message, now));
    } else if has_progressed(old, status) {
        let mut next = condition("Progressing", "True", "ReplicaSetUpdated", format!("{subject} is progressing."), now);
        if let Some(current) = current.filter(|current| current.status == "True") {
            next.last_transition_time = current.last_transition_time;
        }
        // Replaced even if equal: the update time is what the deadline counts from.
        conditions::remove(list, "Progressing");
        list.push(next);
    } else if has_timed_out(current.as_ref(), &reason, deadline, now) {
        let message = format!("{subject} has timed out progressing.");
        conditions::set(list, condition("Progressing", "False", "ProgressDeadlineExceeded", message, now));
    }
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or_default();
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

fn has_timed_out(current: Option<&DeploymentCondition>, reason: &str, deadline: i32, now: Timestamp) -> bool {
    match reason {
        "NewReplicaSetAvailable" => false,
        "ProgressDeadlineExceeded" => true,
        _ => current
            .and_then(|current| current.last_update_time.as_ref())
            .is_some_and(|updated| updated.0 + Duration::from_secs(deadline.unsigned_abs().into()) < now),
    }
}

fn note_availability(rollout: &Rollout<'_>, status: &DeploymentStatus, list: &mut Vec<DeploymentCondition>) {
    let least = rollout.limits.replicas - rollout.limits.unavailable;
    let (is, reason, message) = match status.available_replicas.unwrap_or_default() >= least {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    conditions::set(list, condition("Available", is, reason, message.to_owned(), rollout.now));
}

/// A ReplicaSet that cannot make its pods makes its Deployment fail too; the new one's word counts first.
fn note_failure(sets: &[Set], new: Option<usize>, now: Timestamp, list: &mut Vec<DeploymentCondition>) {
    let first = new.map(|at| &sets[at]).into_iter().chain(sets);
    let failure = first
        .filter_map(|set| conditions::find(set.object.status.as_ref()?.conditions.as_ref(), "ReplicaFailure"))
        .next();
    match failure {
        Some(failure) => {
            let reason = failure.reason.clone().unwrap_or_default();
            let message = failure.message.clone().unwrap_or_default();
            conditions::set(list, condition("ReplicaFailure", &failure.status, &reason, message, now));
        }
        None => conditions::remove(list, "ReplicaFailure"),
    }
}
