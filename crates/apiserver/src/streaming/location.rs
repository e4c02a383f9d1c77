//! Which address a proxied request is for: `[scheme:]name[:port]` of a node, a Pod or a Service.

use std::net::{IpAddr, SocketAddr};

use api::object::ObjectKey;
use api::selector::label::LabelSelector;
use api::status::Status;
use serde_json::Value;

use super::find;
use crate::cache::{Filter, ResourceCache};
use crate::request::ResourceRequest;
use crate::server::ApiServer;

/// The kubelet's port where its Node does not name one.
const KUBELET: u64 = 10250;

/// Where a request goes.
pub(super) enum Location {
    /// The kubelet of a Node object.
    Kubelet(Value),
    Address {
        /// The Node that has the address, where that is known.
        node: Option<Value>,
        address: SocketAddr,
        /// Speaks TLS. Who is there is not asked: no authority signs for addresses of Pods.
        tls: bool,
    },
}

/// `[scheme:]name[:port]`, read.
#[derive(Debug, PartialEq)]
struct Id<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https");
        (known && !name.is_empty()).then_some(Self { tls: scheme == "https", name, port })
    }

    /// The port's number, or that of the scheme.
    fn number(&self) -> Option<u16> {
        match self.port {
            "" if self.tls => Some(443),
            "" => Some(80),
            port => port.parse().ok().filter(|port| *port > 0),
        }
    }
}

/// Finds where a request to `.../proxy` goes.
pub(super) async fn find_location(server: &ApiServer, target: &ResourceRequest) -> Result<Location, Status> {
    let kind = target.resource.trim_end_matches('s');
    let invalid = || Status::bad_request(format!("invalid {kind} request \"{}\"", target.name));
    let id = Id::parse(&target.name).ok_or_else(invalid)?;
    server.registry.caches.reach_current().await;
    match target.resource.as_str() {
        "nodes" => node(find(server, "nodes", &ObjectKey::new("", id.name))?, &id).ok_or_else(invalid)?,
        "pods" => {
            let pod = find(server, "pods", &ObjectKey::new(target.namespace.as_str(), id.name))?;
            let (address, tls) = pod_address(&pod, id).ok_or_else(invalid)??;
            let node = node_of(server, pod["spec"]["nodeName"].as_str());
            Ok(Location::Address { node, address, tls })
        }
        _ => {
            let service = find(server, "services", &ObjectKey::new(target.namespace.as_str(), id.name))?;
            let port = service_port(&service, &id)?;
            let slices = slices_of(server.outbound.slices(), &target.namespace, id.name);
            let endpoints = endpoints(&slices, &port);
            let chosen = endpoints.get(random_below(endpoints.len()));
            let (address, node) = chosen.ok_or_else(|| {
                Status::unavailable(format!("no endpoints available for service \"{}\"", target.name))
            })?;
            Ok(Location::Address { node: node_of(server, *node), address: proxyable(*address)?, tls: id.tls })
        }
    }
}

fn node_of(server: &ApiServer, name: Option<&str>) -> Option<Value> {
    find(server, "nodes", &ObjectKey::new("", name?)).ok()
}

/// A node's kubelet unless another port is named; `None` if that is none.
fn node(node: Value, id: &Id<'_>) -> Option<Result<Location, Status>> {
    let kubelet = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().filter(|port| *port > 0);
    if id.port.is_empty() || id.port == kubelet.unwrap_or(KUBELET).to_string() {
        return Some(Ok(Location::Kubelet(node)));
    }
    let port = id.number()?;
    let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
    let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
    let ip = internal.and_then(|address| address["address"].as_str()?.parse::<IpAddr>().ok());
    Some(match ip {
        Some(ip) => proxyable(SocketAddr::new(ip, port)).map(|address| Location::Address {
            node: Some(node),
            address,
            tls: id.tls,
        }),
        None => Err(Status::bad_request("address not allowed")),
    })
}

/// A Pod's own address, and the port named or the first that it declares; `None` if what is named is no port.
fn pod_address(pod: &Value, id: Id<'_>) -> Option<Result<(SocketAddr, bool), Status>> {
    let declared = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut declared = declared.filter_map(|it| it["ports"][0]["containerPort"].as_u64());
    let port = match id.port {
        "" => declared.next().and_then(|port| u16::try_from(port).ok()).or_else(|| id.number())?,
        _ => id.number()?,
    };
    let ip = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
    Some(match ip {
        Some(ip) => proxyable(SocketAddr::new(ip, port)).map(|address| (address, id.tls)),
        None => Err(Status::bad_request("address not allowed")),
    })
}

/// Addresses by which a user would reach the server itself or its host are not passed on to.
fn proxyable(address: SocketAddr) -> Result<SocketAddr, Status> {
    // What IPv6 writes of an IPv4 address leads to the same host.
    let ip = address.ip().to_canonical();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(address)
}

/// The name of the Service's port that is meant by name or number.
fn service_port(service: &Value, id: &Id<'_>) -> Result<String, Status> {
    let Ok(number) = id.port.parse::<u64>() else { return Ok(id.port.to_owned()) };
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let mut named = ports.filter(|port| port["port"].as_u64() == Some(number)).map(|port| port["name"].as_str());
    match named.next_back() {
        Some(name) => Ok(name.unwrap_or_default().to_owned()),
        None => Err(Status::unavailable(format!("no service port {number} found for service \"{}\"", id.name))),
    }
}

/// The EndpointSlices of a Service, as they are known now.
pub(crate) fn slices_of(slices: &ResourceCache, namespace: &str, service: &str) -> Vec<Value> {
    let Ok(labels) = LabelSelector::parse(&format!("kubernetes.io/service-name={service}")) else { return Vec::new() };
    let filter = Filter { namespace: Some(namespace.to_owned()), labels, fields: Vec::new() };
    slices.list(&filter).entries.iter().map(|entry| entry.to_value()).collect()
}

/// The ready endpoints of a port, each with the name of its node.
pub(crate) fn endpoints<'a>(slices: &'a [Value], port: &str) -> Vec<(SocketAddr, Option<&'a str>)> {
    let mut found = Vec::new();
    for slice in slices {
        let ports = slice["ports"].as_array().into_iter().flatten();
        let mut ports = ports.filter(|it| it["name"].as_str().unwrap_or_default() == port);
        let number = ports.next().and_then(|it| u16::try_from(it["port"].as_u64()?).ok());
        let Some(number) = number else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let ready = endpoint["conditions"]["ready"].as_bool().unwrap_or(true);
            let ip = endpoint["addresses"][0].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
            if let (true, Some(ip)) = (ready, ip) {
                found.push((SocketAddr::new(ip, number), endpoint["nodeName"].as_str()));
            }
        }
    }
    found
}

pub(crate) fn random_below(count: usize) -> usize {
    let mut random = [0; 4];
    // Without randomness the first is chosen, which is only less even.
    let _even = getrandom::fill(&mut random);
    u32::from_le_bytes(random) as usize % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_have_schemes_and_ports() {
        let id = |tls, name, port| Some(Id { tls, name, port });
        assert_eq!(Id::parse("web"), id(false, "web", ""));
        assert_eq!(Id::parse("web:http"), id(false, "web", "http"));
        assert_eq!(Id::parse("https:web:"), id(true, "web", ""));
        assert_eq!(Id::parse("http:web:80"), id(false, "web", "80"));
        for none in ["", ":80", "ftp:web:80", "a:b:c:d"] {
            assert_eq!(Id::parse(none), None, "{none}");
        }
    }

    #[test]
    fn a_pod_is_reached_at_the_first_port_that_it_declares() {
        let pod = |ip: &str| {
            json!({
                "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]},
                "status": {"podIP": ip},
            })
        };
        let address = |ip: &str, id: &str| pod_address(&pod(ip), Id::parse(id).unwrap());
        assert_eq!(address("10.42.0.7", "p").unwrap().unwrap(), ("10.42.0.7:8080".parse().unwrap(), false));
        assert_eq!(address("10.42.0.7", "https:p:9").unwrap().unwrap(), ("10.42.0.7:9".parse().unwrap(), true));
        assert_eq!(address("fd00::7", "p:9").unwrap().unwrap().0, "[fd00::7]:9".parse().unwrap());
        assert!(address("10.42.0.7", "p:http").is_none());
        for forbidden in ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", ""] {
            assert_eq!(address(forbidden, "p").unwrap().unwrap_err().message, "address not allowed", "{forbidden}");
        }
    }

    #[test]
    fn a_services_port_is_named_or_numbered() {
        let service = json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}});
        let port = |id: &str| service_port(&service, &Id::parse(id).unwrap());
        assert_eq!(port("s:81").unwrap(), "admin");
        assert_eq!(port("s:http").unwrap(), "http");
        assert_eq!(port("s:82").unwrap_err().message, "no service port 82 found for service \"s\"");

        let slice = json!({
            "ports": [{"name": "admin", "port": 8081}],
            "endpoints": [
                {"addresses": ["10.42.0.7"], "nodeName": "n1", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.8"], "conditions": {"ready": false}},
            ],
        });
        let expected = [("10.42.0.7:8081".parse().unwrap(), Some("n1"))];
        assert_eq!(endpoints(std::slice::from_ref(&slice), "admin"), expected);
        assert_eq!(endpoints(std::slice::from_ref(&slice), ""), []);
    }
}
