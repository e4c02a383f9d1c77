//! Creates and deletes the pods of a plan, and writes the status.

use api::object::ObjectKey;
use client::events::reference;
use client::reconcile::Action;
use client::request::{Delete, RequestError};
use client::typed::resource_of;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use serde_json::json;

use super::Replicas;
use super::observe::{Kind, Observed};
use super::plan::{Failure, Plan, status};
use crate::ReconcileError;
use crate::common::{pods, scaling};

impl<K: Kind> Replicas<K> {
    pub(super) async fn apply(&self, observed: &Observed, plan: Plan) -> Result<Action, ReconcileError> {
        let about = reference::<K>(&observed.owner.meta);
        let key = &observed.entry.key;
        let created = self.create(observed, &about, plan.create).await;
        let deleted = scaling::all(plan.delete, |pod| self.delete(key, &about, pod)).await;
        let (failure, outcome) = match (created, deleted) {
            (Err(error), _) => (Some(("FailedCreate", error.message())), Err(error)),
            (_, Err(error)) => (Some(("FailedDelete", error.message())), Err(error)),
            _ => (None, Ok(())),
        };
        let failure = failure.map(|(reason, message)| Failure { reason, message });
        let next = K::status(&status(observed, failure.as_ref(), self.session.clock.now()));
        let old = K::status(&observed.owner.status);
        let written = self.session.requests.edit_status(&resource_of::<K>(), &observed.entry, Some(&old), &next).await;
        outcome?;
        match written {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(plan.look_again.map_or(Action::Done, Action::After)),
        }
    }

    async fn create(&self, observed: &Observed, about: &ObjectReference, count: usize) -> Result<(), RequestError> {
        if count == 0 {
            return Ok(());
        }
        let (owner, key) = (&observed.owner, &observed.entry.key);
        let reference = pods::controller_reference::<K>(&owner.meta);
        let mut pod = pods::from_template(&owner.template, &key.namespace, reference);
        pod["metadata"]["generateName"] = json!(pods::generate_name(&key.name));
        let (resource, recorder) = (resource_of::<Pod>(), &self.session.recorder);
        let (_, outcome) = scaling::slow_start(vec![(); count], |()| async {
            match self.session.requests.create(&resource, &key.namespace, &pod).await {
                Ok(created) => {
                    self.expectations.wrote(key, &created);
                    let name = created["metadata"]["name"].as_str().unwrap_or_default();
                    recorder.normal(about, "SuccessfulCreate", format!("Created pod: {name}"));
                    Ok(())
                }
                Err(error) => {
                    if !error.is_namespace_terminating() {
                        recorder.warning(about, "FailedCreate", format!("Error creating: {}", error.message()));
                    }
                    Err(error)
                }
            }
        })
        .await;
        match outcome {
            // Nothing will ever be created there again.
            Err(error) if error.is_namespace_terminating() => Ok(()),
            outcome => outcome,
        }
    }

    async fn delete(&self, owner: &ObjectKey, about: &ObjectReference, pod: Pod) -> Result<(), RequestError> {
        let (name, uid) = (pods::name(&pod.metadata), pods::uid(&pod.metadata));
        let key = ObjectKey::new(&owner.namespace, name);
        match self.session.requests.delete(&resource_of::<Pod>(), &key, &Delete::of(uid)).await {
            // Gone, or another of its name: not ours any more.
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                self.session.recorder.warning(about, "FailedDelete", format!("Error deleting: {}", error.message()));
                Err(error)
            }
            Ok(_) => {
                self.expectations.deleted(owner, uid);
                self.session.recorder.normal(about, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
        }
    }
}
