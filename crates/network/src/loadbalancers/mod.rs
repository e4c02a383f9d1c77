//! Services of type LoadBalancer get the addresses of nodes (ServiceLB's job).
//!
//! Every node's rules serve these addresses (`services/`), so there is nothing to run: a load balancer here is the list
//! of nodes in `status.loadBalancer`. Services with a `loadBalancerClass` are somebody else's.
//!
//! Runs once in a cluster: whoever starts it holds the lease of the service controller.

pub mod observe;
pub mod plan;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use client::informer::Informers;
use client::patch::Patch;
use client::request::{RequestError, Requests};
use client::typed::resource_of;
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use observe::Observer;

/// How long after a failed write it is tried again, unless something changes before.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the addresses of load balancers until `token` is cancelled.
pub async fn run(informers: Arc<dyn Informers>, client: kube::Client, token: CancellationToken) {
    let requests = Requests::new(client);
    let mut observer = Observer::new(&*informers);
    let mut retry = None;
    loop {
        tokio::select! {
            () = token.cancelled() => return,
            () = observer.changed() => {}
            () = at(retry) => {}
        }
        if !observer.synced() {
            continue;
        }
        retry = None;
        for change in plan::plan(&observer.observed()) {
            if let Err(error) = write(&requests, &change).await {
                tracing::warn!(service = %change.service, %error, "load balancer's addresses not written");
                retry = Some(Instant::now() + RETRY);
            }
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The addresses that a Service is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub service: ObjectKey,
    pub uid: String,
    pub addresses: Vec<IpAddr>,
}

async fn write(requests: &Requests, change: &Change) -> Result<(), RequestError> {
    let ingress: Vec<_> = change.addresses.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
    let ingress = if ingress.is_empty() { json!(null) } else { json!(ingress) };
    let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}})).guarded(&change.uid, "");
    match requests.patch_sub(&resource_of::<Service>(), &change.service, "status", &patch).await {
        // It is gone, or another has its name: what comes next tells.
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}
