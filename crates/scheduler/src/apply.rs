//! Writes what a plan says: bindings, conditions, nominations, and the deletion of victims.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::clock::Clock;
use client::events::{Recorder, reference, time};
use client::informer::Informer;
use client::patch::Patch;
use client::request::{Delete, RequestError, Requests};
use client::typed::resource_of;
use client::view::View;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::plan::Placement;
use crate::plugins::volume_binding::{Binding, Chosen, SELECTED_NODE};
use crate::snapshot::PodInfo;

/// How long a claim may take to be bound (upstream's bindTimeoutSeconds).
const CLAIM_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(600);

/// Why a pod was not bound.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("binding volumes: timed out waiting for the condition")]
    ClaimTimeout,
    #[error("binding volumes: pvc {0} not found")]
    ClaimGone(ObjectKey),
    #[error("binding volumes: provisioning failed for PVC \"{0}\"")]
    ProvisioningFailed(String),
}

/// What writing takes. Cheap to clone: bindings run beside the scheduling of the next pods.
#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) requests: Requests,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) scheduler: String,
    pub(crate) pods: Arc<View>,
    pub(crate) claims: Arc<View>,
    /// Moves whenever a claim did.
    pub(crate) claims_moved: watch::Receiver<()>,
}

impl Writer {
    /// Binds the pod's claims, then the pod.
    pub(crate) async fn bind(&self, pod: &PodInfo, placement: &Placement) -> Result<(), BindError> {
        self.bind_claims(placement).await?;
        let key = &pod.key;
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": key.name, "namespace": key.namespace, "uid": pod.uid},
            "target": {"kind": "Node", "name": placement.node},
        });
        self.requests.create_sub(&resource_of::<Pod>(), key, "binding", &binding).await?;
        let message = format!("Successfully assigned {}/{} to {}", key.namespace, key.name, placement.node);
        self.recorder.normal(&about(pod), "Scheduled", message);
        Ok(())
    }

    async fn bind_claims(&self, placement: &Placement) -> Result<(), BindError> {
        for binding in &placement.volumes {
            match binding {
                Binding::Volume { claim, volume, chosen } => self.reserve(claim, volume, chosen).await?,
                Binding::Provision { claim } => {
                    let chosen = json!({"metadata": {"annotations": {SELECTED_NODE: placement.node}}});
                    let resource = resource_of::<PersistentVolumeClaim>();
                    self.requests.patch(&resource, claim, &Patch::Merge(chosen)).await?;
                }
            }
        }
        for binding in &placement.volumes {
            let (Binding::Volume { claim, .. } | Binding::Provision { claim }) = binding;
            tokio::select! {
                bound = self.bound(claim, matches!(binding, Binding::Provision { .. })) => bound?,
                () = self.clock.after(CLAIM_TIMEOUT) => return Err(BindError::ClaimTimeout),
            }
        }
        Ok(())
    }

    /// Gives the volume to the claim, unless it is another than it was when it was chosen; the volume controller completes
    /// the binding.
    async fn reserve(&self, claim: &ObjectKey, volume: &str, chosen: &Chosen) -> Result<(), BindError> {
        let held = self.claims.get(claim).ok_or_else(|| BindError::ClaimGone(claim.clone()))?;
        let reference = json!({
            "apiVersion": "v1", "kind": PersistentVolumeClaim::KIND,
            "namespace": claim.namespace, "name": claim.name, "uid": held.uid,
        });
        let mut change = json!({"spec": {"claimRef": reference}});
        if !chosen.named {
            change["metadata"] = json!({"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}});
        }
        let resource = resource_of::<PersistentVolume>();
        let patch = Patch::Merge(change).guarded(&chosen.uid, &chosen.version);
        self.requests.patch(&resource, &ObjectKey::new("", volume), &patch).await?;
        Ok(())
    }

    /// Waits until the claim is bound. A provisioner that gives up takes the annotation away.
    async fn bound(&self, claim: &ObjectKey, provisioned: bool) -> Result<(), BindError> {
        let mut moved = self.claims_moved.clone();
        let mut chosen = false;
        loop {
            moved.borrow_and_update();
            let held = self.claims.get(claim).ok_or_else(|| BindError::ClaimGone(claim.clone()))?;
            let held = held.to_value();
            if held["status"]["phase"] == "Bound" {
                return Ok(());
            }
            let selected = held["metadata"]["annotations"][SELECTED_NODE].is_string();
            if provisioned && chosen && !selected {
                return Err(BindError::ProvisioningFailed(claim.name.clone()));
            }
            chosen |= selected;
            if moved.changed().await.is_err() {
                return Err(BindError::ClaimTimeout);
            }
        }
    }

    /// Tells that the pod has no node yet, in an event and, if it says something new, in the pod's condition.
    pub(crate) async fn refused(&self, pod: &PodInfo, message: &str) {
        self.recorder.warning(&about(pod), "FailedScheduling", message);
        self.unscheduled(pod, "Unschedulable", message, None).await;
    }

    /// The pod could not be bound though there was a node.
    pub(crate) async fn failed(&self, pod: &PodInfo, error: &BindError) {
        self.recorder.warning(&about(pod), "FailedScheduling", error.to_string());
        self.unscheduled(pod, "SchedulerError", &error.to_string(), None).await;
    }

    /// Deletes the pods that are in the way, and says for whom and where.
    pub(crate) async fn preempt(&self, pod: &PodInfo, node: &str, victims: &[Arc<PodInfo>], message: &str) {
        self.recorder.warning(&about(pod), "FailedScheduling", message);
        self.unscheduled(pod, "Unschedulable", message, Some(node)).await;
        for victim in victims.iter().filter(|victim| !victim.deleting) {
            if let Err(error) = self.evict(pod, victim).await {
                tracing::warn!(victim = %victim.key, preemptor = %pod.key, %error, "cannot preempt pod");
            }
        }
    }

    async fn evict(&self, pod: &PodInfo, victim: &PodInfo) -> Result<(), RequestError> {
        let message = format!("{}: preempting to accommodate a higher priority pod", self.scheduler);
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
        });
        let resource = resource_of::<Pod>();
        if let Some(seen) = self.pods.get(&victim.key) {
            self.set_condition(&seen, condition, None).await?;
        }
        match self.requests.delete(&resource, &victim.key, &Delete::of(&victim.uid)).await {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let by = pod.uid.as_str();
        let node = victim.node.as_deref().unwrap_or_default();
        self.recorder.normal(&about(victim), "Preempted", format!("Preempted by pod {by} on node {node}"));
        Ok(())
    }

    async fn unscheduled(&self, pod: &PodInfo, reason: &str, message: &str, nominated: Option<&str>) {
        let Some(seen) = self.pods.get(&pod.key).filter(|seen| seen.uid == pod.uid) else { return };
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": message});
        match self.set_condition(&seen, condition, nominated).await {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(pod = %pod.key, %error, "cannot write the pod's condition");
            }
            _ => {}
        }
    }

    /// Writes the condition and nomination unless the pod says so already.
    async fn set_condition(
        &self,
        seen: &Entry,
        mut condition: Value,
        nominated: Option<&str>,
    ) -> Result<(), RequestError> {
        let pod = seen.to_value();
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let old = conditions.iter().find(|old| old["type"] == condition["type"]);
        let same = |field: &str| old.is_some_and(|old| old[field] == condition[field]);
        let known = ["status", "reason", "message"].into_iter().all(same);
        if known && nominated.is_none_or(|node| pod["status"]["nominatedNodeName"] == node) {
            return Ok(());
        }
        let since = match old {
            Some(old) if same("status") => old["lastTransitionTime"].clone(),
            _ => json!(time(self.clock.now())),
        };
        condition["lastTransitionTime"] = since;
        condition["observedGeneration"] = pod["metadata"]["generation"].clone();
        let mut status = json!({"conditions": [condition]});
        if let Some(node) = nominated {
            status["nominatedNodeName"] = json!(node);
        }
        let patch = Patch::Strategic(json!({"metadata": {"uid": seen.uid}, "status": status}));
        self.requests.patch_sub(&resource_of::<Pod>(), &seen.key, "status", &patch).await?;
        Ok(())
    }
}

fn about(pod: &PodInfo) -> ObjectReference {
    reference::<Pod>(&ObjectMeta {
        name: Some(pod.key.name.clone()),
        namespace: Some(pod.key.namespace.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectMeta::default()
    })
}
