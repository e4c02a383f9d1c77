//! Deployments roll out their template as ReplicaSets here.
//!
//! A Deployment owns one ReplicaSet per template it has had, named by the template's hash, newest by the revision
//! annotation. A plan moves replicas from old ones to the new one within maxSurge and maxUnavailable; a rollout goes on with
//! each status that the ReplicaSets report. Replica counts are absolute and written at the resource version seen, so a
//! step that is done twice or on a stale view changes nothing or is refused.

mod apply;
mod observe;
mod plan;
mod progress;
mod rolling;
mod sets;

use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed, own_key};
use client::typed::{decode, scope_of};
use client::view::{Relations, View};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

use crate::common::{claims, pods};
use crate::{Context, ReconcileError, Session};

const NAME: &str = "deployment-controller";

struct Deployments {
    session: Session,
    deployments: Arc<View>,
    sets: Arc<View>,
    pods: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let deployments = Arc::new(View::new(&*context.informers, scope_of::<Deployment>()));
    let sets = Arc::new(View::new(&*context.informers, scope_of::<ReplicaSet>()).index(pods::by_owner));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(pods::by_owner));
    let (owners, owned) = (deployments.clone(), sets.clone());
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&deployments, own_key)
        .watch(&sets, move |change| deployments_of(&owners, change))
        .watch(&pods, move |change| deployment_of_pod(&owned, change))
        .workers(5);
    let this = Arc::new(Deployments { session, deployments, sets, pods });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

fn deployments_of(deployments: &View, change: &Change) -> Vec<ObjectKey> {
    let Some(set) = changed(change) else { return Vec::new() };
    let relations = Relations::of(set);
    match relations.controller() {
        Some(owner) if owner.kind == "Deployment" => vec![ObjectKey::new(&set.key.namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => {
            let candidates = deployments.list(Some(&set.key.namespace)).into_iter().filter(|entry| {
                let selector =
                    decode::<Deployment>(entry).and_then(|deployment| deployment.spec).map(|spec| spec.selector);
                claims::matches(&crate::common::selector(selector.as_ref()), &set.labels)
            });
            candidates.map(|entry| entry.key.clone()).collect()
        }
    }
}

/// A Recreate rollout waits for the last old pod to be gone; nothing else of a pod matters here.
fn deployment_of_pod(sets: &View, change: &Change) -> Vec<ObjectKey> {
    let Change::Deleted(pod) = change else { return Vec::new() };
    let relations = Relations::of(pod);
    let Some(owner) = relations.controller().filter(|owner| owner.kind == "ReplicaSet") else { return Vec::new() };
    let set = sets.get(&ObjectKey::new(&pod.key.namespace, &owner.name));
    let owner = set.and_then(|set| Relations::of(&set).controller().cloned());
    owner.map(|owner| ObjectKey::new(&pod.key.namespace, owner.name)).into_iter().collect()
}

impl Deployments {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(&key).await? else { return Ok(Action::Done) };
        let plan = plan::plan(&observed, self.session.clock.now());
        self.apply(&observed, plan).await
    }
}

#[cfg(test)]
mod tests;
