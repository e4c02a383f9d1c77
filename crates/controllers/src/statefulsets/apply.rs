//! Writes the revision, claims, pods and the status.

use api::object::ObjectKey;
use client::events::reference;
use client::reconcile::Action;
use client::request::{Delete, RequestError};
use client::typed::resource_of;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::StatefulSets;
use super::plan::{Observed, Plan};
use crate::ReconcileError;
use crate::common::history::{HASH, Revision};
use crate::common::{pods, scaling};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

impl StatefulSets {
    pub(super) async fn apply(&self, observed: &Observed, plan: Plan) -> Result<Action, ReconcileError> {
        let about = reference::<StatefulSet>(&observed.set.metadata);
        let requests = &self.session.requests;
        let mut status = plan.status;
        let mut outcome = Ok(());
        if observed.set.metadata.deletion_timestamp.is_none() {
            let labels = json!(observed.spec.selector.match_labels.clone().unwrap_or_default());
            if observed.history.save::<StatefulSet>(requests, &observed.set.metadata, &labels).await? {
                let create = |(ordinal, revision)| self.create(observed, &about, ordinal, revision);
                let (_, created) = scaling::slow_start(plan.create, create).await;
                let deleted = scaling::all(plan.delete, |pod| self.delete(observed, &about, pod)).await;
                outcome = created.and(deleted);
                self.forget_history(observed).await?;
            } else {
                status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
            }
        }
        let old = observed.set.status.as_ref();
        match requests.edit_status(&resource_of::<StatefulSet>(), &observed.entry, old, &status).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        match outcome {
            Err(error) if !error.is_namespace_terminating() => Err(error.into()),
            _ => Ok(plan.look_again.map_or(Action::Done, Action::After)),
        }
    }

    async fn forget_history(&self, observed: &Observed) -> Result<(), ReconcileError> {
        let limit = observed.spec.revision_history_limit.unwrap_or(10);
        let current = observed.set.status.as_ref().and_then(|status| status.current_revision.clone());
        let in_use = |revision: &Revision| {
            let of_pod = observed.pods.iter().any(|pod| {
                let labels = pod.metadata.labels.as_ref();
                labels.and_then(|labels| labels.get(HASH)) == Some(&revision.name)
            });
            of_pod || current.as_ref() == Some(&revision.name)
        };
        observed.history.truncate(&self.session.requests, limit, in_use).await
    }

    async fn create(
        &self,
        observed: &Observed,
        about: &ObjectReference,
        ordinal: i32,
        revision: Revision,
    ) -> Result<(), RequestError> {
        let set = &observed.entry.key;
        let requests = &self.session.requests;
        for claim in make_claims(observed, ordinal) {
            let name = claim["metadata"]["name"].as_str().unwrap_or_default();
            if observed.claims.contains(name) {
                continue;
            }
            match requests.create(&resource_of::<PersistentVolumeClaim>(), &set.namespace, &claim).await {
                Err(error) if !error.is_already_exists() => {
                    let message = format!(
                        "create Claim {name} Pod {}-{ordinal} in StatefulSet {} failed error: {}",
                        set.name,
                        set.name,
                        error.message()
                    );
                    self.session.recorder.warning(about, "FailedCreate", message);
                    return Err(error);
                }
                _ => {
                    let message =
                        format!("create Claim {name} Pod {}-{ordinal} in StatefulSet {} success", set.name, set.name);
                    self.session.recorder.normal(about, "SuccessfulCreate", message);
                }
            }
        }
        let pod = make_pod(observed, ordinal, &revision);
        let said = format!("create Pod {}-{ordinal} in StatefulSet {}", set.name, set.name);
        match requests.create(&resource_of::<Pod>(), &set.namespace, &pod).await {
            // Its predecessor is not gone yet, or it was made a moment ago: its change will come by.
            Err(error) if error.is_already_exists() => Ok(()),
            Err(error) => {
                let message = format!("{said} failed error: {}", error.message());
                self.session.recorder.warning(about, "FailedCreate", message);
                Err(error)
            }
            Ok(_) => {
                self.session.recorder.normal(about, "SuccessfulCreate", format!("{said} successful"));
                Ok(())
            }
        }
    }

    async fn delete(&self, observed: &Observed, about: &ObjectReference, pod: Pod) -> Result<(), RequestError> {
        let (name, uid) = (pods::name(&pod.metadata), pods::uid(&pod.metadata));
        let set = &observed.entry.key;
        let key = ObjectKey::new(&set.namespace, name);
        let said = format!("delete Pod {name} in StatefulSet {}", set.name);
        match self.session.requests.delete(&resource_of::<Pod>(), &key, &Delete::of(uid)).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                let message = format!("{said} failed error: {}", error.message());
                self.session.recorder.warning(about, "FailedDelete", message);
                Err(error)
            }
            Ok(_) => {
                self.session.recorder.normal(about, "SuccessfulDelete", format!("{said} successful"));
                Ok(())
            }
        }
    }
}

fn claim_name(template: &str, set: &str, ordinal: i32) -> String {
    format!("{template}-{set}-{ordinal}")
}

fn make_claims(observed: &Observed, ordinal: i32) -> Vec<Value> {
    let set = &observed.entry.key;
    let retention = observed.spec.persistent_volume_claim_retention_policy.as_ref();
    let goes_with_set = retention.and_then(|policy| policy.when_deleted.as_deref()) == Some("Delete");
    let templates = observed.spec.volume_claim_templates.iter().flatten();
    templates
        .map(|template| {
            let mut labels = template.metadata.labels.clone().unwrap_or_default();
            labels.extend(observed.spec.selector.match_labels.clone().unwrap_or_default());
            let mut claim = json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": claim_name(pods::name(&template.metadata), &set.name, ordinal),
                    "namespace": set.namespace,
                    "labels": labels,
                },
                "spec": template.spec,
            });
            if let Some(annotations) = &template.metadata.annotations {
                claim["metadata"]["annotations"] = json!(annotations);
            }
            if goes_with_set {
                let owner = pods::controller_reference::<StatefulSet>(&observed.set.metadata);
                claim["metadata"]["ownerReferences"] = json!([owner]);
            }
            claim
        })
        .collect()
}

fn make_pod(observed: &Observed, ordinal: i32, revision: &Revision) -> Value {
    let set = &observed.entry.key;
    let template = revision.template().unwrap_or_else(|| observed.spec.template.clone());
    let owner = pods::controller_reference::<StatefulSet>(&observed.set.metadata);
    let mut pod = pods::from_template(&template, &set.namespace, owner);
    let name = format!("{}-{ordinal}", set.name);
    pod["metadata"]["name"] = json!(name);
    pod["metadata"]["labels"][POD_NAME] = json!(name);
    pod["metadata"]["labels"][POD_INDEX] = json!(ordinal.to_string());
    pod["metadata"]["labels"][HASH] = json!(revision.name);
    pod["spec"]["hostname"] = json!(name);
    pod["spec"]["subdomain"] = json!(observed.spec.service_name);
    let mut volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    for claim in observed.spec.volume_claim_templates.iter().flatten() {
        let volume = pods::name(&claim.metadata);
        volumes.retain(|known| known["name"] != volume);
        let claim = claim_name(volume, &set.name, ordinal);
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": claim}}));
    }
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = Value::Array(volumes);
    }
    pod
}
