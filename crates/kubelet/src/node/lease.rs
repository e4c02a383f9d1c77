//! The node's heartbeat: a Lease renewed every ten seconds, by a task that shares nothing with any other.

use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use client::clock::Clock;
use client::lease::micro_time;
use client::patch::Patch;
use client::request::{RequestError, Requests};
use client::typed::resource_of;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "kube-node-lease";
/// Upstream's: the controller takes a node for lost after 40 s of silence; a quarter of that between renewals.
const DURATION_SECONDS: u64 = 40;
const RENEW: Duration = Duration::from_secs(DURATION_SECONDS / 4);
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(7);

/// Renews until the token is cancelled.
pub(crate) async fn run(requests: Requests, clock: Arc<dyn Clock>, node_name: String, token: CancellationToken) {
    let mut retry = FIRST_RETRY;
    loop {
        let next = match renew(&requests, &*clock, &node_name).await {
            Ok(()) => {
                retry = FIRST_RETRY;
                RENEW
            }
            Err(error) => {
                tracing::debug!(%error, "node lease not renewed");
                retry = (retry * 2).min(LAST_RETRY);
                retry
            }
        };
        tokio::select! {
            () = token.cancelled() => return,
            () = clock.after(next) => {}
        }
    }
}

async fn renew(requests: &Requests, clock: &dyn Clock, node_name: &str) -> Result<(), RequestError> {
    let (resource, key) = (resource_of::<Lease>(), ObjectKey::new(NAMESPACE, node_name));
    let spec = json!({
        "holderIdentity": node_name,
        "leaseDurationSeconds": DURATION_SECONDS,
        "renewTime": micro_time(clock.now()),
    });
    let patch = Patch::Merge(json!({"spec": spec}));
    match requests.patch(&resource, &key, &patch).await {
        Err(error) if error.is_not_found() => {}
        other => return other.map(drop),
    }
    // It goes with its node.
    let node = requests.get(&resource_of::<Node>(), &ObjectKey::new("", node_name)).await?;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": node_name,
            "namespace": NAMESPACE,
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node_name, "uid": node["metadata"]["uid"]}],
        },
        "spec": spec,
    });
    requests.create(&resource, NAMESPACE, &lease).await.map(drop)
}
