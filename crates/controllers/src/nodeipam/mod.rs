//! Each node gets its range of pod addresses here.
//!
//! A single worker hands ranges out, so that what it gave a moment ago and its view does not show yet is remembered in
//! one place. A range is taken while any node has it.

mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::ObjectKey;
use client::events::reference;
use client::informer::{Change, Informer};
use client::patch::Patch;
use client::reconcile::{Action, Controller, own_key};
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError, Session, Settings};

const NAME: &str = "node-ipam-controller";

struct NodeIpam {
    session: Session,
    settings: Arc<Settings>,
    nodes: Arc<View>,
    /// Ranges by node name: those seen, and those given that the view does not show yet.
    taken: Arc<Mutex<BTreeMap<String, Vec<IpNet>>>>,
}

/// Runs until `token` is cancelled. Without cluster ranges there is nothing to do.
pub async fn run(context: Context, token: CancellationToken) {
    if context.settings.cluster_cidrs.is_empty() {
        return token.cancelled().await;
    }
    let (session, writer) = context.session("node-controller", NAME);
    let nodes = Arc::new(View::new(&*context.informers, scope_of::<Node>()));
    let taken = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = taken.clone();
    let controller = Controller::new(NAME, context.clock.clone()).watch(&nodes, move |change| {
        note(&seen, change);
        own_key(change)
    });
    let this = Arc::new(NodeIpam { session, settings: context.settings.clone(), nodes, taken });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

fn note(taken: &Mutex<BTreeMap<String, Vec<IpNet>>>, change: &Change) {
    match change {
        Change::Applied { new, .. } => {
            let ranges = decode::<Node>(new).map(|node| plan::ranges_of(&node)).unwrap_or_default();
            if !ranges.is_empty() {
                taken.lock().insert(new.key.name.clone(), ranges);
            }
        }
        Change::Deleted(last) => drop(taken.lock().remove(&last.key.name)),
        Change::Synced | Change::Resync => {}
    }
}

impl NodeIpam {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.nodes.get(&key) else { return Ok(Action::Done) };
        let Some(node) = decode::<Node>(&entry) else { return Ok(Action::Done) };
        if !plan::ranges_of(&node).is_empty() {
            return Ok(Action::Done);
        }
        let chosen = {
            let mut taken = self.taken.lock();
            let given = taken.get(&key.name).cloned();
            let chosen = given.map_or_else(|| plan::choose(&self.settings, taken.values().flatten()), Ok);
            if let Ok(ranges) = &chosen {
                taken.insert(key.name.clone(), ranges.clone());
            }
            chosen
        };
        let ranges = match chosen {
            Ok(ranges) => ranges,
            Err(full) => {
                let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
                self.session.recorder.normal(&reference::<Node>(&node.metadata), "CIDRNotAvailable", message);
                return Err(ReconcileError::Several(vec![full.to_string()]));
            }
        };
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        let patch = Patch::Merge(json!({"spec": {"podCIDR": ranges[0], "podCIDRs": ranges}})).guarded(&entry.uid, "");
        match self.session.requests.patch(&resource_of::<Node>(), &key, &patch).await {
            Err(error) if error.is_not_found() || error.is_conflict() => {
                self.taken.lock().remove(&key.name);
                Ok(Action::Done)
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Action::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn every_node_gets_a_range_of_its_own() {
        let cluster = FakeCluster::new();
        let nodes = resource_of::<Node>();
        let has =
            json!({"metadata": {"name": "old"}, "spec": {"podCIDR": "10.42.0.0/24", "podCIDRs": ["10.42.0.0/24"]}});
        cluster.put(&nodes, has);
        for number in 0..20 {
            cluster.put(&nodes, json!({"metadata": {"name": format!("n{number:02}")}, "spec": {}}));
        }
        let harness = Harness::start(&cluster, run);
        let ranges = || {
            let mut ranges: Vec<String> = cluster
                .list(&nodes)
                .iter()
                .filter_map(|node| node["spec"]["podCIDR"].as_str().map(ToOwned::to_owned))
                .collect();
            ranges.sort();
            ranges.dedup();
            ranges
        };
        eventually(|| ranges().len() == 21).await;
        // A range is free again when its node is gone.
        cluster.remove(&nodes, &ObjectKey::new("", "old"));
        cluster.put(&nodes, json!({"metadata": {"name": "new"}, "spec": {}}));
        eventually(|| ranges().len() == 21 && ranges().contains(&"10.42.0.0/24".to_owned())).await;
        harness.stop().await;
    }
}
