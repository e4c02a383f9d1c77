//! Waits until a cluster can be used: its nodes are Ready, its DNS answers, pods may be created.
//!
//! What a node said before it was last started does not count: its Lease must have been renewed since, and its status
//! written. Each condition is a watch. Only the first connection is tried again and again: a server that does not listen yet
//! has no way to call.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use client::backoff::Backoff;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{Timestamp, Unit};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt as _, wait::await_condition, watcher};
use kube::{Api, Client};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

/// Between two attempts to reach a server that does not listen yet.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadinessError {
    #[error("the cluster's credentials are not usable: {0}")]
    Credentials(String),
    #[error("waiting for {what}: {source}")]
    Wait { what: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

/// What a cluster still lacks, for whoever gives up waiting.
#[derive(Debug, Default)]
pub(crate) struct Lacking(Mutex<BTreeSet<String>>);

impl Lacking {
    fn add(&self, what: impl Into<String>) {
        self.0.lock().expect("no holder panics").insert(what.into());
    }

    fn remove(&self, what: &str) -> bool {
        self.0.lock().expect("no holder panics").remove(what)
    }

    pub(crate) fn list(&self) -> Vec<String> {
        self.0.lock().expect("no holder panics").iter().cloned().collect()
    }
}

/// When nodes were started that did not run before.
#[derive(Debug, Default)]
pub(crate) struct Started(Mutex<BTreeMap<String, Timestamp>>);

impl Started {
    pub(crate) fn note(&self, node: &str) {
        self.0.lock().expect("no holder panics").insert(node.to_owned(), Timestamp::now());
    }

    /// What the node must have said something after; nothing in particular if it was running all the time.
    fn of(&self, node: &str) -> Timestamp {
        self.0.lock().expect("no holder panics").get(node).copied().unwrap_or(Timestamp::MIN)
    }
}

const API: &str = "the API server";
const DNS: &str = "cluster DNS";
const ACCOUNT: &str = "the default ServiceAccount";

/// Returns when pods can be created on every node of `nodes` and find each other by name.
///
/// `ready` is told of each node as it becomes Ready.
pub(crate) async fn wait(
    kubeconfig: &Value,
    nodes: &[String],
    started: &Started,
    lacking: &Lacking,
    ready: impl Fn(&str),
) -> Result<(), ReadinessError> {
    for what in [API, DNS, ACCOUNT].into_iter().chain(nodes.iter().map(String::as_str)) {
        lacking.add(what);
    }
    let client = connect(kubeconfig).await?;
    reach(&client).await;
    lacking.remove(API);
    let fresh = async {
        leases_renewed(Api::namespaced(client.clone(), "kube-node-lease"), nodes, started).await;
        nodes_ready(Api::all(client.clone()), nodes, started, lacking, ready).await;
        Ok(())
    };
    let (nodes, dns, account) = (
        fresh,
        dns_answers(Api::namespaced(client.clone(), "kube-system"), lacking),
        account_exists(Api::namespaced(client.clone(), "default"), lacking),
    );
    futures::try_join!(nodes, dns, account).map(|_| ())
}

/// A client with the credentials of a kubeconfig.
pub(crate) async fn connect(kubeconfig: &Value) -> Result<Client, ReadinessError> {
    let refused = |error: &dyn std::fmt::Display| ReadinessError::Credentials(error.to_string());
    let kubeconfig = serde_json::from_value(kubeconfig.clone()).map_err(|error| refused(&error))?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| refused(&error))?;
    Client::try_from(config).map_err(|error| refused(&error))
}

async fn reach(client: &Client) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    while client.apiserver_version().await.is_err() {
        sleep_until(Instant::now() + backoff.fail()).await;
    }
}

/// Every node lives, whatever the last word of an earlier life was.
async fn leases_renewed(api: Api<Lease>, names: &[String], started: &Started) {
    let renewed = |lease: &Lease, name: &str| {
        let renewal = lease.spec.as_ref().and_then(|it| it.renew_time.as_ref());
        renewal.is_some_and(|it| it.0 > started.of(name))
    };
    each(api, names, renewed, |_| ()).await;
}

async fn nodes_ready(api: Api<Node>, names: &[String], started: &Started, lacking: &Lacking, ready: impl Fn(&str)) {
    each(
        api,
        names,
        |node, name| is_ready(node, started.of(name)),
        |name| {
            lacking.remove(name);
            ready(name);
        },
    )
    .await;
}

/// Watches objects until each of `names` has been found to be `so`; `found` is told of each.
async fn each<K>(api: Api<K>, names: &[String], so: impl Fn(&K, &str) -> bool, found: impl Fn(&str))
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let mut events = watcher(api, watcher::Config::default()).default_backoff().applied_objects().boxed();
    let mut left: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    while !left.is_empty() {
        // The watch reconnects by itself; an error in between is not the end.
        let Ok(Some(object)) = events.try_next().await else { continue };
        let name = object.meta().name.as_deref().unwrap_or_default();
        if left.contains(name) && so(&object, name) {
            left.remove(name);
            found(name);
        }
    }
}

/// Whether the node has said since `started` that it is Ready. Heartbeats are whole seconds.
fn is_ready(node: &Node, started: Timestamp) -> bool {
    let started = started.round(jiff::TimestampRound::new().smallest(Unit::Second).mode(jiff::RoundMode::Trunc));
    let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| {
        let said = it.last_heartbeat_time.as_ref().map(|it| it.0);
        it.type_ == "Ready" && it.status == "True" && started.as_ref().is_ok_and(|started| said >= Some(*started))
    })
}

/// The nodes themselves answer; a ready endpoint of the DNS service is their word that they do.
async fn dns_answers(api: Api<EndpointSlice>, lacking: &Lacking) -> Result<(), ReadinessError> {
    let of_dns = watcher::Config::default().labels("kubernetes.io/service-name=kube-dns");
    let mut events = watcher(api, of_dns).default_backoff().applied_objects().boxed();
    loop {
        let Ok(Some(slice)) = events.try_next().await else { continue };
        let ready = |it: &k8s_openapi::api::discovery::v1::Endpoint| {
            it.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false))
        };
        if slice.endpoints.iter().flatten().any(ready) {
            lacking.remove(DNS);
            return Ok(());
        }
    }
}

async fn account_exists(api: Api<ServiceAccount>, lacking: &Lacking) -> Result<(), ReadinessError> {
    let found = await_condition(api, "default", |it: Option<&ServiceAccount>| it.is_some()).await;
    found.map_err(|source| ReadinessError::Wait { what: ACCOUNT, source: Box::new(source) })?;
    lacking.remove(ACCOUNT);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_node_said_in_an_earlier_life_does_not_count() {
        let check = |status: &str, said: &str, started: &str| {
            let condition = json!({"type": "Ready", "status": status, "lastHeartbeatTime": said});
            let node = serde_json::from_value(json!({"metadata": {}, "status": {"conditions": [condition]}})).unwrap();
            is_ready(&node, started.parse().unwrap())
        };
        assert!(!check("True", "2026-11-21T09:00:00Z", "2026-11-21T09:00:01.5Z"));
        assert!(check("True", "2026-11-21T09:00:01Z", "2026-11-21T09:00:01.5Z"));
        assert!(!check("False", "2026-11-21T09:00:02Z", "2026-11-21T09:00:01.5Z"));
    }
}
