//! Addresses and node ports of Services, given out as Services are written.
//!
//! What is taken is what the stored Services hold ([`index`]), and what was given to writes that are still on their way:
//! no table of its own can drift from them.

mod index;
mod keeper;
mod ranges;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::object::ObjectKey;
use api::status::{Cause, Status};
use ipnet::IpNet;
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::BoxFuture;

use crate::admission::{Operation, Plugin, Request};
use crate::cache::{Caches, ResourceCache};
use crate::document::Document;
use index::Index;

pub(crate) use keeper::{ensure_default, keep};
pub(crate) use ranges::Ranges;

/// How often a random choice is made before the whole range is walked.
const DRAWS: usize = 16;
/// Choices of writes that are still on their way: the latest of them, for as long as a write may take.
const IN_FLIGHT: usize = 1024;
const FLIGHT: Duration = Duration::from_secs(10);

/// Gives Services their ClusterIPs and node ports.
pub(crate) struct ServiceAddresses {
    caches: Arc<Caches>,
    services: Arc<ResourceCache>,
    ranges: Ranges,
    ports: RangeInclusive<u16>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    index: Index,
    in_flight: VecDeque<Claim>,
}

/// What was given to a Service whose write the cache does not show yet. A write that fails leaves its claim, which is
/// one candidate fewer for a moment.
struct Claim {
    service: ObjectKey,
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
    since: Instant,
}

/// What others than one Service hold or are about to hold.
#[derive(Clone, Copy)]
struct Taken<'a> {
    known: &'a Known,
    by_others_than: &'a ObjectKey,
}

impl Taken<'_> {
    fn has_ip(&self, ip: &IpAddr) -> bool {
        self.known.index.holder_of_ip(ip).is_some_and(|holder| holder != self.by_others_than)
            || self.claims().any(|claim| claim.ips.contains(ip))
    }

    fn has_port(&self, port: u16) -> bool {
        self.known.index.holder_of_port(port).is_some_and(|holder| holder != self.by_others_than)
            || self.claims().any(|claim| claim.ports.contains(&port))
    }

    fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.known.in_flight.iter().filter(|claim| claim.service != *self.by_others_than)
    }
}

impl ServiceAddresses {
    pub(crate) fn new(
        caches: Arc<Caches>,
        services: Arc<ResourceCache>,
        ranges: Ranges,
        ports: RangeInclusive<u16>,
    ) -> Self {
        Self { caches, services, ranges, ports, known: Mutex::default() }
    }
}

impl Plugin for ServiceAddresses {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async move {
            if !request.is("", "services") || request.operation == Operation::Delete {
                return Ok(());
            }
            self.caches.reach_current().await;
            let (name, old, dry_run) = (request.name.clone(), request.old.clone(), request.dry_run);
            match &mut request.object {
                Some(service) => self.fill(service, old.as_ref(), &name, dry_run),
                None => Ok(()),
            }
        })
    }
}

impl ServiceAddresses {
    fn fill(&self, service: &mut Value, old: Option<&Value>, name: &str, dry_run: bool) -> Result<(), Status> {
        let key = ObjectKey::new(service.namespace(), service.name());
        // Held until the claim is made: two writes at once must not choose the same.
        let mut known = self.known.lock();
        self.refresh(&mut known);
        let taken = Taken { known: &known, by_others_than: &key };
        self.cluster_ips(service, old, taken).map_err(|cause| invalid(name, service, cause))?;
        self.node_ports(service, old, taken).map_err(|cause| invalid(name, service, cause))?;
        if !dry_run {
            let (ips, ports) = (cluster_ips(&service["spec"]), node_ports(&service["spec"]));
            known.in_flight.push_back(Claim { service: key, ips, ports, since: Instant::now() });
        }
        Ok(())
    }

    /// Claims that are settled or too old are forgotten.
    fn refresh(&self, known: &mut Known) {
        known.index.catch_up(&self.services);
        let in_flight = &mut known.in_flight;
        in_flight.retain(|claim| claim.since.elapsed() < FLIGHT && self.services.get(&claim.service).is_none());
        while in_flight.len() >= IN_FLIGHT {
            in_flight.pop_front();
        }
    }

    fn cluster_ips(&self, service: &mut Value, old: Option<&Value>, taken: Taken<'_>) -> Result<(), Cause> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        if spec["clusterIP"].as_str().unwrap_or_default().is_empty()
            && let Some(kept) = old.map(|old| &old["spec"]).filter(|old| old["clusterIP"].is_string())
        {
            spec["clusterIP"] = kept["clusterIP"].clone();
            spec["clusterIPs"] = kept["clusterIPs"].clone();
        }
        let asked = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        let primary = self.ranges.configured().first().copied();
        let ip = match asked.as_str() {
            "None" => {
                spec["clusterIPs"] = json!(["None"]);
                families(spec, primary.is_some_and(|cidr| cidr.addr().is_ipv6()));
                return Ok(());
            }
            "" => self
                .draw_ip(taken)
                .ok_or_else(|| exhausted("spec.clusterIPs", "failed to allocate IP: range is full"))?,
            text => self.claim_ip(text, taken)?,
        };
        spec["clusterIP"] = json!(ip.to_string());
        spec["clusterIPs"] = json!([ip.to_string()]);
        families(spec, ip.is_ipv6());
        Ok(())
    }

    fn draw_ip(&self, taken: Taken<'_>) -> Option<IpAddr> {
        let ranges = self.ranges.like(self.ranges.configured().first()?);
        ranges.iter().find_map(|cidr| self.draw_from(cidr, taken))
    }

    fn draw_from(&self, cidr: &IpNet, taken: Taken<'_>) -> Option<IpAddr> {
        // Network and broadcast addresses are never given, nor the first, which is the API server's own.
        let size = host_count(cidr).saturating_sub(2);
        let at = |offset: u128| nth_address(cidr, offset);
        let drawn = (0..DRAWS).map(|_| at(2 + random() % size.max(1)));
        drawn.chain((2..=size).map(at)).find(|ip| !taken.has_ip(ip) && !self.ranges.is_reserved(ip))
    }

    fn claim_ip(&self, text: &str, taken: Taken<'_>) -> Result<IpAddr, Cause> {
        let refuse = |why: &str| Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: [\"{text}\"]: {why}"),
            field: "spec.clusterIPs".to_owned(),
        };
        let ip: IpAddr =
            text.parse().map_err(|_| refuse("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))?;
        let Some(cidr) = self.ranges.configured().iter().find(|cidr| cidr.addr().is_ipv4() == ip.is_ipv4()) else {
            return Err(refuse("failed to allocate IP: the provided IP family is not configured"));
        };
        if !self.ranges.like(cidr).iter().any(|range| range.contains(&ip)) {
            return Err(refuse(&format!(
                "failed to allocate IP {ip}: the provided network does not match the current range"
            )));
        }
        if taken.has_ip(&ip) || self.ranges.is_reserved(&ip) {
            return Err(refuse(&format!("failed to allocate IP {ip}: provided IP is already allocated")));
        }
        Ok(ip)
    }

    fn node_ports(&self, service: &mut Value, old: Option<&Value>, taken: Taken<'_>) -> Result<(), Cause> {
        let spec = &mut service["spec"];
        let allocates = match spec["type"].as_str() {
            Some("NodePort") => true,
            Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"].as_bool().unwrap_or(true),
            _ => false,
        };
        let mut mine = BTreeSet::new();
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for (at, port) in ports.into_iter().flatten().enumerate() {
            let asked = port["nodePort"].as_u64().unwrap_or(0);
            let had = old.and_then(|old| same_port(old, port));
            let chosen = match (asked, had) {
                (0, _) if !allocates => continue,
                (0, Some(had)) => had,
                (0, None) => self
                    .draw_port(taken, &mine)
                    .ok_or_else(|| exhausted("spec.ports", "failed to allocate a nodePort: range is full"))?,
                (asked, _) => self.claim_port(asked, at, taken)?,
            };
            mine.insert(chosen);
            port["nodePort"] = json!(chosen);
        }
        let checked = spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
        if checked && spec["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
            let had = old.and_then(|old| old["spec"]["healthCheckNodePort"].as_u64()).filter(|port| *port > 0);
            let full = || exhausted("spec.healthCheckNodePort", "failed to allocate a nodePort: range is full");
            let chosen = match had {
                Some(had) => had,
                None => u64::from(self.draw_port(taken, &mine).ok_or_else(full)?),
            };
            spec["healthCheckNodePort"] = json!(chosen);
        }
        Ok(())
    }

    fn draw_port(&self, taken: Taken<'_>, mine: &BTreeSet<u16>) -> Option<u16> {
        let count = u128::from(self.ports.end() - self.ports.start()) + 1;
        let drawn = (0..DRAWS).map(|_| self.ports.start() + (random() % count) as u16);
        drawn.chain(self.ports.clone()).find(|port| !taken.has_port(*port) && !mine.contains(port))
    }

    fn claim_port(&self, asked: u64, at: usize, taken: Taken<'_>) -> Result<u16, Cause> {
        let refuse = |why: &str| Cause {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {asked}: {why}"),
            field: format!("spec.ports[{at}].nodePort"),
        };
        let port = u16::try_from(asked).ok().filter(|port| self.ports.contains(port)).ok_or_else(|| {
            let (first, last) = (self.ports.start(), self.ports.end());
            refuse(&format!("provided port is not in the valid range. The range of valid ports is {first}-{last}"))
        })?;
        if taken.has_port(port) {
            return Err(refuse("provided port is already allocated"));
        }
        Ok(port)
    }
}

/// The node port that the same port of the Service had.
fn same_port(old: &Value, port: &Value) -> Option<u16> {
    let ports = old["spec"]["ports"].as_array()?;
    let same = |known: &&Value| known["port"] == port["port"] && known["protocol"] == port["protocol"];
    ports.iter().find(same)?["nodePort"].as_u64().and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0)
}

fn families(spec: &mut Value, v6: bool) {
    if spec["ipFamilies"].as_array().is_none_or(Vec::is_empty) {
        spec["ipFamilies"] = json!([if v6 { "IPv6" } else { "IPv4" }]);
    }
    if !spec["ipFamilyPolicy"].is_string() {
        spec["ipFamilyPolicy"] = json!("SingleStack");
    }
}

fn cluster_ips(spec: &Value) -> Vec<IpAddr> {
    let listed = spec["clusterIPs"].as_array().into_iter().flatten();
    listed.chain([&spec["clusterIP"]]).filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

fn node_ports(spec: &Value) -> Vec<u16> {
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| &port["nodePort"]);
    let all = ports.chain([&spec["healthCheckNodePort"]]);
    all.filter_map(|port| u16::try_from(port.as_u64()?).ok()).filter(|port| *port > 0).collect()
}

fn host_count(cidr: &IpNet) -> u128 {
    let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
    1u128.checked_shl(bits).unwrap_or(u128::MAX)
}

fn nth_address(cidr: &IpNet, offset: u128) -> IpAddr {
    match cidr.network() {
        IpAddr::V4(network) => IpAddr::V4((u32::from(network).wrapping_add(offset as u32)).into()),
        IpAddr::V6(network) => IpAddr::V6((u128::from(network).wrapping_add(offset)).into()),
    }
}

fn random() -> u128 {
    let mut bytes = [0u8; 8];
    // Without randomness the walk through the range finds what is free.
    let _ = getrandom::fill(&mut bytes);
    u128::from(u64::from_le_bytes(bytes))
}

fn exhausted(field: &str, why: &str) -> Cause {
    Cause { reason: "InternalError", message: why.to_owned(), field: field.to_owned() }
}

fn invalid(name: &str, service: &Value, cause: Cause) -> Status {
    let name = if name.is_empty() { service.name() } else { name };
    Status::invalid("", "Service", name, vec![cause])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_within_their_range() {
        let cidr: IpNet = "10.43.0.0/16".parse().unwrap();
        assert_eq!(host_count(&cidr), 65536);
        assert_eq!(nth_address(&cidr, 10).to_string(), "10.43.0.10");
        let v6: IpNet = "fd00::/112".parse().unwrap();
        assert_eq!(nth_address(&v6, 255).to_string(), "fd00::ff");
    }

    #[test]
    fn a_port_keeps_its_number() {
        let old = json!({"spec": {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30001}]}});
        assert_eq!(same_port(&old, &json!({"port": 80, "protocol": "TCP"})), Some(30001));
        assert_eq!(same_port(&old, &json!({"port": 80, "protocol": "UDP"})), None);
    }
}
