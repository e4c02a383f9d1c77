//! Writes what a plan says, one step after the other: each on what the one before left.

use api::object::ObjectKey;
use client::events::{EventType, reference};
use client::request::{Delete, RequestError};
use client::typed::{decode, resource_of};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::latest::Latest;
use super::plan::{Plan, Step};
use super::{Binder, Subject};
use crate::ReconcileError;

/// An event: of what kind, why, and in which words.
pub(super) type Told = (bool, &'static str, String);

impl Binder {
    pub(super) async fn apply(&self, subject: &Subject, plan: Plan) -> Result<(), ReconcileError> {
        let mut told = Vec::new();
        for step in plan.steps {
            match step {
                Step::EditVolume { name, change } => {
                    self.edit::<PersistentVolume>(&self.volumes, &ObjectKey::new("", name), None, &change).await?;
                }
                Step::VolumePhase { name, phase, message } => {
                    let message = if message.is_empty() { Value::Null } else { json!(message) };
                    let change = json!({"status": {"phase": phase, "message": message}});
                    let key = ObjectKey::new("", name);
                    self.edit::<PersistentVolume>(&self.volumes, &key, Some("status"), &change).await?;
                }
                Step::EditClaim { key, change } => {
                    self.edit::<PersistentVolumeClaim>(&self.claims, &key, None, &change).await?;
                }
                Step::ClaimStatus { key, status } => self.set_claim_status(&key, &status).await?,
                Step::Tell { normal, reason, message } => told.push((normal, reason, message)),
                Step::TellClaim { claim, reason, message } => {
                    let about = reference::<PersistentVolumeClaim>(&claim);
                    self.session.recorder.warning(&about, reason, message);
                }
                Step::CreatePod(pod) => self.create_pod(&pod).await?,
                Step::DeletePod { key, uid } => self.delete_pod(&key, &uid).await?,
            }
        }
        self.tell(subject, told);
        match plan.failure {
            Some(failure) => Err(ReconcileError::Several(vec![failure])),
            None => Ok(()),
        }
    }

    async fn edit<K: Resource>(
        &self,
        latest: &Latest,
        key: &ObjectKey,
        subresource: Option<&str>,
        change: &Value,
    ) -> Result<(), ReconcileError> {
        let Some(seen) = latest.get(key) else {
            return Err(ReconcileError::Stale { kind: K::KIND, key: key.clone() });
        };
        if let Some(written) = self.session.requests.edit(&resource_of::<K>(), &seen, subresource, change).await? {
            latest.wrote(written);
        }
        Ok(())
    }

    async fn set_claim_status(
        &self,
        key: &ObjectKey,
        status: &PersistentVolumeClaimStatus,
    ) -> Result<(), ReconcileError> {
        let kind = PersistentVolumeClaim::KIND;
        let seen = self.claims.get(key).ok_or_else(|| ReconcileError::Stale { kind, key: key.clone() })?;
        let old = decode::<PersistentVolumeClaim>(&seen).and_then(|claim| claim.status);
        let resource = resource_of::<PersistentVolumeClaim>();
        if let Some(written) = self.session.requests.edit_status(&resource, &seen, old.as_ref(), status).await? {
            self.claims.wrote(written);
        }
        Ok(())
    }

    async fn create_pod(&self, pod: &Value) -> Result<(), RequestError> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        match self.session.requests.create(&resource_of::<Pod>(), namespace, pod).await {
            Ok(made) => {
                self.emptiers.lock().extend(made["metadata"]["uid"].as_str().map(str::to_owned));
                Ok(())
            }
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn delete_pod(&self, key: &ObjectKey, uid: &str) -> Result<(), RequestError> {
        self.emptiers.lock().remove(uid);
        match self.session.requests.delete(&resource_of::<Pod>(), key, &Delete::of(uid)).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
            _ => Ok(()),
        }
    }

    /// Tells events, unless the same was told of the object as it is.
    fn tell(&self, subject: &Subject, told: Vec<Told>) {
        let (about, revision) = match subject {
            Subject::Claim(key) => about::<PersistentVolumeClaim>(&self.claims, key),
            Subject::Volume(name) => about::<PersistentVolume>(&self.volumes, &ObjectKey::new("", name.as_str())),
        };
        let mut known = self.told.lock();
        if told.is_empty() {
            known.remove(subject);
            return;
        }
        if known.get(subject).is_some_and(|(then, before)| *then == revision && *before == told) {
            return;
        }
        for (normal, reason, message) in &told {
            let kind = if *normal { EventType::Normal } else { EventType::Warning };
            self.session.recorder.event(&about, kind, reason, message.clone());
        }
        known.insert(subject.clone(), (revision, told));
    }
}

fn about<K>(latest: &Latest, key: &ObjectKey) -> (k8s_openapi::api::core::v1::ObjectReference, u64)
where
    K: Resource
        + DeserializeOwned
        + k8s_openapi::Metadata<Ty = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>,
{
    let seen = latest.get(key);
    let revision = seen.as_ref().map_or(0, |seen| seen.revision);
    let metadata = seen.and_then(|seen| decode::<K>(&seen)).map(|object| object.metadata().clone());
    (reference::<K>(&metadata.unwrap_or_default()), revision)
}
