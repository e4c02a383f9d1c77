//! A server's node is marked as one, for people and for workloads that look for it. The node may not do so itself: by
//! such labels workloads are steered.

use std::sync::Arc;

use client::informer::{Change, Informers};
use client::patch::Patch;
use client::request::Requests;
use client::typed::{resource_of, scope_of};
use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// What `kubectl get nodes` shows as the role, with k3s's value.
const LABEL: (&str, &str) = ("node-role.kubernetes.io/control-plane", "true");

/// Keeps the label on this server's node, until `stop`.
pub(crate) async fn run(informers: Arc<dyn Informers>, requests: Requests, node: String, stop: CancellationToken) {
    let informer = informers.informer(scope_of::<Node>().with_fields(&format!("metadata.name={node}")));
    let mut changes = informer.subscribe();
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        let found = match change {
            Some(Change::Applied { new, .. }) => Some(new),
            Some(Change::Resync) => informer.list(None).into_iter().next(),
            Some(Change::Deleted(_) | Change::Synced) => None,
            None => return,
        };
        let Some(node) = found.filter(|node| node.labels.get(LABEL.0).is_none_or(|value| value != LABEL.1)) else {
            continue;
        };
        let label = Patch::Merge(json!({"metadata": {"labels": {LABEL.0: LABEL.1}}}));
        // A refusal is tried again with the node's next change, which a node that lives soon has.
        if let Err(why) = requests.patch(&resource_of::<Node>(), &node.key, &label).await {
            warn!(%why, "the server's node cannot be marked as one");
        }
    }
}
