//! Pods that nobody else will end are ended here: those of nodes that are gone, those deleted before they had a node,
//! and finished ones when there are too many.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer};
use client::patch::Patch;
use client::reconcile::{Action, Controller, own_key};
use client::request::Delete;
use client::typed::{decode, resource_of, scope_of};
use client::view::{View, by_node};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::common::{disruption, pods};
use crate::{Context, ReconcileError, Session};
use plan::Verdict;

const NAME: &str = "pod-garbage-collector-controller";
/// Finished pods to keep (upstream's `--terminated-pod-gc-threshold`).
const KEPT: usize = 12_500;
/// How long a node may be unknown before its pods are taken for lost; its change may be late.
const QUARANTINE: Duration = Duration::from_secs(40);

struct PodGc {
    session: Session,
    nodes: Arc<View>,
    pods: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("pod-garbage-collector", NAME);
    let nodes = Arc::new(View::new(&*context.informers, scope_of::<Node>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(by_node).index(plan::by_end));
    let bound = pods.clone();
    let controller = Controller::new(NAME, context.clock.clone()).watch(&pods, own_key).watch(&nodes, move |change| {
        let Change::Deleted(node) = change else { return Vec::new() };
        bound.find(0, &node.key.name).iter().map(|pod| pod.key.clone()).collect()
    });
    let this = Arc::new(PodGc { session, nodes, pods });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl PodGc {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.pods.get(&key) else { return Ok(Action::Done) };
        let node = by_node(&entry).into_iter().next().unwrap_or_default();
        let node_known = self.nodes.get(&ObjectKey::new("", &node)).is_some();
        // Finished pods are counted only when there could be too many.
        let surplus = self.pods.len() > KEPT && self.is_surplus(&entry);
        let verdict = plan::judge(&entry, node_known, surplus);
        if verdict == Verdict::Keep {
            return Ok(Action::Done);
        }
        let Some(pod) = decode::<Pod>(&entry) else { return Ok(Action::Done) };
        if verdict == Verdict::Lost {
            if !self.has_waited(&pod) {
                return Ok(Action::After(QUARANTINE));
            }
            // The view may be behind: only the server knows that the node is gone.
            match self.session.requests.get(&resource_of::<Node>(), &ObjectKey::new("", &node)).await {
                Err(error) if error.is_not_found() => {}
                outcome => return outcome.map(|_| Action::Done).map_err(Into::into),
            }
        }
        self.remove(&key, &pod, !node.is_empty() && !node_known).await?;
        Ok(Action::Done)
    }

    /// Whether the pod was there for long enough to be sure of its node. A pod is made before it is bound, so its age is
    /// no less than the time that its node was unknown.
    fn has_waited(&self, pod: &Pod) -> bool {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        created.is_none_or(|created| created + QUARANTINE <= self.session.clock.now())
    }

    fn is_surplus(&self, pod: &Entry) -> bool {
        let has_ended = || !plan::by_end(pod).is_empty();
        has_ended() && plan::surplus(self.pods.find(1, plan::ENDED), KEPT).iter().any(|other| other.uid == pod.uid)
    }

    async fn remove(&self, key: &ObjectKey, pod: &Pod, node_is_gone: bool) -> Result<(), ReconcileError> {
        let (requests, resource) = (&self.session.requests, resource_of::<Pod>());
        let uid = pods::uid(&pod.metadata);
        if !pods::is_finished(pod) {
            // Whoever counts finished pods must see that this one failed, and why: he may hold it until he has.
            let mut status = json!({"status": {"phase": "Failed"}});
            let now = self.session.clock.now();
            let marked = || disruption::mark(pod, "DeletionByPodGC", "PodGC: node no longer exists", now);
            if let Some(marked) = node_is_gone.then(marked).flatten() {
                client::patch::merge(&mut status, &marked);
            }
            match requests.patch_sub(&resource, key, "status", &Patch::Merge(status).guarded(uid, "")).await {
                Err(error) if error.is_not_found() || error.is_conflict() => return Ok(()),
                outcome => drop(outcome?),
            }
        }
        match requests.delete(&resource, key, &Delete::of(uid).grace(0)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn pods_of_a_node_that_is_gone_fail_and_go() {
        let cluster = FakeCluster::new();
        cluster.put(&resource_of::<Node>(), json!({"metadata": {"name": "n1"}}));
        for (name, node) in [("lost", "n0"), ("kept", "n1")] {
            cluster.put(
                &resource_of::<Pod>(),
                json!({"metadata": {"namespace": "a", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
                       "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running"}}),
            );
        }
        let harness = Harness::start(&cluster, run);
        eventually(|| cluster.get(&resource_of::<Pod>(), &ObjectKey::new("a", "lost")).is_none()).await;
        let requests = cluster.take_requests();
        let status = requests.iter().find(|request| request.method == "PATCH").unwrap();
        assert_eq!(status.body["status"]["phase"], "Failed");
        assert_eq!(status.body["status"]["conditions"][0]["reason"], "DeletionByPodGC");
        assert!(cluster.get(&resource_of::<Pod>(), &ObjectKey::new("a", "kept")).is_some());
        harness.stop().await;
    }

    #[tokio::test]
    async fn a_pod_that_goes_before_it_was_placed_fails_for_those_who_hold_it() {
        let cluster = FakeCluster::new();
        let metadata = json!({"namespace": "a", "name": "held", "finalizers": ["batch.kubernetes.io/job-tracking"],
                              "deletionTimestamp": "2026-01-01T00:00:00Z"});
        cluster.put(
            &resource_of::<Pod>(),
            json!({"metadata": metadata, "spec": {"containers": []}, "status": {"phase": "Pending"}}),
        );
        let harness = Harness::start(&cluster, run);
        let failed = || {
            let pod = cluster.get(&resource_of::<Pod>(), &ObjectKey::new("a", "held"));
            pod.is_some_and(|pod| pod["status"]["phase"] == "Failed")
        };
        eventually(failed).await;
        harness.stop().await;
    }
}
