//! Writes the revision, the pods, and the status.

use api::object::ObjectKey;
use client::events::reference;
use client::reconcile::Action;
use client::request::{Delete, RequestError};
use client::typed::resource_of;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use serde_json::{Value, json};

use super::DaemonSets;
use super::plan::{Observed, Plan, tolerations};
use crate::ReconcileError;
use crate::common::history::HASH;
use crate::common::{pods, scaling};

impl DaemonSets {
    pub(super) async fn apply(&self, observed: &Observed, plan: Plan) -> Result<Action, ReconcileError> {
        let about = reference::<DaemonSet>(&observed.set.metadata);
        let requests = &self.session.requests;
        let key = &observed.entry.key;
        let mut status = plan.status;
        let mut outcome = Ok(());
        if observed.set.metadata.deletion_timestamp.is_none() {
            let labels = json!(
                observed.spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone()).unwrap_or_default()
            );
            if observed.history.save::<DaemonSet>(requests, &observed.set.metadata, &labels).await? {
                let (_, created) = scaling::slow_start(plan.create, |node| self.create(observed, &about, node)).await;
                let deleted = scaling::all(plan.delete, |(pod, event)| self.delete(key, &about, pod, event)).await;
                outcome = created.and(deleted);
                self.forget_history(observed).await?;
            } else {
                status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
            }
        }
        let old = observed.set.status.as_ref();
        match requests.edit_status(&resource_of::<DaemonSet>(), &observed.entry, old, &status).await {
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
        let in_use = |hash: &str| {
            observed.pods.iter().any(|pod| {
                let labels = pod.metadata.labels.as_ref();
                labels.and_then(|labels| labels.get(HASH)).is_some_and(|label| label == hash)
            })
        };
        observed.history.truncate(&self.session.requests, limit, |revision| in_use(&revision.hash)).await
    }

    async fn create(&self, observed: &Observed, about: &ObjectReference, node: String) -> Result<(), RequestError> {
        let key = &observed.entry.key;
        let pod = make_pod(observed, &node);
        match self.session.requests.create(&resource_of::<Pod>(), &key.namespace, &pod).await {
            Ok(created) => {
                self.expectations.wrote(key, &created);
                let name = created["metadata"]["name"].as_str().unwrap_or_default();
                self.session.recorder.normal(about, "SuccessfulCreate", format!("Created pod: {name}"));
                Ok(())
            }
            Err(error) => {
                if !error.is_namespace_terminating() {
                    let message = format!("Error creating: {}", error.message());
                    self.session.recorder.warning(about, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    async fn delete(
        &self,
        set: &ObjectKey,
        about: &ObjectReference,
        pod: Pod,
        event: Option<(&'static str, String)>,
    ) -> Result<(), RequestError> {
        let (name, uid) = (pods::name(&pod.metadata), pods::uid(&pod.metadata));
        if let Some((reason, message)) = event {
            self.session.recorder.warning(about, reason, message);
        }
        let key = ObjectKey::new(&set.namespace, name);
        match self.session.requests.delete(&resource_of::<Pod>(), &key, &Delete::of(uid)).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", error.message());
                self.session.recorder.warning(about, "FailedDelete", message);
                Err(error)
            }
            Ok(_) => {
                self.expectations.deleted(set, uid);
                self.session.recorder.normal(about, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
        }
    }
}

fn make_pod(observed: &Observed, node: &str) -> Value {
    let set = &observed.set;
    let owner = pods::controller_reference::<DaemonSet>(&set.metadata);
    let mut pod = pods::from_template(&observed.spec.template, &observed.entry.key.namespace, owner);
    pod["metadata"]["generateName"] = json!(pods::generate_name(pods::name(&set.metadata)));
    pod["metadata"]["labels"][HASH] = json!(observed.history.newest().hash);
    let spec = observed.spec.template.spec.as_ref();
    let mut all = spec.and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
    for toleration in tolerations(spec.is_some_and(|spec| spec.host_network == Some(true))) {
        if !all.contains(&toleration) {
            all.push(toleration);
        }
    }
    pod["spec"]["tolerations"] = json!(all);
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let affinity = &mut pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    // The template's terms have chosen the node; its name alone says which.
    *affinity = json!({"nodeSelectorTerms": [{"matchFields": [field]}]});
    pod
}
