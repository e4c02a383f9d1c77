//! CronJobs start their Jobs on time here.
//!
//! A Job is named by the minute that it is due, so that whoever starts it twice is refused. Of several missed times
//! only the last is made up for.

mod plan;
mod schedule;

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::events::{EventType, reference};
use client::informer::Informer;
use client::reconcile::{Action, Controller, changed, own_key};
use client::request::{Delete, RequestError};
use client::typed::{decode, resource_of, scope_of};
use client::view::{Relations, View};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::common::pods;
use crate::{Context, ReconcileError, Session};
use plan::{Observed, Plan};

const NAME: &str = "cronjob-controller";

struct CronJobs {
    session: Session,
    crons: Arc<View>,
    jobs: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let crons = Arc::new(View::new(&*context.informers, scope_of::<CronJob>()));
    let jobs = Arc::new(View::new(&*context.informers, scope_of::<Job>()).index(pods::by_owner));
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&crons, own_key)
        .watch(&jobs, |change| {
            let owner = changed(change).and_then(|job| {
                let owner = Relations::of(job).controller().filter(|owner| owner.kind == "CronJob").cloned()?;
                Some(ObjectKey::new(&job.key.namespace, owner.name))
            });
            owner.into_iter().collect()
        })
        .workers(5);
    let this = Arc::new(CronJobs { session, crons, jobs });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl CronJobs {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.crons.get(&key) else { return Ok(Action::Done) };
        let Some(cron) = decode::<CronJob>(&entry) else { return Ok(Action::Done) };
        let jobs = self.jobs.find(0, &entry.uid).iter().filter_map(|entry| decode(entry)).collect();
        let observed = Observed { cron, jobs };
        let plan = plan::plan(&observed, self.session.clock.now());
        self.apply(&entry, &observed, plan).await
    }

    async fn apply(&self, entry: &Entry, observed: &Observed, plan: Plan) -> Result<Action, ReconcileError> {
        let about = reference::<CronJob>(&observed.cron.metadata);
        for (kind, reason, message) in &plan.events {
            self.session.recorder.event(&about, *kind, reason, message);
        }
        for job in &plan.delete {
            self.delete(&about, job).await?;
        }
        let mut status = plan.status;
        if let Some(job) = &plan.create {
            let created = self.create(&about, job).await?;
            status.active.get_or_insert_default().extend(created);
        }
        let old = observed.cron.status.as_ref();
        match self.session.requests.edit_status(&resource_of::<CronJob>(), entry, old, &status).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(plan.look_again.map_or(Action::Done, Action::After)),
        }
    }

    async fn delete(&self, about: &ObjectReference, job: &Job) -> Result<(), RequestError> {
        let name = pods::name(&job.metadata);
        let key = ObjectKey::new(pods::namespace(&job.metadata), name);
        let options = Delete::of(pods::uid(&job.metadata)).propagation("Background");
        match self.session.requests.delete(&resource_of::<Job>(), &key, &options).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            Err(error) => {
                self.session.recorder.warning(about, "FailedDelete", format!("Deleted job: {}", error.message()));
                Err(error)
            }
            Ok(_) => {
                self.session.recorder.normal(about, "SuccessfulDelete", format!("Deleted job {name}"));
                Ok(())
            }
        }
    }

    /// The reference of the Job started; none if it had been started before.
    async fn create(&self, about: &ObjectReference, job: &Value) -> Result<Option<ObjectReference>, RequestError> {
        let namespace = job["metadata"]["namespace"].as_str().unwrap_or_default();
        match self.session.requests.create(&resource_of::<Job>(), namespace, job).await {
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(None),
            Err(error) => {
                let message = format!("Error creating job: {}", error.message());
                self.session.recorder.event(about, EventType::Warning, "FailedCreate", message);
                Err(error)
            }
            Ok(created) => {
                let name = created["metadata"]["name"].as_str().unwrap_or_default();
                self.session.recorder.normal(about, "SuccessfulCreate", format!("Created job {name}"));
                let metadata = serde_json::from_value(created["metadata"].clone()).unwrap_or_default();
                Ok(Some(reference::<Job>(&metadata)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
