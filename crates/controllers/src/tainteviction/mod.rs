//! Pods that do not tolerate a NoExecute taint of their node are evicted here, at once or when their tolerance ends.

mod plan;

use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::Informer;
use client::patch::Patch;
use client::reconcile::{Action, Controller, changed, own_key};
use client::request::Delete;
use client::typed::{decode, resource_of, scope_of};
use client::view::{View, by_node};
use k8s_openapi::api::core::v1::{Node, Pod};
use tokio_util::sync::CancellationToken;

use crate::common::{disruption, pods};
use crate::{Context, ReconcileError, Session};
use plan::Verdict;

const NAME: &str = "taint-eviction-controller";

struct TaintEviction {
    session: Session,
    nodes: Arc<View>,
    pods: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("node-controller", NAME);
    let nodes = Arc::new(View::new(&*context.informers, scope_of::<Node>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(by_node));
    let bound = pods.clone();
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&pods, own_key)
        .watch(&nodes, move |change| {
            let node = changed(change).filter(|node| plan::may_evict(node));
            let pods = node.map(|node| bound.find(0, &node.key.name)).unwrap_or_default();
            pods.iter().map(|pod| pod.key.clone()).collect()
        })
        .workers(5);
    let this = Arc::new(TaintEviction { session, nodes, pods });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl TaintEviction {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.pods.get(&key) else { return Ok(Action::Done) };
        let Some(name) = by_node(&entry).into_iter().next() else { return Ok(Action::Done) };
        let node = self.nodes.get(&ObjectKey::new("", name)).filter(|node| plan::may_evict(node));
        let Some(node) = node.and_then(|entry| decode::<Node>(&entry)) else { return Ok(Action::Done) };
        let Some(pod) = decode::<Pod>(&entry) else { return Ok(Action::Done) };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let now = self.session.clock.now();
        match plan::judge(&pod, &node, now) {
            Verdict::Stay => return Ok(Action::Done),
            Verdict::StayFor(time) => return Ok(Action::After(time)),
            Verdict::Evict => {}
        }
        let about = k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some("v1".to_owned()),
            ..crate::common::services::reference(&pod)
        };
        let message = format!("Marking for deletion Pod {key}");
        self.session.recorder.normal(&about, "TaintManagerEviction", message);
        let reason = "Taint manager: deleting due to NoExecute taint";
        let requests = &self.session.requests;
        let resource = resource_of::<Pod>();
        if let Some(status) = disruption::mark(&pod, "DeletionByTaintManager", reason, now) {
            let patch = Patch::Merge(status).guarded(&entry.uid, "");
            match requests.patch_sub(&resource, &key, "status", &patch).await {
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(Action::Done),
                outcome => drop(outcome?),
            }
        }
        match requests.delete(&resource, &key, &Delete::of(pods::uid(&pod.metadata))).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}
