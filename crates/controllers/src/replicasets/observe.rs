//! The owner, its pods, and how crowded nodes are with them.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::selector::label::LabelSelector;
use client::informer::Informer;
use client::typed::resource_of;
use client::view::Relations;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    Pod, PodTemplateSpec, ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Replicas;
use crate::ReconcileError;
use crate::common::{claims, pods};

/// What the two kinds do differently.
pub(super) trait Kind: Resource + DeserializeOwned + Send + Sync + 'static {
    /// Upstream's names of the controller, of its ServiceAccount, and in the source of its events.
    const CONTROLLER: &'static str;
    const ACCOUNT: &'static str;
    const COMPONENT: &'static str;
    type Status: Serialize + Send + Sync;

    fn read(self) -> Replicated;
    /// A status of this kind's type.
    fn status(status: &ReplicaSetStatus) -> Self::Status;
}

/// A ReplicaSet or ReplicationController. The status has the ReplicaSet's type, which is the richer one.
#[derive(Clone, Debug)]
pub(super) struct Replicated {
    pub(super) meta: ObjectMeta,
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: i32,
    pub(super) selector: LabelSelector,
    pub(super) template: PodTemplateSpec,
    pub(super) status: ReplicaSetStatus,
}

/// Everything that a plan is made from.
pub(super) struct Observed {
    pub(super) entry: Arc<Entry>,
    pub(super) owner: Replicated,
    /// All pods of the owner, finished and terminating ones too.
    pub(super) pods: Vec<Pod>,
    /// Pods of the owner and its siblings (of the same Deployment) by node.
    pub(super) crowding: HashMap<String, usize>,
    /// False while the view does not show what was done before.
    pub(super) current: bool,
}

pub(super) fn decode<K: Kind>(entry: &Entry) -> Option<Replicated> {
    client::typed::decode::<K>(entry).map(Kind::read)
}

impl<K: Kind> Replicas<K> {
    /// `None` if there is no such owner.
    pub(super) async fn observe(&self, key: &ObjectKey) -> Result<Option<Observed>, ReconcileError> {
        let Some(entry) = self.owners.get(key) else { return Ok(None) };
        let Some(owner) = decode::<K>(&entry) else { return Ok(None) };
        // The revision is read before the pods, so that it is at most theirs.
        let revision = self.pods.revision();
        let requests = &self.session.requests;
        let owned =
            claims::claim::<K>(requests, &self.pods, &resource_of::<Pod>(), &owner.meta, &owner.selector).await?;
        let pods: Vec<Pod> = owned.iter().filter_map(|entry| client::typed::decode(entry)).collect();
        let current = self.expectations.met(key, revision, |uid| {
            pods.iter().any(|pod| pods::uid(&pod.metadata) == uid && pod.metadata.deletion_timestamp.is_none())
        });
        let crowding = self.crowding(&entry, &pods);
        Ok(Some(Observed { entry, owner, pods, crowding, current }))
    }

    fn crowding(&self, owner: &Entry, own: &[Pod]) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        let mut count = |pod: &Pod| {
            if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone())
                && pods::is_active(pod)
            {
                *counts.entry(node).or_default() += 1;
            }
        };
        own.iter().for_each(&mut count);
        if let Some(parent) = Relations::of(owner).controller() {
            for sibling in self.owners.find(0, &parent.uid).iter().filter(|sibling| sibling.uid != owner.uid) {
                self.pods
                    .find(0, &sibling.uid)
                    .iter()
                    .filter_map(|entry| client::typed::decode(entry))
                    .for_each(|pod| count(&pod));
            }
        }
        counts
    }
}

impl Kind for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    const ACCOUNT: &'static str = "replicaset-controller";
    const COMPONENT: &'static str = "replicaset-controller";
    type Status = ReplicaSetStatus;

    fn read(self) -> Replicated {
        let spec = self.spec.unwrap_or_default();
        Replicated {
            meta: self.metadata,
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            selector: crate::common::selector(Some(&spec.selector)),
            template: spec.template.unwrap_or_default(),
            status: self.status.unwrap_or_default(),
        }
    }

    fn status(status: &ReplicaSetStatus) -> ReplicaSetStatus {
        status.clone()
    }
}

impl Kind for ReplicationController {
    const CONTROLLER: &'static str = "replicationcontroller-controller";
    const ACCOUNT: &'static str = "replication-controller";
    const COMPONENT: &'static str = "replication-controller";
    type Status = ReplicationControllerStatus;

    fn read(self) -> Replicated {
        let spec = self.spec.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let conditions = status.conditions.map(|conditions| {
            conditions
                .into_iter()
                .map(|condition| ReplicaSetCondition {
                    last_transition_time: condition.last_transition_time,
                    message: condition.message,
                    reason: condition.reason,
                    status: condition.status,
                    type_: condition.type_,
                })
                .collect()
        });
        Replicated {
            meta: self.metadata,
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            selector: LabelSelector::from_labels(&spec.selector.unwrap_or_default()),
            template: spec.template.unwrap_or_default(),
            status: ReplicaSetStatus {
                available_replicas: status.available_replicas,
                conditions,
                fully_labeled_replicas: status.fully_labeled_replicas,
                observed_generation: status.observed_generation,
                ready_replicas: status.ready_replicas,
                replicas: status.replicas,
                terminating_replicas: None,
            },
        }
    }

    fn status(status: &ReplicaSetStatus) -> ReplicationControllerStatus {
        let conditions = status.conditions.as_ref().map(|conditions| {
            let convert = |condition: &ReplicaSetCondition| ReplicationControllerCondition {
                last_transition_time: condition.last_transition_time.clone(),
                message: condition.message.clone(),
                reason: condition.reason.clone(),
                status: condition.status.clone(),
                type_: condition.type_.clone(),
            };
            conditions.iter().map(convert).collect()
        });
        ReplicationControllerStatus {
            available_replicas: status.available_replicas,
            conditions,
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
        }
    }
}
