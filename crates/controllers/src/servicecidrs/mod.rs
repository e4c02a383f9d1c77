//! ServiceCIDRs: ranges of Services' addresses are ready when they are held, and go when nobody needs them.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use client::clock::Clock;
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed};
use client::request::Requests;
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError};
use plan::{FINALIZER, Step};

const NAME: &str = "service-cidr-controller";

struct Ranges {
    requests: Requests,
    clock: Arc<dyn Clock>,
    ranges: Arc<View>,
    addresses: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("service-cidrs-controller", NAME);
    let ranges = Arc::new(View::new(&*context.informers, scope_of::<ServiceCIDR>()));
    let addresses = Arc::new(View::new(&*context.informers, scope_of::<IPAddress>()));
    let (of_range, of_address) = (ranges.clone(), ranges.clone());
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&ranges, move |change| concerned_by_range(&of_range, change))
        .watch(&addresses, move |change| concerned_by_address(&of_address, change))
        .workers(5);
    let this = Arc::new(Ranges { requests: session.requests, clock: session.clock, ranges, addresses });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(&key).await }
    });
    tokio::join!(work, writer.run(token));
}

/// The range itself, and those that it overlaps: they may stand in for each other.
fn concerned_by_range(ranges: &View, change: &Change) -> Vec<ObjectKey> {
    let Some(entry) = changed(change) else { return Vec::new() };
    let own = plan::cidrs(&entry.to_value());
    let overlaps = |other: &Arc<Entry>| {
        let other = plan::cidrs(&other.to_value());
        own.iter().any(|own| other.iter().any(|other| own.contains(other) || other.contains(own)))
    };
    let others = ranges.list(None).into_iter().filter(overlaps).map(|other| other.key.clone());
    others.chain([entry.key.clone()]).collect()
}

/// An address that comes or goes keeps or frees the ranges that it lies in.
fn concerned_by_address(ranges: &View, change: &Change) -> Vec<ObjectKey> {
    let address = match change {
        Change::Applied { old: None, new } => new,
        Change::Deleted(last) => last,
        _ => return Vec::new(),
    };
    let Some(ip) = plan::ip(&address.to_value()) else { return Vec::new() };
    let holds = |range: &Arc<Entry>| plan::cidrs(&range.to_value()).iter().any(|cidr| plan::gives(cidr, &ip));
    ranges.list(None).into_iter().filter(holds).map(|range| range.key.clone()).collect()
}

impl Ranges {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.ranges.get(key) else { return Ok(Action::Done) };
        let range = entry.to_value();
        let step = plan::plan(&range, &values(&self.ranges), &values(&self.addresses), self.clock.now());
        self.apply(&entry, &range, step).await
    }

    async fn apply(&self, entry: &Entry, range: &Value, step: Step) -> Result<Action, ReconcileError> {
        let mut finalizers = range["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let (subresource, change) = match step {
            Step::Nothing => return Ok(Action::Done),
            Step::Wait(left) => return Ok(Action::After(Duration::try_from(left).unwrap_or_default())),
            Step::Hold => {
                finalizers.push(json!(FINALIZER));
                (None, json!({"metadata": {"finalizers": finalizers}}))
            }
            Step::Release => {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                (None, json!({"metadata": {"finalizers": finalizers}}))
            }
            Step::Say(condition) => {
                let mut conditions = range["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.retain(|other| other["type"] != condition["type"]);
                conditions.push(condition);
                (Some("status"), json!({"status": {"conditions": conditions}}))
            }
        };
        match self.requests.edit(&resource_of::<ServiceCIDR>(), entry, subresource, &change).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Action::Done),
        }
    }
}

fn values(view: &View) -> Vec<Value> {
    view.list(None).iter().map(|entry| entry.to_value()).collect()
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn a_range_in_use_stays_until_its_last_address_goes() {
        let cluster = FakeCluster::new();
        let (ranges, addresses) = (resource_of::<ServiceCIDR>(), resource_of::<IPAddress>());
        cluster.serve_resource(&ranges, "ServiceCIDR", false);
        cluster.serve_resource(&addresses, "IPAddress", false);
        let labels = json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"});
        cluster.put(&addresses, json!({"metadata": {"name": "10.1.0.5", "labels": labels}}));
        cluster.put(&ranges, json!({"metadata": {"name": "extra"}, "spec": {"cidrs": ["10.1.0.0/24"]}}));
        let harness = Harness::start(&cluster, run);
        let key = ObjectKey::new("", "extra");
        let ready = || {
            let range = cluster.get(&ranges, &key).unwrap_or_default();
            range["status"]["conditions"][0]["status"].as_str().unwrap_or_default().to_owned()
        };
        eventually(|| ready() == "True").await;
        let mut dying = cluster.get(&ranges, &key).unwrap();
        assert_eq!(dying["metadata"]["finalizers"], json!([FINALIZER]));
        dying["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        cluster.put(&ranges, dying);
        eventually(|| ready() == "False").await;
        cluster.remove(&addresses, &ObjectKey::new("", "10.1.0.5"));
        let held = || cluster.get(&ranges, &key).is_some_and(|range| range["metadata"]["finalizers"][0] == FINALIZER);
        eventually(|| !held()).await;
        harness.stop().await;
    }
}
