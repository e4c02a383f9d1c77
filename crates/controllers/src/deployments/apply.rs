//! Writes what a plan says: ReplicaSets first, the status last.

use client::events::reference;
use client::reconcile::Action;
use client::request::{Delete, RequestError};
use client::typed::resource_of;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use super::Deployments;
use super::observe::Observed;
use super::plan::Plan;
use super::sets::{self, Set};
use crate::ReconcileError;

impl Deployments {
    pub(super) async fn apply(&self, observed: &Observed, plan: Plan) -> Result<Action, ReconcileError> {
        let about = reference::<Deployment>(&observed.deployment.metadata);
        if let Some((reason, message)) = plan.warning {
            self.session.recorder.warning(&about, reason, message);
        }
        let mut status = plan.status;
        let mut outcome = Ok(());
        if let Some(set) = &plan.create {
            outcome = match self.create(observed, &about, set).await {
                Ok(Created::Collision) => {
                    status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
                    Ok(())
                }
                Ok(Created::Done) => Ok(()),
                Err(error) => Err(error),
            };
        }
        if let Err(error) = &outcome {
            note_failed_create(&mut status, error, self.session.clock.now());
        }
        for set in &plan.sets {
            self.change(&about, set).await?;
        }
        for set in &plan.delete {
            let options = Delete::of(&set.entry.uid).at(&set.entry.revision.to_string());
            match self.session.requests.delete(&resource_of::<ReplicaSet>(), &set.entry.key, &options).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        self.write(observed, plan.annotate.as_ref(), &status).await?;
        outcome?;
        Ok(plan.look_again.map_or(Action::Done, Action::After))
    }

    async fn create(&self, observed: &Observed, about: &ObjectReference, set: &Value) -> Result<Created, RequestError> {
        let requests = &self.session.requests;
        let resource = resource_of::<ReplicaSet>();
        let key = &observed.entry.key;
        match requests.create(&resource, &key.namespace, set).await {
            Ok(created) => {
                let replicas = created["spec"]["replicas"].as_i64().unwrap_or_default();
                if replicas > 0 {
                    let name = created["metadata"]["name"].as_str().unwrap_or_default();
                    let message = format!("Scaled up replica set {name} from 0 to {replicas}");
                    self.session.recorder.normal(about, "ScalingReplicaSet", message);
                }
                Ok(Created::Done)
            }
            Err(error) if error.is_already_exists() => {
                let name = set["metadata"]["name"].as_str().unwrap_or_default();
                let live = requests.get(&resource, &api::object::ObjectKey::new(&key.namespace, name)).await?;
                // The view had not shown it yet; or another template has the same hash.
                Ok(if sets::is_same(&observed.deployment, &live) { Created::Done } else { Created::Collision })
            }
            Err(error) if error.is_namespace_terminating() => Ok(Created::Done),
            Err(error) => {
                let name = set["metadata"]["name"].as_str().unwrap_or_default();
                let message = format!("Failed to create new replica set \"{name}\": {}", error.message());
                self.session.recorder.warning(about, "ReplicaSetCreateError", message);
                Err(error)
            }
        }
    }

    async fn change(&self, about: &ObjectReference, set: &Set) -> Result<(), ReconcileError> {
        if set.change == json!({}) {
            return Ok(());
        }
        self.session.requests.edit(&resource_of::<ReplicaSet>(), &set.entry, None, &set.change).await?;
        let before = set.spec_replicas();
        if set.replicas != before {
            let direction = if set.replicas > before { "up" } else { "down" };
            let message = format!("Scaled {direction} replica set {} from {before} to {}", set.name(), set.replicas);
            self.session.recorder.normal(about, "ScalingReplicaSet", message);
        }
        Ok(())
    }

    async fn write(
        &self,
        observed: &Observed,
        annotate: Option<&Value>,
        status: &k8s_openapi::api::apps::v1::DeploymentStatus,
    ) -> Result<(), ReconcileError> {
        let requests = &self.session.requests;
        let resource = resource_of::<Deployment>();
        let mut entry = observed.entry.clone();
        if let Some(change) = annotate
            // By the status, or each would be a new generation for others to observe.
            && let Some(written) = requests.edit(&resource, &entry, Some("status"), change).await?
        {
            // The status is written on top of the annotations, at their resource version.
            let revision = written["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
            if let Some(revision) = revision
                && let Ok(written) = api::object::Entry::from_value(written, revision, &[])
            {
                entry = std::sync::Arc::new(written);
            }
        }
        let old = observed.deployment.status.as_ref();
        match requests.edit_status(&resource, &entry, old, status).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

enum Created {
    Done,
    /// Another ReplicaSet has the name.
    Collision,
}

/// A ReplicaSet that cannot even be created is no progress.
fn note_failed_create(
    status: &mut k8s_openapi::api::apps::v1::DeploymentStatus,
    error: &RequestError,
    now: jiff::Timestamp,
) {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    let condition = k8s_openapi::api::apps::v1::DeploymentCondition {
        type_: "Progressing".to_owned(),
        status: "False".to_owned(),
        reason: Some("ReplicaSetCreateError".to_owned()),
        message: Some(error.message()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    crate::common::conditions::set(status.conditions.get_or_insert_default(), condition);
}
