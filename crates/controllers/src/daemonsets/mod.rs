//! DaemonSets run one pod on each node that fits here.
//!
//! A pod is made for a node by an affinity to the node's name, and the scheduler binds it. Templates are
//! remembered as ControllerRevisions; a rolling update replaces pods of older ones within maxUnavailable, or with
//! maxSurge starts the new pod first.

mod apply;
mod plan;

use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, own_key};
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio_util::sync::CancellationToken;

use crate::common::expectations::Expectations;
use crate::common::{claims, history, pods, selector};
use crate::{Context, ReconcileError, Session};
use plan::Observed;

const NAME: &str = "daemonset-controller";

struct DaemonSets {
    session: Session,
    sets: Arc<View>,
    pods: Arc<View>,
    nodes: Arc<View>,
    revisions: Arc<View>,
    expectations: Expectations,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("daemon-set-controller", NAME);
    let sets = Arc::new(View::new(&*context.informers, scope_of::<DaemonSet>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(pods::by_owner));
    let nodes = Arc::new(View::new(&*context.informers, scope_of::<Node>()));
    let revisions = Arc::new(View::new(&*context.informers, scope_of::<ControllerRevision>()).index(pods::by_owner));
    let (owners, all) = (sets.clone(), sets.clone());
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&sets, own_key)
        .watch(&pods, move |change| sets_of(&owners, change))
        .watch(&nodes, move |change| match matters(change) {
            true => all.list(None).iter().map(|entry| entry.key.clone()).collect(),
            false => Vec::new(),
        })
        .follow(&revisions)
        .workers(2);
    let expectations = Expectations::new(context.clock.clone());
    let this = Arc::new(DaemonSets { session, sets, pods, nodes, revisions, expectations });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

fn sets_of(sets: &View, change: &Change) -> Vec<ObjectKey> {
    claims::concerned(sets, change, "DaemonSet", |entry| {
        let spec = decode::<DaemonSet>(entry).and_then(|set| set.spec);
        selector(spec.as_ref().map(|spec| &spec.selector))
    })
}

/// Of a node, only what pods are placed by matters: its status changes all the time.
fn matters(change: &Change) -> bool {
    match change {
        Change::Applied { old: Some(old), new } => {
            let taints = |entry: &api::object::Entry| entry.to_value()["spec"]["taints"].clone();
            old.labels != new.labels || taints(old) != taints(new)
        }
        Change::Applied { old: None, .. } | Change::Deleted(_) => true,
        Change::Synced | Change::Resync => false,
    }
}

impl DaemonSets {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(&key).await? else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let plan = plan::plan(&observed, self.session.clock.now());
        self.apply(&observed, plan).await
    }

    async fn observe(&self, key: &ObjectKey) -> Result<Option<Observed>, ReconcileError> {
        let Some(entry) = self.sets.get(key) else { return Ok(None) };
        let Some(set) = decode::<DaemonSet>(&entry) else { return Ok(None) };
        let Some(spec) = set.spec.clone() else { return Ok(None) };
        let selector = selector(Some(&spec.selector));
        if selector.is_everything() {
            let about = client::events::reference::<DaemonSet>(&set.metadata);
            let message = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.session.recorder.warning(&about, "SelectingAll", message);
            return Ok(None);
        }
        let revision = self.pods.revision();
        let requests = &self.session.requests;
        let owned =
            claims::claim::<DaemonSet>(requests, &self.pods, &resource_of::<Pod>(), &set.metadata, &selector).await?;
        let pods: Vec<Pod> = owned.iter().filter_map(|entry| decode(entry)).collect();
        let current = self.expectations.met(key, revision, |uid| {
            pods.iter().any(|pod| pods::uid(&pod.metadata) == uid && pod.metadata.deletion_timestamp.is_none())
        });
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let history = history::observe(&self.revisions, &set.metadata, &spec.template, collisions);
        let nodes = self.nodes.list(None).iter().filter_map(|entry| decode(entry)).collect();
        Ok(Some(Observed { entry, set, spec, pods, nodes, history, current }))
    }
}

#[cfg(test)]
mod tests;
