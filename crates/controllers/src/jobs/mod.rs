//! Jobs run their pods to completion here, and count every end exactly once.
//!
//! Each pod carries a finalizer, so that its end cannot be missed. Counting takes two writes that may each be the last before a
//! crash: first the status names the pods that ended (`uncountedTerminatedPods`), then they lose the finalizer; those
//! named in the status that have it no more are then added to the counters. Indexed Jobs count by index instead.

mod apply;
mod indexes;
mod observe;
mod outcome;
mod plan;

use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::Change;
use client::reconcile::{Action, Controller, own_key};
use client::typed::{decode, scope_of};
use client::view::View;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use crate::common::expectations::Expectations;
use crate::common::{claims, pods, selector};
use crate::{Context, ReconcileError, Session};

const NAME: &str = "job-controller";
pub(crate) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

struct Jobs {
    session: Session,
    jobs: Arc<View>,
    pods: Arc<View>,
    expectations: Expectations,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let jobs = Arc::new(View::new(&*context.informers, scope_of::<Job>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(pods::by_owner));
    let owners = jobs.clone();
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&jobs, own_key)
        .watch(&pods, move |change| jobs_of(&owners, change))
        .workers(5);
    let expectations = Expectations::new(context.clock.clone());
    let this = Arc::new(Jobs { session, jobs, pods, expectations });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

fn jobs_of(jobs: &View, change: &Change) -> Vec<ObjectKey> {
    claims::concerned(jobs, change, "Job", |entry| {
        let spec = decode::<Job>(entry).and_then(|job| job.spec);
        selector(spec.as_ref().and_then(|spec| spec.selector.as_ref()))
    })
}

impl Jobs {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(&key).await? else {
            self.expectations.forget(&key);
            self.free_orphans(&key).await?;
            return Ok(Action::Done);
        };
        // Everything counted is counted from the view: one that is behind would count again.
        if !observed.current {
            return Ok(Action::Done);
        }
        let plan = plan::plan(&observed, self.session.clock.now());
        self.apply(&observed, plan).await
    }
}

#[cfg(test)]
mod tests;
