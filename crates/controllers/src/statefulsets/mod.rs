//! StatefulSets keep their numbered pods and claims here.
//!
//! Pod `web-2` is always `web-2`, with the claims made for it, and there is never a second one: names are fixed, so the server
//! refuses a double even if our view is behind; an old pod is deleted by uid, and its successor made only when it is
//! gone. Unless the policy is Parallel, one pod at a time comes (lowest first), goes (highest first) or is updated.

mod apply;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, own_key};
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use tokio_util::sync::CancellationToken;

use crate::common::{claims, history, pods, selector};
use crate::{Context, ReconcileError, Session};
use plan::Observed;

const NAME: &str = "statefulset-controller";

struct StatefulSets {
    session: Session,
    sets: Arc<View>,
    pods: Arc<View>,
    volume_claims: Arc<View>,
    revisions: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let sets = Arc::new(View::new(&*context.informers, scope_of::<StatefulSet>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(pods::by_owner));
    let volume_claims = Arc::new(View::new(&*context.informers, scope_of::<PersistentVolumeClaim>()));
    let revisions = Arc::new(View::new(&*context.informers, scope_of::<ControllerRevision>()).index(pods::by_owner));
    let owners = sets.clone();
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&sets, own_key)
        .watch(&pods, move |change| sets_of(&owners, change))
        .follow(&volume_claims)
        .follow(&revisions)
        .workers(5);
    let this = Arc::new(StatefulSets { session, sets, pods, volume_claims, revisions });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

fn sets_of(sets: &View, change: &Change) -> Vec<ObjectKey> {
    claims::concerned(sets, change, "StatefulSet", |entry| {
        let spec = decode::<StatefulSet>(entry).and_then(|set| set.spec);
        selector(spec.as_ref().map(|spec| &spec.selector))
    })
}

impl StatefulSets {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(&key).await? else { return Ok(Action::Done) };
        let plan = plan::plan(&observed, self.session.clock.now());
        self.apply(&observed, plan).await
    }

    async fn observe(&self, key: &ObjectKey) -> Result<Option<Observed>, ReconcileError> {
        let Some(entry) = self.sets.get(key) else { return Ok(None) };
        let Some(set) = decode::<StatefulSet>(&entry) else { return Ok(None) };
        let Some(spec) = set.spec.clone() else { return Ok(None) };
        let selector = selector(Some(&spec.selector));
        let requests = &self.session.requests;
        let owned =
            claims::claim::<StatefulSet>(requests, &self.pods, &resource_of::<Pod>(), &set.metadata, &selector).await?;
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let history = history::observe(&self.revisions, &set.metadata, &spec.template, collisions);
        let claimed: BTreeSet<String> =
            self.volume_claims.list(Some(&key.namespace)).iter().map(|claim| claim.key.name.clone()).collect();
        let pods = owned.iter().filter_map(|entry| decode(entry)).collect();
        Ok(Some(Observed { entry, set, spec, pods, history, claims: claimed }))
    }
}

#[cfg(test)]
mod tests;
