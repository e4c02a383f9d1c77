//! A Job and its pods.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::Informer;
use client::typed::{decode, resource_of};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::{FINALIZER, Jobs};
use crate::ReconcileError;
use crate::common::{claims, pods, selector};

/// Who reconciles a Job that names nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

pub(super) struct Observed {
    pub(super) entry: Arc<Entry>,
    pub(super) job: Job,
    pub(super) pods: Vec<Pod>,
    /// False while the view does not show what was done before.
    pub(super) current: bool,
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

impl Jobs {
    /// `None` if there is no such Job, or it is somebody else's.
    pub(super) async fn observe(&self, key: &ObjectKey) -> Result<Option<Observed>, ReconcileError> {
        let Some(entry) = self.jobs.get(key) else { return Ok(None) };
        let Some(job) = decode::<Job>(&entry) else { return Ok(None) };
        let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if manager.is_some_and(|manager| manager != MANAGER) {
            return Ok(None);
        }
        let revision = self.pods.revision();
        let selector = selector(job.spec.as_ref().and_then(|spec| spec.selector.as_ref()));
        let requests = &self.session.requests;
        let owned = claims::claim::<Job>(requests, &self.pods, &resource_of::<Pod>(), &job.metadata, &selector).await?;
        let pods: Vec<Pod> = owned.iter().filter_map(|entry| decode(entry)).collect();
        let current = self.expectations.met(key, revision, |uid| {
            pods.iter().any(|pod| pods::uid(&pod.metadata) == uid && pod.metadata.deletion_timestamp.is_none())
        });
        Ok(Some(Observed { entry, job, pods, current }))
    }

    /// Pods of a Job that is gone: nobody counts them any more.
    pub(super) async fn free_orphans(&self, key: &ObjectKey) -> Result<(), ReconcileError> {
        if self.jobs.get(key).is_some() {
            return Ok(());
        }
        for entry in self.pods.list(Some(&key.namespace)) {
            let relations = client::view::Relations::of(&entry);
            let ours = relations.controller().is_some_and(|owner| owner.kind == "Job" && owner.name == key.name);
            if ours && relations.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                self.free(key, &entry).await?;
            }
        }
        Ok(())
    }
}
