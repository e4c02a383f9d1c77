//! ReplicaSets and ReplicationControllers keep their number of pods here.
//!
//! Both are the same thing with different selectors, so both are read as a [`observe::Replicated`] and share the rest.
//! Pods are created in growing batches and deleted at once, and none of either before the view shows what was done
//! before: a stale cache never makes a pod too many.

mod apply;
mod observe;
mod plan;

use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::Change;
use client::reconcile::{Action, Controller, changed, own_key};
use client::typed::scope_of;
use client::view::{Relations, View};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use tokio_util::sync::CancellationToken;

use crate::common::expectations::Expectations;
use crate::common::{claims, pods};
use crate::{Context, ReconcileError, Session};
use observe::Kind;

/// Pods created or deleted in one go.
const BURST: usize = 500;

struct Replicas<K> {
    session: Session,
    owners: Arc<View>,
    pods: Arc<View>,
    expectations: Expectations,
    kind: std::marker::PhantomData<fn() -> K>,
}

/// Runs the ReplicaSet controller until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    keep::<ReplicaSet>(context, token).await;
}

/// Runs the ReplicationController controller until `token` is cancelled.
pub async fn run_replication_controllers(context: Context, token: CancellationToken) {
    keep::<ReplicationController>(context, token).await;
}

async fn keep<K: Kind>(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(K::ACCOUNT, K::COMPONENT);
    let owners = Arc::new(View::new(&*context.informers, scope_of::<K>()).index(pods::by_owner));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(pods::by_owner));
    let mapped = owners.clone();
    let controller = Controller::new(K::CONTROLLER, context.clock.clone())
        .watch(&owners, own_key)
        .watch(&pods, move |change| owners_of::<K>(&mapped, change))
        .workers(5);
    let expectations = Expectations::new(context.clock.clone());
    let this = Arc::new(Replicas::<K> { session, owners, pods, expectations, kind: std::marker::PhantomData });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

/// Whom a pod's change concerns: the owner it has and had, or whoever could adopt it.
fn owners_of<K: Kind>(owners: &View, change: &Change) -> Vec<ObjectKey> {
    use client::informer::Informer;
    let Some(pod) = changed(change) else { return Vec::new() };
    let named = |entry: &api::object::Entry| {
        let owner = Relations::of(entry).controller().filter(|owner| owner.kind == K::KIND).cloned()?;
        Some(ObjectKey::new(&entry.key.namespace, owner.name))
    };
    let mut keys: Vec<ObjectKey> = named(pod).into_iter().collect();
    if let Change::Applied { old: Some(old), .. } = change {
        keys.extend(named(old).filter(|key| !keys.contains(key)));
    }
    let orphan = Relations::of(pod).controller().is_none();
    if orphan && matches!(change, Change::Applied { .. }) {
        let candidates = owners.list(Some(&pod.key.namespace)).into_iter().filter(|entry| {
            let owner = observe::decode::<K>(entry);
            owner.is_some_and(|owner| claims::matches(&owner.selector, &pod.labels))
        });
        keys.extend(candidates.map(|entry| entry.key.clone()));
    }
    keys
}

impl<K: Kind> Replicas<K> {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(&key).await? else {
            self.expectations.forget(&key);
            return Ok(Action::Done);
        };
        let plan = plan::plan(&observed, self.session.clock.now());
        self.apply(&observed, plan).await
    }
}

#[cfg(test)]
mod tests;
