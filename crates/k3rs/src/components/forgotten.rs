//! A node's name is free again once the node is deleted: its password goes with it.
//!
//! A password is there before its node, which registers with the certificate that the password got. So one without a
//! node is given up only when none has come for a while.

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use client::clock::Clock;
use client::informer::{Change, Informer, Informers, Scope};
use client::request::{Delete, Requests};
use client::typed::scope_of;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Secret};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::supervisor::node_passwords::{NAMESPACE, TYPE, node_of, secrets};

/// How long a password waits for its node.
const PATIENCE: SignedDuration = SignedDuration::from_mins(10);

struct Sweeper {
    nodes: Arc<dyn Informer>,
    passwords: Arc<dyn Informer>,
    requests: Requests,
    clock: Arc<dyn Clock>,
}

/// Deletes passwords whose nodes are gone, until `stop`.
pub(super) async fn run(
    informers: Arc<dyn Informers>,
    requests: Requests,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let of_nodes = scope_of::<Secret>().with_fields(&format!("type={TYPE}"));
    let of_nodes = Scope { namespace: Some(NAMESPACE.to_owned()), ..of_nodes };
    let sweeper = Sweeper {
        nodes: informers.informer(scope_of::<Node>()),
        passwords: informers.informer(of_nodes),
        requests,
        clock,
    };
    let (mut nodes, mut passwords) = (sweeper.nodes.subscribe(), sweeper.passwords.subscribe());
    loop {
        let due = sweeper.due();
        tokio::select! {
            () = stop.cancelled() => return,
            change = nodes.recv() => match change {
                Some(Change::Deleted(node)) => sweeper.forget(&node.key.name).await,
                Some(_) => {}
                None => return,
            },
            change = passwords.recv() => if change.is_none() { return },
            () = until(&*sweeper.clock, due) => sweeper.sweep().await,
        }
    }
}

async fn until(clock: &dyn Clock, due: Option<Timestamp>) {
    match due {
        // A second more, so that the clock's fractions do not wake it twice.
        Some(due) => {
            let left = Duration::try_from(due.duration_since(clock.now())).unwrap_or_default();
            clock.after(left + Duration::from_secs(1)).await;
        }
        None => std::future::pending().await,
    }
}

impl Sweeper {
    /// The passwords that wait for a node, with the time at which that ends.
    fn waiting(&self) -> impl Iterator<Item = (String, Timestamp)> {
        let synced = self.nodes.synced() && self.passwords.synced();
        let listed = if synced { self.passwords.list(Some(NAMESPACE)) } else { Vec::new() };
        listed.into_iter().filter_map(|secret| {
            let node = node_of(&secret.key.name)?.to_owned();
            let absent = self.nodes.get(&ObjectKey::new("", node.as_str())).is_none();
            absent.then_some((node, created(&secret)? + PATIENCE))
        })
    }

    fn due(&self) -> Option<Timestamp> {
        self.waiting().map(|(_, due)| due).min()
    }

    async fn sweep(&self) {
        let now = self.clock.now();
        let late: Vec<String> = self.waiting().filter(|(_, due)| *due <= now).map(|(node, _)| node).collect();
        for node in late {
            self.forget(&node).await;
        }
    }

    async fn forget(&self, node: &str) {
        let key = crate::supervisor::node_passwords::key_of(node);
        let Some(secret) = self.passwords.get(&key) else { return };
        match self.requests.delete(&secrets(), &key, &Delete::of(&secret.uid)).await {
            Ok(_) => info!(node, "the node is gone: its name is free"),
            Err(why) if why.is_not_found() || why.is_conflict() => {}
            // It is due again, and with each change of the nodes.
            Err(why) => warn!(node, %why, "the password of a node that is gone cannot be deleted"),
        }
    }
}

fn created(entry: &Entry) -> Option<Timestamp> {
    entry.to_value()["metadata"]["creationTimestamp"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::clock::ManualClock;
    use client::testing::FakeCluster;
    use client::typed::resource_of;
    use serde_json::json;

    #[tokio::test]
    async fn a_password_goes_with_its_node_or_when_none_comes() {
        let cluster = FakeCluster::new();
        cluster.serve_resource(&secrets(), "Secret", true);
        cluster.serve_resource(&resource_of::<Node>(), "Node", false);
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for name in ["deleted", "stays", "never-came"] {
            let name = format!("{name}.node-password.k3s");
            let metadata = json!({"name": name, "namespace": NAMESPACE, "creationTimestamp": "2026-01-01T00:00:00Z"});
            cluster.put(&secrets(), json!({"metadata": metadata, "type": TYPE}));
        }
        for name in ["deleted", "stays"] {
            cluster.put(&resource_of::<Node>(), json!({"metadata": {"name": name}}));
        }
        let (clock, stop) = (ManualClock::new(start), CancellationToken::new());
        let sweeping = run(cluster.informers(), Requests::new(cluster.client("x")), clock.clone(), stop.clone());
        let told = async {
            let left = |count: usize| {
                let cluster = cluster.clone();
                async move {
                    while cluster.list(&secrets()).len() != count {
                        tokio::task::yield_now().await;
                    }
                }
            };
            cluster.remove(&resource_of::<Node>(), &ObjectKey::new("", "deleted"));
            left(2).await;
            clock.advance(Duration::from_secs(599));
            tokio::task::yield_now().await;
            assert_eq!(cluster.list(&secrets()).len(), 2, "it may come yet");
            clock.advance(Duration::from_secs(2));
            left(1).await;
            stop.cancel();
        };
        tokio::join!(sweeping, told);
        assert_eq!(cluster.list(&secrets())[0]["metadata"]["name"], "stays.node-password.k3s");
    }
}
