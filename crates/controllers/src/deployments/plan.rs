//! From a Deployment and its ReplicaSets to the next step of its rollout.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStatus};
use serde_json::{Value, json};

use super::observe::Observed;
use super::progress::{self, Rollout};
use super::rolling::{self, Limits, grow, shrink_old, total};
use super::sets::{self, REVISION, REVISION_HISTORY, Set};
use crate::common::pods;

/// The most revisions remembered in the history annotation, in bytes.
const LONGEST_HISTORY: usize = 2000;

/// What is to be done, in this order.
pub(super) struct Plan {
    pub(super) warning: Option<(&'static str, &'static str)>,
    /// The ReplicaSet of a new template.
    pub(super) create: Option<Value>,
    /// All ReplicaSets with their changes.
    pub(super) sets: Vec<Set>,
    /// ReplicaSets beyond the history limit.
    pub(super) delete: Vec<Set>,
    /// A merge patch of the Deployment itself.
    pub(super) annotate: Option<Value>,
    pub(super) status: DeploymentStatus,
    /// When the progress deadline passes.
    pub(super) look_again: Option<Duration>,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let deployment = &observed.deployment;
    let old_status = deployment.status.clone().unwrap_or_default();
    let mut plan = Plan {
        warning: None,
        create: None,
        sets: observed.sets.clone(),
        delete: Vec::new(),
        annotate: None,
        status: old_status.clone(),
        look_again: None,
    };
    let Some(spec) = &deployment.spec else { return plan };
    if crate::common::selector(Some(&spec.selector)).is_everything() {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.warning = Some(("SelectingAll", message));
        plan.status.observed_generation = deployment.metadata.generation;
        return plan;
    }
    let limits = Limits::of(spec);
    let new = sets::find_new(spec, &plan.sets);
    let paused = spec.paused == Some(true);
    let mut rollout = Rollout { deployment, spec, limits, now, follows_progress: false, created: None };
    if deployment.metadata.deletion_timestamp.is_none() {
        if paused || rolling::is_resized(&limits, &plan.sets) {
            plan.revise(observed, spec, new);
            rolling::rescale(&limits, &mut plan.sets, new);
            if paused {
                plan.forget_history(spec, new);
            }
        } else {
            rollout.follows_progress = true;
            plan.roll(observed, spec, &limits, new);
            if let Some(created) = &plan.create {
                rollout.created = created["metadata"]["name"].as_str().map(ToOwned::to_owned);
            }
        }
    }
    let (status, look_again) = progress::status(&rollout, &plan.sets, new, &old_status);
    if rollout.follows_progress && progress::is_complete(&limits, deployment.metadata.generation, &status) {
        plan.forget_history(spec, new);
    }
    plan.status = status;
    plan.look_again = look_again;
    plan
}

impl Plan {
    fn roll(&mut self, observed: &Observed, spec: &DeploymentSpec, limits: &Limits, new: Option<usize>) {
        if limits.recreate && self.stop_old(limits, new) {
            return;
        }
        self.revise(observed, spec, new);
        let Some(new) = new else {
            let replicas = grow(limits, total(&self.sets), 0);
            let revision = self.next_revision(None);
            self.create = Some(sets::make_new(&observed.deployment, spec, replicas, limits.max(), revision));
            self.annotate_deployment(observed, revision);
            return;
        };
        let size = grow(limits, total(&self.sets), self.sets[new].replicas);
        if size != self.sets[new].replicas {
            self.sets[new].resize(size, limits.replicas, limits.max());
            return;
        }
        if !limits.recreate {
            let newest = self.sets.remove(new);
            shrink_old(limits, &mut self.sets, &newest);
            self.sets.insert(new, newest);
        }
    }

    /// Recreate: old pods go before new ones come. True while that takes.
    fn stop_old(&mut self, limits: &Limits, new: Option<usize>) -> bool {
        let mut waiting = false;
        for (_, old) in self.sets.iter_mut().enumerate().filter(|(at, _)| Some(*at) != new) {
            if old.replicas > 0 {
                old.resize(0, limits.replicas, limits.max());
            }
            waiting |= old.has_pods || old.spec_replicas() > 0;
        }
        waiting
    }

    /// Keeps the newest ReplicaSet's revision above all others', and its annotations equal to the Deployment's.
    fn revise(&mut self, observed: &Observed, spec: &DeploymentSpec, new: Option<usize>) {
        let Some(at) = new else { return };
        let revision = self.next_revision(new);
        let set = &mut self.sets[at];
        for (name, value) in sets::copied_annotations(&observed.deployment) {
            set.annotate(&name, &value);
        }
        let had = set.revision();
        if had < revision {
            set.annotate(REVISION, &revision.to_string());
            if had > 0 {
                let history = pods::annotation(&set.object.metadata, REVISION_HISTORY).unwrap_or_default();
                let history = lengthen(history, had);
                set.annotate(REVISION_HISTORY, &history);
            }
        }
        let min_ready = spec.min_ready_seconds.unwrap_or_default();
        if set.object.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or_default() != min_ready {
            set.change["spec"]["minReadySeconds"] = json!(min_ready);
        }
        self.annotate_deployment(observed, revision.max(had));
    }

    fn next_revision(&self, new: Option<usize>) -> i64 {
        let olds = self.sets.iter().enumerate().filter(|(at, _)| Some(*at) != new);
        olds.map(|(_, old)| old.revision()).max().unwrap_or_default() + 1
    }

    fn annotate_deployment(&mut self, observed: &Observed, revision: i64) {
        let revision = revision.to_string();
        if pods::annotation(&observed.deployment.metadata, REVISION) != Some(&revision) {
            self.annotate = Some(json!({"metadata": {"annotations": {REVISION: revision}}}));
        }
    }

    /// Marks ReplicaSets that hold nothing and are beyond the history limit, oldest revision first.
    fn forget_history(&mut self, spec: &DeploymentSpec, new: Option<usize>) {
        let limit = usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or_default();
        let mut olds: Vec<&Set> =
            self.sets.iter().enumerate().filter(|(at, _)| Some(*at) != new).map(|(_, old)| old).collect();
        olds.retain(|old| old.object.metadata.deletion_timestamp.is_none());
        let surplus = olds.len().saturating_sub(limit);
        olds.sort_by_key(|old| old.revision());
        self.delete = olds
            .into_iter()
            .take(surplus)
            .filter(|old| {
                let seen = old.object.status.as_ref().and_then(|status| status.observed_generation);
                let empty = old.status_replicas() == 0 && old.spec_replicas() == 0 && old.replicas == 0;
                empty && seen.unwrap_or_default() >= old.object.metadata.generation.unwrap_or_default()
            })
            .cloned()
            .collect();
    }
}

/// Appends a revision; the oldest are dropped when the history is too long.
fn lengthen(history: &str, revision: i64) -> String {
    let mut history = if history.is_empty() { revision.to_string() } else { format!("{history},{revision}") };
    while history.len() > LONGEST_HISTORY {
        let Some((_, rest)) = history.split_once(',') else { break };
        history = rest.to_owned();
    }
    history
}
