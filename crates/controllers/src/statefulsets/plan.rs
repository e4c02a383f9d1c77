//! The next step of a StatefulSet: which numbered pods to make and to end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::object::Entry;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::common::history::{HASH, History, Revision};
use crate::common::pods::{self, Availability};

pub(super) struct Observed {
    pub(super) entry: Arc<Entry>,
    pub(super) set: StatefulSet,
    pub(super) spec: StatefulSetSpec,
    pub(super) pods: Vec<Pod>,
    pub(super) history: History,
    /// Names of the claims in the namespace.
    pub(super) claims: BTreeSet<String>,
}

#[derive(Default)]
pub(super) struct Plan {
    /// Ordinals, each with the revision to make it of.
    pub(super) create: Vec<(i32, Revision)>,
    pub(super) delete: Vec<Pod>,
    pub(super) status: StatefulSetStatus,
    pub(super) look_again: Option<Duration>,
}

/// The number behind the last dash of a pod's name, if the rest is the set's.
pub(super) fn ordinal(set: &str, pod: &Pod) -> Option<i32> {
    let (parent, number) = pods::name(&pod.metadata).rsplit_once('-')?;
    (parent == set).then(|| number.parse().ok()).flatten()
}

fn revision_of(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH)).map(String::as_str).unwrap_or_default()
}

/// Where the set stands between its two revisions.
struct Rollout<'a> {
    observed: &'a Observed,
    now: Timestamp,
    first: i32,
    end: i32,
    partition: i32,
    current: &'a Revision,
    update: &'a Revision,
    one_by_one: bool,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let spec = &observed.spec;
    let first = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or_default();
    let update = observed.history.newest();
    let known = observed.set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let strategy = spec.update_strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let rollout = Rollout {
        observed,
        now,
        first,
        end: first.saturating_add(spec.replicas.unwrap_or(1)),
        partition: rolling.and_then(|rolling| rolling.partition).unwrap_or_default(),
        current: known.and_then(|name| observed.history.named(name)).unwrap_or(update),
        update,
        one_by_one: spec.pod_management_policy.as_deref() != Some("Parallel"),
    };
    let on_delete = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete");
    let mut plan = Plan { status: rollout.status(), ..Plan::default() };
    plan.look_again = observed.pods.iter().filter_map(|pod| rollout.wait(pod)).min();
    if observed.set.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let steady = rollout.scale(&mut plan);
    if steady && !on_delete {
        rollout.roll(&mut plan);
    }
    plan
}

impl Rollout<'_> {
    fn by_ordinal(&self) -> BTreeMap<i32, &Pod> {
        let name = &self.observed.entry.key.name;
        self.observed.pods.iter().filter_map(|pod| Some((ordinal(name, pod)?, pod))).collect()
    }

    fn min_ready(&self) -> i32 {
        self.observed.spec.min_ready_seconds.unwrap_or_default()
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_none() && pods::is_available(pod, self.min_ready(), self.now)
    }

    fn wait(&self, pod: &Pod) -> Option<Duration> {
        match pods::availability(pod, self.min_ready(), self.now) {
            Availability::In(wait) => Some(wait),
            _ => None,
        }
    }

    /// The revision that a pod of this ordinal is made of.
    fn revision_for(&self, ordinal: i32) -> &Revision {
        let updated = ordinal >= self.first.saturating_add(self.partition);
        let current = self.observed.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or_default();
        // A set that has never run has no old revision to keep to.
        let kept = !updated || (self.partition == 0 && ordinal < self.first.saturating_add(current));
        if kept { self.current } else { self.update }
    }

    /// Makes what is missing and ends what is too much. True when everything wanted is there and healthy.
    fn scale(&self, plan: &mut Plan) -> bool {
        let by_ordinal = self.by_ordinal();
        let mut steady = true;
        for number in self.first..self.end {
            match by_ordinal.get(&number) {
                None => {
                    plan.create.push((number, self.revision_for(number).clone()));
                    steady = false;
                }
                Some(pod) if pods::is_finished(pod) && pod.metadata.deletion_timestamp.is_none() => {
                    plan.delete.push((*pod).clone());
                    steady = false;
                }
                Some(pod) if self.is_healthy(pod) => continue,
                Some(_) if !self.one_by_one => continue,
                Some(_) => steady = false,
            }
            if self.one_by_one {
                return false;
            }
        }
        let condemned: Vec<&Pod> =
            by_ordinal.iter().filter(|(number, _)| !(self.first..self.end).contains(*number)).map(|it| *it.1).collect();
        // Of several that are not healthy, the last to go is the first to be seen to.
        let first_unhealthy = condemned.iter().position(|pod| !self.is_healthy(pod));
        for (index, pod) in condemned.iter().enumerate().rev() {
            steady = false;
            let waits = self.one_by_one && !self.is_healthy(pod) && first_unhealthy != Some(index);
            if pod.metadata.deletion_timestamp.is_none() && !waits {
                plan.delete.push((*pod).clone());
            }
            if self.one_by_one {
                return false;
            }
        }
        steady
    }

    /// Ends the highest pod of an old revision, when all above it are healthy.
    fn roll(&self, plan: &mut Plan) {
        let by_ordinal = self.by_ordinal();
        for number in (self.first.saturating_add(self.partition)..self.end).rev() {
            let Some(pod) = by_ordinal.get(&number) else { return };
            if revision_of(pod) != self.update.name {
                if pod.metadata.deletion_timestamp.is_none() {
                    plan.delete.push((*pod).clone());
                }
                return;
            }
            if !self.is_healthy(pod) {
                return;
            }
        }
    }

    fn status(&self) -> StatefulSetStatus {
        let old = self.observed.set.status.clone().unwrap_or_default();
        let count = |test: &dyn Fn(&Pod) -> bool| {
            i32::try_from(self.observed.pods.iter().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
        };
        let made = |pod: &Pod, revision: &Revision| {
            pod.metadata.deletion_timestamp.is_none() && !pods::is_finished(pod) && revision_of(pod) == revision.name
        };
        let some = |count: i32| (count != 0).then_some(count);
        let replicas = count(&|_| true);
        let ready = count(&|pod| pods::phase(pod) == "Running" && pods::is_ready(pod));
        let updated = count(&|pod| made(pod, self.update));
        // When the last pod is of the new revision, it becomes the current one.
        let wanted = self.end - self.first;
        let complete = updated == replicas && ready == replicas && replicas == wanted;
        let current = if complete { self.update } else { self.current };
        StatefulSetStatus {
            replicas,
            ready_replicas: some(ready),
            available_replicas: Some(count(&|pod| self.is_healthy(pod))),
            current_replicas: some(count(&|pod| made(pod, current))),
            updated_replicas: some(updated),
            current_revision: Some(current.name.clone()),
            update_revision: Some(self.update.name.clone()),
            observed_generation: self.observed.set.metadata.generation,
            collision_count: Some(old.collision_count.unwrap_or_default()),
            conditions: old.conditions,
        }
    }
}
