//! Addresses and node ports of Services, given out as Services are written.
//!
//! What is taken is what the stored Services hold ([`index`]), and what was given to writes that are still on their way:
//! no table of its own can drift from them.

mod families;
mod figures;
mod index;
mod keeper;
mod ranges;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use families::Family;
use index::Index;

pub(crate) use figures::{FAMILIES, tell};
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
        let had = text(&service["spec"]["clusterIP"]).to_owned();
        self.cluster_ips(service, old, taken).map_err(|causes| invalid(name, service, causes))?;
        if old.is_none() && !dry_run {
            check_parent(service, &had).map_err(|cause| invalid(name, service, vec![cause]))?;
        }
        self.node_ports(service, old, taken).map_err(|cause| invalid(name, service, vec![cause]))?;
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

    fn cluster_ips(&self, service: &mut Value, old: Option<&Value>, taken: Taken<'_>) -> Result<(), Vec<Cause>> {
        let spec = &mut service["spec"];
        if !api::resources::core::services::needs_cluster_ip(spec) {
            return Ok(());
        }
        if text(&spec["clusterIP"]).is_empty()
            && let Some(kept) = old.map(|old| &old["spec"]).filter(|old| old["clusterIP"].is_string())
        {
            spec["clusterIP"] = kept["clusterIP"].clone();
            spec["clusterIPs"] = kept["clusterIPs"].clone();
        }
        let configured: Vec<Family> = self.ranges.configured().iter().map(|cidr| Family::of(cidr.addr())).collect();
        families::settle(spec, old.map(|old| &old["spec"]), &configured)?;
        if spec["clusterIP"] == "None" {
            return Ok(());
        }
        let wanted: Vec<Option<Family>> =
            list(&spec["ipFamilies"]).iter().map(|name| Family::named(text(name))).collect();
        let mut given = list(&spec["clusterIPs"]).to_vec();
        given.resize(given.len().max(wanted.len()), json!(""));
        let refuse = |given: &[Value], why: &str| Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {}: failed to allocate IP{why}", json!(given)),
            field: "spec.clusterIPs".to_owned(),
        };
        for (at, family) in wanted.into_iter().enumerate() {
            let mut configured = self.ranges.configured().iter();
            let Some(cidr) = configured.find(|cidr| Some(Family::of(cidr.addr())) == family) else { continue };
            let ranges = self.ranges.like(cidr);
            let ip = match text(&given[at]) {
                "" => ranges
                    .iter()
                    .find_map(|cidr| self.draw_ip(cidr, taken))
                    .ok_or_else(|| vec![exhausted("spec.clusterIPs", "failed to allocate IP: range is full")])?,
                asked => self.claim_ip(asked, &ranges, taken).map_err(|why| vec![refuse(&given, &why)])?,
            };
            given[at] = json!(ip.to_string());
        }
        spec["clusterIP"] = given.first().cloned().unwrap_or_default();
        spec["clusterIPs"] = json!(given);
        Ok(())
    }

    fn draw_ip(&self, cidr: &IpNet, taken: Taken<'_>) -> Option<IpAddr> {
        // Network and broadcast addresses are never given, nor the first, which is the API server's own.
        let size = host_count(cidr).saturating_sub(2);
        let at = |offset: u128| nth_address(cidr, offset);
        let drawn = (0..DRAWS).map(|_| at(2 + random() % size.max(1)));
        drawn.chain((2..=size).map(at)).find(|ip| !taken.has_ip(ip) && !self.ranges.is_reserved(ip))
    }

    /// The address that a Service asks for, or why it cannot have it.
    fn claim_ip(&self, asked: &str, ranges: &[IpNet], taken: Taken<'_>) -> Result<IpAddr, String> {
        match asked.parse::<IpAddr>() {
            Ok(ip) if !ranges.iter().any(|range| range.contains(&ip)) => {
                Err(format!(" {asked}: the provided network does not match the current range"))
            }
            Ok(ip) if taken.has_ip(&ip) || self.ranges.is_reserved(&ip) => {
                Err(format!(" {asked}: provided IP is already allocated"))
            }
            Ok(ip) => Ok(ip),
            Err(_) => Err(format!(" {asked}: it is no address")),
        }
    }

    fn node_ports(&self, service: &mut Value, old: Option<&Value>, taken: Taken<'_>) -> Result<(), Cause> {
        let spec = &mut service["spec"];
        let allocates = match spec["type"].as_str() {
            Some("NodePort") => true,
            Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"].as_bool().unwrap_or(true),
            _ => false,
        };
        let mut mine = BTreeSet::new();
        // Protocols of one port of a new Service share its node port.
        let mut of_port = BTreeMap::new();
        let ports = spec.get_mut("ports").and_then(Value::as_array_mut);
        for (at, port) in ports.into_iter().flatten().enumerate() {
            let asked = port["nodePort"].as_u64().unwrap_or(0);
            let had = match old {
                Some(old) => same_port(old, port),
                None => of_port.get(&port["port"].as_u64()).copied(),
            };
            let chosen = match (asked, had) {
                (0, _) if !allocates => continue,
                (0, Some(had)) => had,
                (0, None) => self
                    .draw_port(taken, &mine)
                    .ok_or_else(|| exhausted("spec.ports", "failed to allocate a nodePort: range is full"))?,
                (asked, Some(had)) if asked == u64::from(had) => had,
                (asked, _) => {
                    self.claim_port(asked, at, |port| taken.has_port(port) || (old.is_none() && mine.contains(&port)))?
                }
            };
            mine.insert(chosen);
            of_port.entry(port["port"].as_u64()).or_insert(chosen);
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

    fn claim_port(&self, asked: u64, at: usize, is_taken: impl Fn(u16) -> bool) -> Result<u16, Cause> {
        let refuse = |why: &str| Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {asked}: {why}"),
            field: format!("spec.ports[{at}].nodePort"),
        };
        let port = u16::try_from(asked).ok().filter(|port| self.ports.contains(port)).ok_or_else(|| {
            let (first, last) = (self.ports.start(), self.ports.end());
            refuse(&format!("provided port is not in the valid range. The range of valid ports is {first}-{last}"))
        })?;
        if is_taken(port) {
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
    Cause::new("InternalError", why, field)
}

/// An address is given to a Service that can be named: upstream records it in an IPAddress that refers to the Service,
/// and clients see that object's refusal.
fn check_parent(service: &Value, asked: &str) -> Result<(), Cause> {
    let (name, ip) = (service.name(), text(&service["spec"]["clusterIP"]));
    let why = match name {
        "" if service.meta("generateName").is_empty() => "Required value".to_owned(),
        name => match api::names::path_segment(name).first() {
            Some(why) => format!("Invalid value: \"{name}\": {why}"),
            None => return Ok(()),
        },
    };
    if matches!(ip, "" | "None") {
        return Ok(());
    }
    let which = if asked.is_empty() { String::new() } else { format!(" {asked}") };
    Err(Cause {
        reason: "FieldValueInvalid".into(),
        message: format!(
            "Invalid value: [\"{asked}\"]: failed to allocate IP{which}: IPAddress.networking.k8s.io \"{ip}\" is invalid: \
             spec.parentRef.name: {why}"
        ),
        field: "spec.clusterIPs".to_owned(),
    })
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn invalid(name: &str, service: &Value, causes: Vec<Cause>) -> Status {
    let name = if name.is_empty() { service.name() } else { name };
    Status::invalid("", "Service", name, causes)
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
