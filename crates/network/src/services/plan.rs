//! Observed Services -> the table that serves them. Pure: the same input gives the same table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::observe::{Endpoint, Observed, Port, Service};
use super::rules::{self, Balance, Frontend, Scope};
use crate::nftables::{Data, Family, Key, Protocol, Table, Value, Verdict};

/// What the cluster's networks are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The pod ranges of the whole cluster.
    pub cluster_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    /// Service addresses that this node serves itself, such as that of the cluster DNS.
    pub served_here: Vec<IpAddr>,
}

/// The rules, and what must be forgotten when it is no longer in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub table: Table,
    pub udp: UdpFrontends,
}

/// Where UDP clients may send to, and from where answers may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UdpFrontends {
    pub addresses: BTreeMap<SocketAddr, BTreeSet<SocketAddr>>,
    /// At any address of the node.
    pub ports: BTreeMap<u16, BTreeSet<SocketAddr>>,
}

/// The rules for what was observed.
pub fn plan(config: &Config, observed: &Observed) -> Plan {
    let mut planner = Planner {
        config,
        observed,
        table: rules::skeleton(&config.cluster_cidrs, &config.service_cidrs),
        udp: UdpFrontends::default(),
    };
    let slices = by_service(observed);
    for (key, service) in &observed.services {
        for port in &service.ports {
            for family in [Family::V4, Family::V6] {
                let endpoints = slices
                    .get(&(key.namespace.as_str(), key.name.as_str()))
                    .map(|slices| endpoints(slices, port, family, observed))
                    .unwrap_or_default();
                planner.service_port(service, port, family, &endpoints);
            }
        }
    }
    planner.host_ports();
    planner.hairpins();
    Plan { table: planner.table, udp: planner.udp }
}

type Slices<'a> = Vec<&'a super::observe::Slice>;

fn by_service(observed: &Observed) -> BTreeMap<(&str, &str), Slices<'_>> {
    let mut out: BTreeMap<_, Slices<'_>> = BTreeMap::new();
    for (key, slice) in &observed.slices {
        out.entry((key.namespace.as_str(), slice.service.as_str())).or_default().push(slice);
    }
    out
}

/// The endpoints of one port and family that take connections, sorted.
#[derive(Debug, Default)]
struct Endpoints {
    /// Of all nodes.
    cluster: Vec<SocketAddr>,
    /// Of this node.
    local: Vec<SocketAddr>,
}

fn endpoints(slices: &[&super::observe::Slice], port: &Port, family: Family, observed: &Observed) -> Endpoints {
    let mut all: Vec<(SocketAddr, &Endpoint)> = Vec::new();
    for slice in slices {
        let numbers = slice.ports.iter().filter(|(name, protocol, _)| *name == port.name && *protocol == port.protocol);
        for (_, _, number) in numbers {
            let of_family = slice.endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == family);
            all.extend(of_family.map(|endpoint| (SocketAddr::new(endpoint.address, *number), endpoint)));
        }
    }
    all.sort_by_key(|(address, _)| *address);
    let here: Vec<_> = all.iter().filter(|(_, e)| e.node.as_ref() == Some(&observed.node)).copied().collect();
    Endpoints { cluster: usable(&near(&all, observed)), local: usable(&here) }
}

/// Those that are ready, or if none is, those that drain: better than nothing while a rollout goes on (KEP-1669).
fn usable(endpoints: &[(SocketAddr, &Endpoint)]) -> Vec<SocketAddr> {
    let pick = |take: fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        let mut found: Vec<_> = endpoints.iter().filter(|(_, e)| take(e)).map(|(address, _)| *address).collect();
        found.dedup();
        found
    };
    let ready = pick(|endpoint| endpoint.ready);
    if ready.is_empty() { pick(|endpoint| endpoint.draining) } else { ready }
}

/// Those that are meant for this node, else for its zone, else all: hints count only if every ready endpoint has one
/// and somebody is meant (KEP-2433, KEP-3015).
fn near<'a>(all: &[(SocketAddr, &'a Endpoint)], observed: &Observed) -> Vec<(SocketAddr, &'a Endpoint)> {
    let narrowed = |hints: fn(&Endpoint) -> &[String], mine: &String| {
        let hinted = all.iter().filter(|(_, e)| e.ready).all(|(_, e)| !hints(e).is_empty());
        let meant: Vec<_> = all.iter().filter(|(_, e)| hints(e).contains(mine)).copied().collect();
        (hinted && meant.iter().any(|(_, e)| e.ready)).then_some(meant)
    };
    narrowed(|e| &e.for_nodes, &observed.node)
        .or_else(|| narrowed(|e| &e.for_zones, observed.zone.as_ref()?))
        .unwrap_or_else(|| all.to_vec())
}

struct Planner<'a> {
    config: &'a Config,
    observed: &'a Observed,
    table: Table,
    udp: UdpFrontends,
}

impl Planner<'_> {
    fn service_port(&mut self, service: &Service, port: &Port, family: Family, endpoints: &Endpoints) {
        let config = self.config;
        let of_family = |ips: &[IpAddr]| -> Vec<IpAddr> {
            let ours = ips.iter().filter(|ip| Family::of(**ip) == family && !config.served_here.contains(ip));
            ours.copied().collect()
        };
        for ip in of_family(&service.cluster_ips) {
            let frontend = Frontend::Address(ip, port.protocol, port.port);
            self.internal(&frontend, service, endpoints);
        }
        for ip in of_family(&service.external_ips) {
            self.external(&Frontend::Address(ip, port.protocol, port.port), service, endpoints);
        }
        for ip in of_family(&service.balancer_ips) {
            let frontend = Frontend::Address(ip, port.protocol, port.port);
            if self.external(&frontend, service, endpoints) {
                self.firewall(&frontend, service);
            }
        }
        if let Some(node_port) = port.node_port {
            // A Service of one family has no node port of the other.
            if service.cluster_ips.iter().any(|ip| Family::of(*ip) == family) {
                self.external(&Frontend::Node(family, port.protocol, node_port), service, endpoints);
            }
        }
    }

    /// A frontend for clients inside: internalTrafficPolicy decides.
    fn internal(&mut self, frontend: &Frontend, service: &Service, endpoints: &Endpoints) {
        if service.internal_local {
            self.balance(frontend, Scope::Local, service.affinity, &endpoints.local, !endpoints.cluster.is_empty());
        } else {
            self.balance(frontend, Scope::Cluster, service.affinity, &endpoints.cluster, false);
        }
    }

    /// A frontend for clients outside: externalTrafficPolicy decides, but who is inside reaches all endpoints anyway.
    /// False if somebody else has that frontend already.
    fn external(&mut self, frontend: &Frontend, service: &Service, endpoints: &Endpoints) -> bool {
        if !self.balance(frontend, Scope::Cluster, service.affinity, &endpoints.cluster, false) {
            return false;
        }
        if service.external_local && !endpoints.cluster.is_empty() {
            let verdict = self.balancing(frontend, Scope::Local, service.affinity, &endpoints.local);
            // The balancer sends to another node when it sees nobody here.
            let data = verdict.map_or(Data::Verdict(Verdict::Drop), |chain| Data::goto(&chain));
            self.table.element(&rules::outside(frontend), frontend.key(), data);
        }
        true
    }

    /// Serves `frontend` from `endpoints`; false if somebody else has that frontend already. With none, clients are told
    /// so, or if `elsewhere` there are some, get no answer.
    fn balance(
        &mut self,
        frontend: &Frontend,
        scope: Scope,
        affinity: Option<u32>,
        endpoints: &[SocketAddr],
        elsewhere: bool,
    ) -> bool {
        let (dispatch, unserved) = (rules::dispatch(frontend), rules::unserved(frontend));
        let key = frontend.key();
        // Services are planned in the order of their names: the same one wins on every node.
        if [&dispatch, &unserved].into_iter().any(|set| self.table.sets[set].elements.contains_key(&key)) {
            return false;
        }
        match self.balancing(frontend, scope, affinity, endpoints) {
            Some(chain) => self.table.element(&dispatch, key, Data::goto(&chain)),
            None if elsewhere => self.table.element(&dispatch, key, Data::Verdict(Verdict::Drop)),
            None => self.table.element(&unserved, key, Data::goto(rules::REJECT)),
        }
        true
    }

    /// The chain that balances `frontend` over `endpoints`, made if it is missing; none without endpoints.
    fn balancing(
        &mut self,
        frontend: &Frontend,
        scope: Scope,
        affinity: Option<u32>,
        endpoints: &[SocketAddr],
    ) -> Option<String> {
        self.remember_udp(frontend, endpoints);
        if endpoints.is_empty() {
            return None;
        }
        let balance = Balance { frontend, scope, endpoints: endpoints.len() as u32, sticky: affinity.is_some() };
        let map = balance.endpoints_map();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let data = Data::values(&[endpoint.ip().into(), Value::Port(endpoint.port())]);
            self.table.element(&map, frontend.key_with(Value::Mark(index as u32)), data);
        }
        if let Some(seconds) = affinity {
            rules::make_sticky(&mut self.table, frontend, seconds);
        }
        Some(balance.chain(&mut self.table))
    }

    fn remember_udp(&mut self, frontend: &Frontend, endpoints: &[SocketAddr]) {
        let live = match *frontend {
            Frontend::Address(ip, Protocol::Udp, port) => {
                self.udp.addresses.entry(SocketAddr::new(ip, port)).or_default()
            }
            Frontend::Node(_, Protocol::Udp, port) => self.udp.ports.entry(port).or_default(),
            _ => return,
        };
        live.extend(endpoints);
    }

    fn firewall(&mut self, frontend: &Frontend, service: &Service) {
        if service.source_ranges.is_empty() {
            return;
        }
        let Frontend::Address(ip, ..) = frontend else { return };
        let family = Family::of(*ip);
        let ranges = IpNet::aggregate(&service.source_ranges);
        rules::make_restricted(
            &mut self.table,
            frontend,
            ranges.into_iter().filter(|net| Family::of(net.addr()) == family),
        );
    }

    fn host_ports(&mut self) {
        let observed = self.observed;
        for ports in observed.host_ports.values() {
            for port in &ports.ports {
                for pod_ip in &ports.pod_ips {
                    let family = Family::of(*pod_ip);
                    let frontend = match port.address {
                        Some(address) if Family::of(address) != family => continue,
                        Some(address) => Frontend::Address(address, port.protocol, port.host_port),
                        None => Frontend::Node(family, port.protocol, port.host_port),
                    };
                    let endpoint = SocketAddr::new(*pod_ip, port.container_port);
                    self.balance(&frontend, Scope::Local, None, &[endpoint], false);
                }
            }
        }
    }

    /// A pod that reaches itself through a Service would be answered from its own address.
    fn hairpins(&mut self) {
        let observed = self.observed;
        let here = observed.slices.values().flat_map(|slice| &slice.endpoints);
        let here = here.filter(|endpoint| endpoint.node.as_ref() == Some(&observed.node)).map(|e| e.address);
        let pods = observed.host_ports.values().flat_map(|ports| ports.pod_ips.iter().copied());
        for ip in here.chain(pods) {
            let key = Key::new(&[ip.into(), ip.into()]);
            self.table.element(&rules::hairpin(Family::of(ip)), key, Data::Nothing);
        }
    }
}
