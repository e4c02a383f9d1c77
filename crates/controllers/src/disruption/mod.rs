//! PodDisruptionBudgets tell here how many of their pods may be evicted, and pods that were to be disrupted and were
//! not lose that mark.
//!
//! The API server takes from `disruptionsAllowed` when it evicts, and notes the pod in `disruptedPods`; here the
//! allowance is counted anew from the pods there are, and the note goes once the pod is going. A budget that cannot
//! be counted allows nothing.

mod observe;
mod plan;
mod stale;

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::selector::label::LabelSelector;
use client::events::reference;
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed, own_key};
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError, Session};
use observe::Observed;
use plan::Plan;

const NAME: &str = "disruption-controller";
/// The component that events name.
const COMPONENT: &str = "controllermanager";

struct Budgets {
    session: Session,
    budgets: Arc<View>,
    pods: Arc<View>,
    scales: Scales,
}

/// Those whose pods are counted against what they ask for.
struct Scales {
    deployments: Arc<View>,
    replicasets: Arc<View>,
    replication_controllers: Arc<View>,
    statefulsets: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, COMPONENT);
    let informers = &*context.informers;
    let budgets = Arc::new(View::new(informers, scope_of::<PodDisruptionBudget>()));
    let pods = Arc::new(View::new(informers, scope_of::<Pod>()));
    let scales = Scales {
        deployments: Arc::new(View::new(informers, scope_of::<Deployment>())),
        replicasets: Arc::new(View::new(informers, scope_of::<ReplicaSet>())),
        replication_controllers: Arc::new(View::new(informers, scope_of::<ReplicationController>())),
        statefulsets: Arc::new(View::new(informers, scope_of::<StatefulSet>())),
    };
    let all = budgets.clone();
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&budgets, own_key)
        .watch(&pods, move |change| budgets_of(&all, change))
        .follow(&scales.deployments)
        .follow(&scales.replicasets)
        .follow(&scales.replication_controllers)
        .follow(&scales.statefulsets);
    let this = Arc::new(Budgets { session, budgets, pods, scales });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, stale::run(context.clone(), token.clone()), writer.run(token));
}

/// The budgets that count a pod, as it is or was.
fn budgets_of(budgets: &View, change: &Change) -> Vec<ObjectKey> {
    let Some(pod) = changed(change) else { return Vec::new() };
    let old = match change {
        Change::Applied { old, .. } => old.as_ref().map(|old| &old.labels),
        _ => None,
    };
    let counts = |budget: &Arc<Entry>| {
        selector_of(budget)
            .is_some_and(|selector| selector.matches(&pod.labels) || old.is_some_and(|old| selector.matches(old)))
    };
    budgets.list(Some(&pod.key.namespace)).into_iter().filter(counts).map(|budget| budget.key.clone()).collect()
}

fn selector_of(budget: &Entry) -> Option<LabelSelector> {
    LabelSelector::from_json(budget.to_value()["spec"].get("selector")).ok()
}

impl Budgets {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(&key).await? else { return Ok(Action::Done) };
        let plan = plan::plan(&observed, self.session.clock.now());
        self.apply(&observed, plan).await
    }

    async fn apply(&self, observed: &Observed, plan: Plan) -> Result<Action, ReconcileError> {
        let about = reference::<PodDisruptionBudget>(&observed.budget.metadata);
        for event in plan.events {
            match event.pod {
                Some(pod) => self.session.recorder.warning(&reference::<Pod>(&pod), event.reason, event.message),
                None => self.session.recorder.event(&about, event.kind, event.reason, event.message),
            }
        }
        let old = observed.budget.status.as_ref();
        let resource = resource_of::<PodDisruptionBudget>();
        match self.session.requests.edit_status(&resource, &observed.entry, old, &plan.status).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(plan.look_again.map_or(Action::Done, Action::After)),
        }
    }
}

#[cfg(test)]
mod tests;
