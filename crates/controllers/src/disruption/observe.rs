//! Reads a budget, the pods that it selects, and how many of them their controllers ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::split_api_version;
use client::informer::Informer;
use client::request::{collection_path, object_path};
use client::typed::decode;
use client::view::{Owner, Relations, View};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::{Budgets, Scales, selector_of};
use crate::ReconcileError;
use crate::common::discovery::Catalogue;

/// A budget with all that decides about its status.
pub(super) struct Observed {
    pub(super) entry: Arc<Entry>,
    pub(super) budget: PodDisruptionBudget,
    pub(super) pods: Vec<Pod>,
    /// What the pods' controllers ask for together; nobody asked if the budget does not say a share of it.
    pub(super) scale: Result<Scale, String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) replicas: i32,
    /// Some pod has no controller, so that nobody knows how many there should be.
    pub(super) unmanaged: bool,
}

impl Budgets {
    pub(super) async fn observe(&self, key: &ObjectKey) -> Result<Option<Observed>, ReconcileError> {
        let Some(entry) = self.budgets.get(key) else { return Ok(None) };
        let Some(budget) = decode::<PodDisruptionBudget>(&entry) else { return Ok(None) };
        let Some(selector) = selector_of(&entry) else { return Ok(None) };
        let mut found = self.pods.list(Some(&key.namespace));
        found.retain(|pod| selector.matches(&pod.labels));
        let scale = if asks_for_scale(&budget) { self.scale(&found).await? } else { Ok(Scale::default()) };
        let pods = found.iter().filter_map(|entry| decode(entry)).collect();
        Ok(Some(Observed { entry, budget, pods, scale }))
    }

    /// The sum over the pods' controllers, each counted once.
    async fn scale(&self, pods: &[Arc<Entry>]) -> Result<Result<Scale, String>, ReconcileError> {
        let mut scale = Scale::default();
        let mut counted: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let relations = Relations::of(pod);
            let Some(owner) = relations.controller() else {
                scale.unmanaged = true;
                continue;
            };
            if counted.contains_key(&owner.uid) {
                continue;
            }
            match self.replicas(owner, &pod.key.namespace).await? {
                Ok(Some((uid, replicas))) => counted.insert(uid, replicas),
                Ok(None) => return Ok(Err(format!("found no controllers for pod {:?}", pod.key.name))),
                Err(why) => return Ok(Err(why)),
            };
        }
        scale.replicas = counted.values().fold(0_i32, |sum, replicas| sum.saturating_add(*replicas));
        Ok(Ok(scale))
    }

    /// Who asks for how many: the owner, or the Deployment behind it. `None` if it is gone; an error in words if it
    /// cannot be asked.
    async fn replicas(
        &self,
        owner: &Owner,
        namespace: &str,
    ) -> Result<Result<Option<(String, i32)>, String>, ReconcileError> {
        if let Some(found) = self.scales.known(owner, namespace) {
            return Ok(Ok(found));
        }
        let requests = &self.session.requests;
        let catalogue = Catalogue::read(requests).await?;
        let Some(kind) = catalogue.of_kind(&owner.api_version, &owner.kind) else {
            return Ok(Err(format!("no matches for kind {:?} in version {:?}", owner.kind, owner.api_version)));
        };
        let key = ObjectKey::new(namespace, &owner.name);
        match requests.get_path(&object_path(&kind.resource, &key, Some("scale"))).await {
            Ok(scale) if scale["metadata"]["uid"] != owner.uid.as_str() => Ok(Ok(None)),
            Ok(scale) => {
                let replicas = scale["spec"]["replicas"].as_i64().and_then(|it| i32::try_from(it).ok());
                Ok(Ok(Some((owner.uid.clone(), replicas.unwrap_or_default()))))
            }
            Err(error) if !error.is_not_found() => Err(error.into()),
            // Either it is gone or its kind has no scale.
            Err(_) => match requests.get_path(&collection_path(&kind.resource, Some(namespace))).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(Err(format!("{} does not implement the scale subresource", kind.resource.resource))),
            },
        }
    }
}

impl Scales {
    /// None if the owner is of another kind; `Some(None)` if it is not there.
    fn known(&self, owner: &Owner, namespace: &str) -> Option<Option<(String, i32)>> {
        let (group, _) = split_api_version(&owner.api_version);
        let view = match (group, owner.kind.as_str()) {
            ("", "ReplicationController") => &self.replication_controllers,
            ("apps" | "extensions", "ReplicaSet") => &self.replicasets,
            ("apps", "StatefulSet") => &self.statefulsets,
            _ => return None,
        };
        let Some(found) = of_uid(view, namespace, owner) else { return Some(None) };
        let relations = Relations::of(&found);
        let behind = relations.controller().filter(|owner| owner.kind == "Deployment");
        Some(match behind {
            Some(deployment) => of_uid(&self.deployments, namespace, deployment).map(|it| replicas(&it)),
            None => Some(replicas(&found)),
        })
    }
}

/// The owner, unless another has its name by now.
fn of_uid(view: &View, namespace: &str, owner: &Owner) -> Option<Arc<Entry>> {
    view.get(&ObjectKey::new(namespace, &owner.name)).filter(|found| found.uid == owner.uid)
}

fn replicas(entry: &Entry) -> (String, i32) {
    let replicas = entry.to_value()["spec"]["replicas"].as_i64().and_then(|it| i32::try_from(it).ok());
    (entry.uid.clone(), replicas.unwrap_or(1))
}

/// True if the budget says a share of what there should be, not a number of pods.
fn asks_for_scale(budget: &PodDisruptionBudget) -> bool {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let Some(spec) = &budget.spec else { return false };
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}
