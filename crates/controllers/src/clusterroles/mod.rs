//! ClusterRoles that are made of others: the rules of all that their selectors choose.

mod plan;

use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::{Change, Informer};
use client::patch::Patch;
use client::reconcile::{Action, Controller, own_key};
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError, Session};

const NAME: &str = "clusterrole-aggregation-controller";

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let session = Arc::new(session);
    let roles = Arc::new(View::new(&*context.informers, scope_of::<ClusterRole>()));
    let all = roles.clone();
    // There are few, and any of them may be part of any other.
    let aggregated = move |change: &Change| -> Vec<ObjectKey> {
        if matches!(change, Change::Synced | Change::Resync) {
            return own_key(change);
        }
        let roles = all.list(None);
        roles.iter().filter(|role| plan::is_aggregated(&role.to_value())).map(|role| role.key.clone()).collect()
    };
    let controller = Controller::new(NAME, context.clock.clone()).watch(&roles, aggregated);
    let work = controller.run(token.clone(), move |key| {
        let (session, roles) = (session.clone(), roles.clone());
        async move { reconcile(&session, &roles, key).await }
    });
    tokio::join!(work, writer.run(token));
}

async fn reconcile(session: &Session, roles: &View, key: ObjectKey) -> Result<Action, ReconcileError> {
    let Some(role) = roles.get(&key) else { return Ok(Action::Done) };
    let all: Vec<Value> = roles.list(None).iter().map(|role| role.to_value()).collect();
    if let Some(rules) = plan::rules(&role.to_value(), &all) {
        let object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": key.name},
            "rules": rules,
        });
        let patch = Patch::Apply { manager: NAME.to_owned(), force: true, object };
        match session.requests.patch(&resource_of::<ClusterRole>(), &key, &patch).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(Action::Done)
}
