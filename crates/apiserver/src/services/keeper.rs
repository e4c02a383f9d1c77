//! The default ServiceCIDR, and an IPAddress for each ClusterIP.
//!
//! The Services are the truth. An IPAddress that a Service lacks is made, one whose Service is gone goes, also when that
//! happened while the server was away (upstream: `pkg/registry/core/service/ipallocator/controller`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::status::Status;
use bytes::Bytes;
use client::informer::{Change, Informers, Scope};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::cluster_ips;
use super::index::Index;
use super::ranges::{MANAGED_BY, is_of_service};
use crate::authn::{MASTERS, User};
use crate::bootstrap;
use crate::cache::ResourceCache;
use crate::clock;
use crate::registry::{Call, DeleteOptions, Served};
use crate::request::ResourceRequest;
use crate::server::ApiServer;

const GROUP: &str = "networking.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// The ServiceCIDR that stands for the ranges that the server was told.
const DEFAULT: &str = "kubernetes";

/// What becomes of an IPAddress.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Keep,
    Make,
    Remove,
    /// It says that somebody else holds it.
    Replace,
}

/// Makes the default ServiceCIDR if it is not there, and calls it ready if nobody has said anything about it.
pub(crate) async fn ensure_default(server: &ApiServer) -> Result<(), Status> {
    let cidrs: Vec<String> = server.service_cidrs.iter().map(ToString::to_string).collect();
    if cidrs.is_empty() {
        return Ok(());
    }
    let wanted = json!({"metadata": {"name": DEFAULT}, "spec": {"cidrs": cidrs}});
    bootstrap::ensure(server, GROUP, "servicecidrs", wanted).await?;
    let served = server.registry.catalogue.find(GROUP, "v1", "servicecidrs").ok_or_else(Status::path_not_found)?;
    let Some(cache) = &served.cache else { return Ok(()) };
    let Some(live) = server.registry.fresh(cache, &ObjectKey::new("", DEFAULT)).await? else { return Ok(()) };
    let mut range = live.to_value();
    let said = range["status"]["conditions"].as_array().is_some_and(|conditions| !conditions.is_empty());
    if said || range["metadata"].get("deletionTimestamp").is_some() || range["spec"]["cidrs"] != json!(cidrs) {
        return Ok(());
    }
    range["status"]["conditions"] = json!([{
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": clock::now(),
    }]);
    let mut call = call("update", "servicecidrs", DEFAULT);
    "status".clone_into(&mut call.target.subresource);
    server.registry.update_object(&served, &mut call, range).await.map(drop)
}

/// Keeps both until `stop`.
pub(crate) async fn keep(server: Arc<ApiServer>, tasks: TaskTracker, stop: CancellationToken) {
    let Some(served) = server.registry.catalogue.find(GROUP, "v1", "ipaddresses") else { return };
    let cache = |group, plural| server.registry.catalogue.preferred(group, plural).and_then(|it| it.cache.clone());
    let (Some(addresses), Some(services)) = (served.cache.clone(), cache("", "services")) else { return };
    let informers = server.informers(tasks, stop.clone());
    let follow = |group, resource| informers.informer(Scope::all(group, "v1", resource)).subscribe();
    let mut of_services = follow("", "services");
    let mut of_addresses = follow(GROUP, "ipaddresses");
    let mut of_ranges = follow(GROUP, "servicecidrs");
    let mut keeper = Keeper { server: server.clone(), served, addresses, services, index: Index::default() };
    loop {
        let concerned = tokio::select! {
            () = stop.cancelled() => return,
            change = of_services.recv() => change.map(|change| keeper.by_service(&change)),
            change = of_addresses.recv() => change.map(|change| keeper.by_address(&change)),
            change = of_ranges.recv() => match change {
                Some(Change::Deleted(gone)) if gone.key.name == DEFAULT => {
                    log(ensure_default(&server).await, "the default ServiceCIDR cannot be made again");
                    Some(BTreeSet::new())
                }
                change => change.map(|_| BTreeSet::new()),
            },
        };
        let Some(concerned) = concerned else { return };
        for ip in concerned {
            log(keeper.settle(ip).await, "an IPAddress cannot be kept");
        }
    }
}

fn log(outcome: Result<(), Status>, what: &str) {
    if let Err(status) = outcome {
        warn!(why = status.message, "{what}");
    }
}

struct Keeper {
    server: Arc<ApiServer>,
    /// IPAddresses.
    served: Arc<Served>,
    addresses: Arc<ResourceCache>,
    services: Arc<ResourceCache>,
    index: Index,
}

impl Keeper {
    fn by_service(&self, change: &Change) -> BTreeSet<IpAddr> {
        let of = |entry: &Arc<Entry>| cluster_ips(&entry.to_value()["spec"]);
        match change {
            Change::Applied { old, new } => of(new).into_iter().chain(old.iter().flat_map(of)).collect(),
            Change::Deleted(last) => of(last).into_iter().collect(),
            Change::Resync => self.all(),
            Change::Synced => BTreeSet::new(),
        }
    }

    fn by_address(&self, change: &Change) -> BTreeSet<IpAddr> {
        match change {
            Change::Applied { new: entry, .. } | Change::Deleted(entry) => entry.key.name.parse().into_iter().collect(),
            Change::Resync => self.all(),
            Change::Synced => BTreeSet::new(),
        }
    }

    /// Every address that somebody holds or is said to hold.
    fn all(&self) -> BTreeSet<IpAddr> {
        let everything = crate::cache::Filter::default();
        let services = self.services.list(&everything).entries;
        let held = services.iter().flat_map(|entry| cluster_ips(&entry.to_value()["spec"]));
        let addresses = self.addresses.list(&everything).entries;
        held.chain(addresses.iter().filter_map(|entry| entry.key.name.parse().ok())).collect()
    }

    async fn settle(&mut self, ip: IpAddr) -> Result<(), Status> {
        self.index.catch_up(&self.services);
        let holder = self.index.holder_of_ip(&ip).cloned();
        let entry = self.addresses.get(&ObjectKey::new("", ip.to_string()));
        let step = plan(holder.as_ref(), entry.as_deref());
        if matches!(step, Step::Remove | Step::Replace) {
            self.remove(ip).await?;
        }
        match (step, holder) {
            (Step::Make | Step::Replace, Some(holder)) => self.make(ip, &holder).await,
            _ => Ok(()),
        }
    }

    async fn make(&self, ip: IpAddr, service: &ObjectKey) -> Result<(), Status> {
        let mut call = call("create", "ipaddresses", "");
        match self.server.registry.create_object(&self.served, &mut call, address(ip, service)).await {
            Err(status) if status.reason != "AlreadyExists" => Err(status),
            _ => Ok(()),
        }
    }

    async fn remove(&self, ip: IpAddr) -> Result<(), Status> {
        let mut call = call("delete", "ipaddresses", &ip.to_string());
        match self.server.registry.delete_with(&self.served, &mut call, DeleteOptions::default()).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }
}

/// What becomes of the IPAddress of an address that `holder` holds.
fn plan(holder: Option<&ObjectKey>, address: Option<&Entry>) -> Step {
    let (Some(address), Some(holder)) = (address, holder) else {
        return match (address, holder) {
            (None, Some(_)) => Step::Make,
            (Some(address), None) if is_of_service(address) => Step::Remove,
            _ => Step::Keep,
        };
    };
    let parent = address.to_value()["spec"]["parentRef"].take();
    let is_its = parent["resource"] == "services"
        && parent["namespace"] == holder.namespace.as_str()
        && parent["name"] == holder.name.as_str();
    if is_its && is_of_service(address) { Step::Keep } else { Step::Replace }
}

fn address(ip: IpAddr, service: &ObjectKey) -> Value {
    let family = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": ip.to_string(), "labels": {FAMILY: family, MANAGED_BY.0: MANAGED_BY.1}},
        "spec": {"parentRef": {"resource": "services", "namespace": service.namespace, "name": service.name}},
    })
}

fn call(verb: &'static str, resource: &str, name: &str) -> Call {
    let target = ResourceRequest {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        ..ResourceRequest::default()
    };
    let mut call = Call::internal(User::component("system:apiserver", &[MASTERS]), verb, target, Bytes::new());
    "fieldManager=kube-apiserver".clone_into(&mut call.query);
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_their_services() {
        let ip: IpAddr = "10.43.0.5".parse().unwrap();
        let (web, api) = (ObjectKey::new("shop", "web"), ObjectKey::new("shop", "api"));
        let entry = |value: Value| Entry::from_value(value, 1, &[]).unwrap();
        let of_web = entry(address(ip, &web));
        assert_eq!(plan(Some(&web), None), Step::Make);
        assert_eq!(plan(Some(&web), Some(&of_web)), Step::Keep);
        assert_eq!(plan(Some(&api), Some(&of_web)), Step::Replace);
        assert_eq!(plan(None, Some(&of_web)), Step::Remove);
        let mut foreign = address(ip, &web);
        foreign["metadata"]["labels"] = json!({});
        assert_eq!(plan(None, Some(&entry(foreign))), Step::Keep, "that is somebody else's");
        assert_eq!(plan(None, None), Step::Keep);
    }
}
