//! A Deployment, its ReplicaSets, and whether old pods still run.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::Informer;
use client::typed::{decode, resource_of};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use super::Deployments;
use super::sets::Set;
use crate::ReconcileError;
use crate::common::{claims, pods, selector};

pub(super) struct Observed {
    pub(super) entry: Arc<Entry>,
    pub(super) deployment: Deployment,
    /// The Deployment's ReplicaSets, oldest first.
    pub(super) sets: Vec<Set>,
}

impl Deployments {
    /// `None` if there is no such Deployment.
    pub(super) async fn observe(&self, key: &ObjectKey) -> Result<Option<Observed>, ReconcileError> {
        let Some(entry) = self.deployments.get(key) else { return Ok(None) };
        let Some(deployment) = decode::<Deployment>(&entry) else { return Ok(None) };
        let selector = selector(deployment.spec.as_ref().map(|spec| &spec.selector));
        let resource = resource_of::<ReplicaSet>();
        let requests = &self.session.requests;
        let owned = if selector.is_everything() {
            Vec::new()
        } else {
            claims::claim::<Deployment>(requests, &self.sets, &resource, &deployment.metadata, &selector).await?
        };
        let mut sets: Vec<Set> = owned.into_iter().filter_map(|entry| self.set(entry)).collect();
        sets.sort_by(|a, b| {
            let age = |set: &Set| set.object.metadata.creation_timestamp.clone();
            age(a).cmp(&age(b)).then_with(|| a.name().cmp(b.name()))
        });
        Ok(Some(Observed { entry, deployment, sets }))
    }

    fn set(&self, entry: Arc<Entry>) -> Option<Set> {
        let object = decode::<ReplicaSet>(&entry)?;
        let running = self
            .pods
            .find(0, &entry.uid)
            .iter()
            .filter_map(|pod| decode::<Pod>(pod))
            .any(|pod| !pods::is_finished(&pod));
        Some(Set::new(entry, object, running))
    }
}
