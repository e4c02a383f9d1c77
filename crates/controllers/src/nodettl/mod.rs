//! How long kubelets may believe what they have read of Secrets and ConfigMaps: the longer, the more nodes there are.

mod plan;

use std::sync::Arc;

use client::informer::Informer;
use client::patch::Patch;
use client::reconcile::{Action, Controller, own_key};
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError};

const NAME: &str = "ttl-controller";
const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let session = Arc::new(session);
    let nodes = Arc::new(View::new(&*context.informers, scope_of::<Node>()));
    let step = Arc::new(Mutex::new(0));
    let controller = Controller::new(NAME, context.clock.clone()).watch(&nodes, own_key);
    let work = controller.run(token.clone(), move |key| {
        let (session, nodes, step) = (session.clone(), nodes.clone(), step.clone());
        async move {
            let Some(node) = nodes.get(&key) else { return Ok::<_, ReconcileError>(Action::Done) };
            let ttl = {
                let mut step = step.lock();
                *step = plan::step(*step, nodes.len());
                plan::seconds(*step).to_string()
            };
            if node.to_value()["metadata"]["annotations"][ANNOTATION] == ttl {
                return Ok(Action::Done);
            }
            let patch = Patch::Strategic(json!({"metadata": {"annotations": {ANNOTATION: ttl}}}));
            match session.requests.patch(&resource_of::<Node>(), &key, &patch).await {
                Err(error) if !error.is_not_found() => Err(error.into()),
                _ => Ok(Action::Done),
            }
        }
    });
    tokio::join!(work, writer.run(token));
}

#[cfg(test)]
mod tests {
    use api::object::ObjectKey;
    use client::testing::FakeCluster;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn a_node_is_told_how_long_to_believe() {
        let cluster = FakeCluster::new();
        cluster.put(&resource_of::<Node>(), json!({"metadata": {"name": "one"}}));
        let harness = Harness::start(&cluster, run);
        let key = ObjectKey::new("", "one");
        eventually(|| {
            cluster.get(&resource_of::<Node>(), &key).is_some_and(|it| it["metadata"]["annotations"][ANNOTATION] == "0")
        })
        .await;
        harness.stop().await;
    }
}
