//! The status first: what it names as ended is not lost if the rest is.

use api::object::{Entry, ObjectKey};
use client::events::{EventType, reference};
use client::informer::Informer;
use client::patch::Patch;
use client::reconcile::Action;
use client::request::{Delete, RequestError};
use client::typed::resource_of;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use serde_json::{Value, json};

use super::observe::Observed;
use super::plan::{FAILURES, Plan};
use super::{FINALIZER, INDEX, Jobs, indexes};
use crate::ReconcileError;
use crate::common::{pods, scaling};

impl Jobs {
    pub(super) async fn apply(&self, observed: &Observed, plan: Plan) -> Result<Action, ReconcileError> {
        let about = reference::<Job>(&observed.job.metadata);
        let key = &observed.entry.key;
        let old = observed.job.status.as_ref();
        let requests = &self.session.requests;
        match requests.edit_status(&resource_of::<Job>(), &observed.entry, old, &plan.status).await {
            Err(error) if error.is_not_found() => return Ok(Action::Done),
            outcome => drop(outcome?),
        }
        for (reason, message, warning) in plan.events {
            let kind = if warning { EventType::Warning } else { EventType::Normal };
            self.session.recorder.event(&about, kind, reason, message);
        }
        for pod in observed.pods.iter().filter(|pod| plan.free.contains(pods::uid(&pod.metadata))) {
            if let Some(entry) = self.pods.get(&ObjectKey::new(&key.namespace, pods::name(&pod.metadata))) {
                self.free(key, &entry).await?;
            }
        }
        scaling::all(plan.delete, |pod| self.delete(key, &about, pod)).await?;
        let (_, created) = scaling::slow_start(plan.create, |index| self.create(observed, &about, index)).await;
        match created {
            Err(error) if !error.is_namespace_terminating() => Err(error.into()),
            _ => Ok(plan.look_again.map_or(Action::Done, Action::After)),
        }
    }

    /// Takes the finalizer off a pod.
    pub(super) async fn free(&self, job: &ObjectKey, entry: &Entry) -> Result<(), ReconcileError> {
        let finalizers = entry.to_value()["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let kept: Vec<Value> = finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
        if kept.len() == finalizers.len() {
            return Ok(());
        }
        let kept = if kept.is_empty() { Value::Null } else { Value::Array(kept) };
        let patch =
            Patch::Merge(json!({"metadata": {"finalizers": kept}})).guarded(&entry.uid, &entry.revision.to_string());
        match self.session.requests.patch(&resource_of::<Pod>(), &entry.key, &patch).await {
            Ok(freed) => self.expectations.wrote(job, &freed),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn delete(&self, job: &ObjectKey, about: &ObjectReference, pod: Pod) -> Result<(), RequestError> {
        let (name, uid) = (pods::name(&pod.metadata), pods::uid(&pod.metadata));
        let key = ObjectKey::new(&job.namespace, name);
        match self.session.requests.delete(&resource_of::<Pod>(), &key, &Delete::of(uid)).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                let message = format!("Error deleting: {}", error.message());
                self.session.recorder.warning(about, "FailedDelete", message);
                Err(error)
            }
            Ok(_) => {
                self.expectations.deleted(job, uid);
                self.session.recorder.normal(about, "SuccessfulDelete", format!("Deleted pod: {name}"));
                Ok(())
            }
        }
    }

    async fn create(
        &self,
        observed: &Observed,
        about: &ObjectReference,
        index: Option<i32>,
    ) -> Result<(), RequestError> {
        let key = &observed.entry.key;
        let pod = make_pod(observed, index);
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
}

fn make_pod(observed: &Observed, index: Option<i32>) -> Value {
    let job = &observed.job;
    let name = pods::name(&job.metadata);
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let owner = pods::controller_reference::<Job>(&job.metadata);
    let mut pod = pods::from_template(&template, &observed.entry.key.namespace, owner);
    let mut finalizers = pod["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    finalizers.push(json!(FINALIZER));
    pod["metadata"]["finalizers"] = Value::Array(finalizers);
    pod["metadata"]["generateName"] = json!(pods::generate_name(name));
    let Some(index) = index else { return pod };
    pod["metadata"]["generateName"] = json!(format!("{name}-{index}-"));
    pod["metadata"]["annotations"][INDEX] = json!(index.to_string());
    pod["metadata"]["labels"][INDEX] = json!(index.to_string());
    if job.spec.as_ref().is_some_and(|spec| spec.backoff_limit_per_index.is_some()) {
        let failed = observed.pods.iter().filter(|pod| indexes::of(pod) == Some(index) && pods::phase(pod) == "Failed");
        pod["metadata"]["annotations"][FAILURES] = json!(failed.count().to_string());
    }
    if pod["spec"]["hostname"].is_null() {
        pod["spec"]["hostname"] = json!(format!("{name}-{index}"));
    }
    let source = json!({"name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": format!("metadata.labels['{INDEX}']")}}});
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            let mut env = container["env"].as_array().cloned().unwrap_or_default();
            if !env.iter().any(|variable| variable["name"] == "JOB_COMPLETION_INDEX") {
                env.push(source.clone());
                container["env"] = Value::Array(env);
            }
        }
    }
    if pod["spec"]["initContainers"].is_null()
        && let Some(spec) = pod["spec"].as_object_mut()
    {
        spec.remove("initContainers");
    }
    pod
}
