//! Nodes that fall silent are marked here, and what they are marked with keeps pods off them.
//!
//! A node proves that it lives by renewing its Lease or its Ready condition. One that does neither for
//! [`plan::GRACE`] has its conditions set to Unknown. From conditions follow taints: NoSchedule for the scheduler, NoExecute for
//! the eviction of pods ([`crate::tainteviction`]); and pods of a node that is not ready are not ready.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use client::events::reference;
use client::informer::{Informer, Scope};
use client::patch::Patch;
use client::reconcile::{Action, Controller, changed, own_key};
use client::typed::{decode, resource_of, scope_of};
use client::view::{View, by_node};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::common::conditions;
use crate::{Context, ReconcileError, Session};
use plan::{Proof, Standing};

const NAME: &str = "node-lifecycle-controller";
const LEASES: &str = "kube-node-lease";

struct NodeLifecycle {
    session: Session,
    nodes: Arc<View>,
    leases: Arc<View>,
    pods: Arc<View>,
    /// The last sign of life of each node, and when we saw it by our own clock: theirs may be wrong.
    signs: Mutex<HashMap<String, (Proof, Duration)>>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("node-controller", "node-controller");
    let nodes = Arc::new(View::new(&*context.informers, scope_of::<Node>()));
    let scope = Scope { namespace: Some(LEASES.to_owned()), ..scope_of::<Lease>() };
    let leases = Arc::new(View::new(&*context.informers, scope));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(by_node));
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&nodes, own_key)
        .watch(&leases, |change| changed(change).map(|lease| ObjectKey::new("", &lease.key.name)).into_iter().collect())
        .follow(&pods)
        .workers(2);
    let this = Arc::new(NodeLifecycle { session, nodes, leases, pods, signs: Mutex::default() });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl NodeLifecycle {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.nodes.get(&key) else {
            self.signs.lock().remove(&key.name);
            return Ok(Action::Done);
        };
        let Some(node) = decode::<Node>(&entry) else { return Ok(Action::Done) };
        let silence = self.silence(&key.name, &node);
        let plan = plan::plan(&node, silence, self.any_ready(), self.session.clock.now());
        if plan.fell_silent {
            let message = format!("Node {} status is now: NodeNotReady", key.name);
            self.session.recorder.normal(&reference::<Node>(&node.metadata), "NodeNotReady", message);
        }
        let resource = resource_of::<Node>();
        if let Some(status) = plan.status {
            // The change itself brings the node back here, with what follows from it.
            let patch = Patch::Merge(json!({"status": status})).guarded(&entry.uid, &entry.revision.to_string());
            return self.patch(self.session.requests.patch_sub(&resource, &key, "status", &patch).await);
        }
        if let Some(taints) = plan.taints {
            let patch =
                Patch::Merge(json!({"spec": {"taints": taints}})).guarded(&entry.uid, &entry.revision.to_string());
            return self.patch(self.session.requests.patch(&resource, &key, &patch).await);
        }
        if plan.standing != Standing::Ready {
            self.mark_pods(&key.name).await?;
        }
        Ok(plan.look_again.map_or(Action::Done, Action::After))
    }

    fn patch(
        &self,
        outcome: Result<serde_json::Value, client::request::RequestError>,
    ) -> Result<Action, ReconcileError> {
        match outcome {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }

    /// How long nothing has been heard of the node.
    fn silence(&self, name: &str, node: &Node) -> Duration {
        let now = self.session.clock.elapsed();
        let lease = self.leases.get(&ObjectKey::new(LEASES, name)).and_then(|entry| decode::<Lease>(&entry));
        let proof = Proof::of(node, lease.as_ref());
        let mut signs = self.signs.lock();
        match signs.get(name) {
            Some((known, since)) if *known == proof => now.saturating_sub(*since),
            _ => {
                signs.insert(name.to_owned(), (proof, now));
                Duration::ZERO
            }
        }
    }

    fn any_ready(&self) -> bool {
        let nodes = self.nodes.list(None);
        nodes.iter().filter_map(|entry| decode::<Node>(entry)).any(|node| plan::standing(&node) == Standing::Ready)
    }

    /// Pods of a node that is not ready are not ready, whatever their last word was.
    async fn mark_pods(&self, node: &str) -> Result<(), ReconcileError> {
        for entry in self.pods.find(0, node) {
            let Some(pod) = decode::<Pod>(&entry) else { continue };
            let mut list = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            if !conditions::is_true(Some(&list), "Ready") {
                continue;
            }
            if let Some(ready) = list.iter_mut().find(|condition| condition.type_ == "Ready") {
                ready.status = "False".to_owned();
                ready.last_transition_time = Some(self.session.clock.now().into());
            }
            self.write_pod(&entry, &list).await?;
            let about = crate::common::services::reference(&Pod { metadata: pod.metadata, ..Pod::default() });
            self.session.recorder.warning(&about, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }

    async fn write_pod(
        &self,
        entry: &Entry,
        list: &[k8s_openapi::api::core::v1::PodCondition],
    ) -> Result<(), ReconcileError> {
        let patch =
            Patch::Merge(json!({"status": {"conditions": list}})).guarded(&entry.uid, &entry.revision.to_string());
        match self.session.requests.patch_sub(&resource_of::<Pod>(), &entry.key, "status", &patch).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
