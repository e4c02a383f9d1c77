//! The Services by which a cluster's own API and DNS are found, with their endpoints.
//!
//! Neither has a selector: no Pod serves them. They are applied at every start, so that an address that has changed is
//! told to everybody. And the right of nodes to read what Services and DNS are made of: upstream's nodes run these as
//! programs with identities of their own, ours as parts of one process.

use std::net::IpAddr;
use std::sync::Arc;

use api::status::Status;
use apiserver::authn::User;
use apiserver::bootstrap;
use apiserver::registry::Call;
use apiserver::server::ApiServer;
use bytes::Bytes;
use futures::try_join;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tracing::warn;

/// The owner of what is published.
const MANAGER: &str = "k3rs";

/// Where the cluster's own services are.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// This API server, as nodes reach it.
    pub server: IpAddr,
    pub server_port: u16,
    /// The first address of the Service range, by which Pods reach the API.
    pub api_service: IpAddr,
    pub dns: Vec<IpAddr>,
}

/// The role of a node beyond upstream's `system:node`, and its name's binding to all nodes.
const NODE_ROLE: &str = "system:k3rs-node";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Lets nodes read what Services and names are made of.
pub async fn allow_nodes(api: &Arc<ApiServer>) -> Result<(), Status> {
    let metadata = json!({"name": NODE_ROLE, "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}});
    let reads = |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["get", "list", "watch"]});
    let role = json!({
        "metadata": metadata,
        "rules": [reads("", &["namespaces", "nodes"]), reads("discovery.k8s.io", &["endpointslices"])],
    });
    let binding = json!({
        "metadata": metadata,
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": NODE_ROLE},
        "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": "system:nodes"}],
    });
    let (role, binding) = (
        bootstrap::ensure(api, RBAC, "clusterroles", role),
        bootstrap::ensure(api, RBAC, "clusterrolebindings", binding),
    );
    try_join!(role, binding).map(drop)
}

/// Publishes `default/kubernetes` and `kube-system/kube-dns`.
pub async fn publish(api: &Arc<ApiServer>, addresses: &Addresses) -> Result<(), Status> {
    // Side by side, so that the store commits them together.
    try_join!(publish_api(api, addresses), publish_dns(api, addresses)).map(drop)
}

async fn publish_api(api: &Arc<ApiServer>, addresses: &Addresses) -> Result<(), Status> {
    let port = addresses.server_port;
    let service = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"type": "ClusterIP", "clusterIP": addresses.api_service, "clusterIPs": [addresses.api_service],
                 "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]},
    });
    let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
    try_join!(apply(api, "", "services", "Service", service), publish_endpoints(api, addresses, &ports)).map(drop)
}

async fn publish_dns(api: &Arc<ApiServer>, addresses: &Addresses) -> Result<(), Status> {
    let Some(dns) = addresses.dns.first() else { return Ok(()) };
    let port = |name: &str, protocol: &str| json!({"name": name, "port": 53, "protocol": protocol});
    let service = json!({
        "metadata": {"name": "kube-dns", "namespace": "kube-system",
                     "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"type": "ClusterIP", "clusterIP": dns, "clusterIPs": [dns],
                 "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]},
    });
    let slice = slice(api, "kube-system", "kube-dns", *dns, json!([port("dns", "UDP"), port("dns-tcp", "TCP")]));
    try_join!(apply(api, "", "services", "Service", service), slice).map(drop)
}

/// Where Pods find the API behind its Service.
async fn publish_endpoints(api: &Arc<ApiServer>, addresses: &Addresses, ports: &Value) -> Result<(), Status> {
    if addresses.server.is_loopback() {
        warn!("this host has no address that Pods could reach: say --node-ip or --advertise-address");
        return Ok(());
    }
    let subsets = json!([{"addresses": [{"ip": addresses.server}], "ports": ports}]);
    // Mirrored by hand below, as upstream does, so that the slice has the name that clients know.
    let endpoints = json!({
        "metadata": {"name": "kubernetes", "namespace": "default",
                     "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets,
    });
    let slice = slice(api, "default", "kubernetes", addresses.server, ports.clone());
    try_join!(apply(api, "", "endpoints", "Endpoints", endpoints), slice).map(drop)
}

/// The EndpointSlice of a Service with one endpoint.
async fn slice(api: &Arc<ApiServer>, namespace: &str, service: &str, at: IpAddr, ports: Value) -> Result<(), Status> {
    let family = if at.is_ipv6() { "IPv6" } else { "IPv4" };
    let slice = json!({
        "metadata": {"name": service, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "endpoints": [{"addresses": [at], "conditions": {"ready": true}}],
        "ports": ports,
    });
    apply(api, "discovery.k8s.io", "endpointslices", "EndpointSlice", slice).await
}

async fn apply(api: &Arc<ApiServer>, group: &str, resource: &str, kind: &str, mut object: Value) -> Result<(), Status> {
    let served = api.registry.catalogue.preferred(group, resource).ok_or_else(Status::path_not_found)?;
    object["apiVersion"] = json!(served.api_version());
    object["kind"] = json!(kind);
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let target = apiserver::request::ResourceRequest {
        group: group.to_owned(),
        version: served.version.name.clone(),
        namespace: text("namespace"),
        resource: resource.to_owned(),
        name: text("name"),
        ..Default::default()
    };
    let user = User::component("system:apiserver", &["system:masters"]);
    let mut call = Call::internal(user, "patch", target, Bytes::from(object.to_string()));
    call.query = format!("fieldManager={MANAGER}&force=true");
    call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/apply-patch+yaml"));
    api.registry.handle(&served, &mut call).await.map(drop)
}
