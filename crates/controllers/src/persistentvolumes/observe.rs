//! Reads what a claim's or a volume's fate hangs on.

use api::object::ObjectKey;
use client::informer::Informer as _;
use client::typed::{decode, resource_of};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};

use super::plan::matching::class_of_claim;
use super::plan::{SeenClaim, SeenVolume, emptier_of};
use super::{Binder, filed, free, of_claim};
use crate::ReconcileError;
use crate::common::pods;

impl Binder {
    /// `None` if there is no such claim.
    pub(super) fn observe_claim(&self, key: &ObjectKey) -> Option<SeenClaim> {
        let claim: PersistentVolumeClaim = decode(&*self.claims.get(key)?)?;
        let mut found = self.volumes.find(&of_claim(key));
        found.extend(self.volumes.find(&free(class_of_claim(&claim))));
        let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        if !named.is_empty() && !found.iter().any(|entry| entry.key.name == named) {
            found.extend(self.volumes.get(&ObjectKey::new("", named)));
        }
        let volumes = found.iter().filter_map(|entry| decode(entry)).collect();
        let classes = self.classes.list(None).iter().filter_map(|entry| decode(entry)).collect();
        let waiting = self.users(key).into_iter().filter(|pod| node_of(pod).is_empty());
        let waiting = waiting.map(|pod| pods::name(&pod.metadata).to_owned()).collect();
        Some(SeenClaim { claim, volumes, classes, waiting })
    }

    /// `None` if there is no such volume. That a claim is gone is asked of the server: what hangs on it is the data.
    pub(super) async fn observe_volume(&self, name: &str) -> Result<Option<SeenVolume>, ReconcileError> {
        let key = ObjectKey::new("", name);
        let Some(volume) = self.volumes.get(&key).and_then(|entry| decode::<PersistentVolume>(&entry)) else {
            return Ok(None);
        };
        let mut seen = SeenVolume {
            volume,
            claim: None,
            claim_known: false,
            users: Vec::new(),
            emptier: None,
            emptier_is_ours: false,
        };
        let Some(reference) = seen.volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()) else {
            return Ok(Some(seen));
        };
        let uid = reference.uid.unwrap_or_default();
        let key = ObjectKey::new(reference.namespace.unwrap_or_default(), reference.name.unwrap_or_default());
        let same = |claim: &PersistentVolumeClaim| pods::uid(&claim.metadata) == uid;
        let held = self.claims.get(&key).and_then(|entry| decode::<PersistentVolumeClaim>(&entry));
        seen.claim_known = held.is_some();
        let phase = seen.volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let settled = held.is_none() && matches!(phase, "Released" | "Failed");
        seen.claim = match held.filter(same) {
            Some(claim) => Some(claim),
            None if uid.is_empty() || settled => None,
            None => self.ask(&key).await?.filter(same),
        };
        if seen.claim.is_none() && !uid.is_empty() {
            let users = self.users(&key);
            seen.users = users.iter().map(|pod| format!("{}/{}", key.namespace, pods::name(&pod.metadata))).collect();
            let emptier = self.pods.get(&emptier_of(name));
            seen.emptier_is_ours = emptier.as_ref().is_some_and(|pod| self.emptiers.lock().contains(&pod.uid));
            seen.emptier = emptier.and_then(|entry| decode(&entry));
        }
        Ok(Some(seen))
    }

    async fn ask(&self, key: &ObjectKey) -> Result<Option<PersistentVolumeClaim>, ReconcileError> {
        match self.session.requests.get(&resource_of::<PersistentVolumeClaim>(), key).await {
            Ok(claim) => Ok(Some(serde_json::from_value(claim)?)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The pods that use a claim and have not ended.
    fn users(&self, claim: &ObjectKey) -> Vec<Pod> {
        let users = self.pods.find(0, &filed(claim));
        users.iter().filter_map(|entry| decode::<Pod>(entry)).filter(|pod| !has_ended(pod)).collect()
    }
}

/// Whether a pod holds its volumes no more: it is finished, or it is being deleted and nothing of it runs.
fn has_ended(pod: &Pod) -> bool {
    if pods::is_finished(pod) {
        return true;
    }
    let status = pod.status.clone().unwrap_or_default();
    let lists = [status.init_container_statuses, status.container_statuses, status.ephemeral_container_statuses];
    let mut states = lists.iter().flatten().flatten().map(|container| container.state.clone().unwrap_or_default());
    pod.metadata.deletion_timestamp.is_some()
        && states.all(|state| state.terminated.is_some() || state.waiting.is_some())
}

fn node_of(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}
