//! The cluster's names, and the answer to a question about one. Pure.
//!
//! The names are those of the DNS specification for Kubernetes (`kubernetes/dns`, version 1.1.0): `SVC.NS.svc.DOMAIN`,
//! `_PORT._PROTOCOL.SVC.NS.svc.DOMAIN`, `HOST.SVC.NS.svc.DOMAIN` for headless Services, `1-2-3-4.NS.pod.DOMAIN`, the
//! reverse of Services' and their endpoints' addresses, and `dns-version.DOMAIN`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::observe::{Observed, Port, Service};

const VERSION: &str = "1.1.0";

/// A snapshot of all names.
#[derive(Debug, Default)]
pub struct Zone {
    /// The labels of the cluster domain.
    domain: Vec<String>,
    /// Where the name server of the zone is.
    servers: Vec<IpAddr>,
    namespaces: HashMap<String, HashMap<String, Records>>,
    reverse: HashMap<IpAddr, BTreeSet<String>>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
}

/// What a Service's name stands for.
#[derive(Debug)]
enum Records {
    Addressed { addresses: Vec<IpAddr>, ports: Vec<Port> },
    Headless(Vec<Host>),
    External(String),
}

/// An endpoint of a headless Service.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Host {
    name: String,
    address: IpAddr,
    ports: Vec<Port>,
}

/// What is asked for. Types that no name here has are all [`Kind::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Srv,
    Ptr,
    Txt,
    Soa,
    Ns,
    Other,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The name is the zone's; its records of the kind, of which there may be none.
    Found(Vec<Data>),
    /// The name stands for another, in the zone or outside.
    Alias(String),
    /// The name would be the zone's, and does not exist.
    NoSuchName,
    /// Others must be asked.
    Elsewhere,
}

/// The content of one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    Address(IpAddr),
    /// A service at a name, with that name's addresses.
    Service {
        port: u16,
        target: String,
        addresses: Vec<IpAddr>,
    },
    Name(String),
    Text(String),
    /// The zone's own record, of which there is one.
    Authority,
    /// The zone's name server, with its addresses.
    Server {
        name: String,
        addresses: Vec<IpAddr>,
    },
}

impl Zone {
    /// The names of what was observed, below `domain`; the zone's server answers at `servers`.
    pub fn new(domain: &str, servers: &[IpAddr], observed: &Observed) -> Self {
        let mut zone = Self {
            domain: labels(domain),
            servers: servers.to_vec(),
            nodes: observed.nodes.iter().map(|(name, ips)| (name.to_ascii_lowercase(), ips.clone())).collect(),
            ..Self::default()
        };
        for namespace in &observed.namespaces {
            zone.namespaces.entry(namespace.clone()).or_default();
        }
        let mut hosts = headless_hosts(observed);
        for (key, service) in &observed.services {
            let full = format!("{}.{}.svc.{domain}", key.name, key.namespace);
            let records = match service {
                Service::External(target) => Records::External(target.clone()),
                Service::Addressed { addresses, ports } => {
                    for address in addresses {
                        zone.reverse.entry(*address).or_default().insert(full.clone());
                    }
                    Records::Addressed { addresses: addresses.clone(), ports: ports.clone() }
                }
                Service::Headless => {
                    let hosts = hosts.remove(&(key.namespace.as_str(), key.name.as_str())).unwrap_or_default();
                    for host in &hosts {
                        zone.reverse.entry(host.address).or_default().insert(format!("{}.{full}", host.name));
                    }
                    Records::Headless(hosts)
                }
            };
            zone.namespaces.entry(key.namespace.clone()).or_default().insert(key.name.clone(), records);
        }
        zone
    }

    /// The cluster domain, without a dot at its end.
    pub fn domain(&self) -> String {
        self.domain.join(".")
    }

    /// What is known of `name`, whose labels are in lower case.
    pub fn lookup(&self, name: &[&str], kind: Kind) -> Answer {
        if let Some(address) = reverse_address(name) {
            let names = self.reverse.get(&address).filter(|_| kind == Kind::Ptr);
            return names
                .map_or(Answer::Elsewhere, |names| Answer::Found(names.iter().cloned().map(Data::Name).collect()));
        }
        let Some(inner) = strip(name, &self.domain) else { return self.node(name, kind) };
        match inner {
            [] => self.apex(kind),
            ["dns-version"] => found(kind == Kind::Txt, || vec![Data::Text(VERSION.to_owned())]),
            ["dns"] | ["svc"] | ["pod"] => Answer::Found(Vec::new()),
            ["ns", "dns"] => Answer::Found(of_kind(&self.servers, kind)),
            [namespace, "svc"] | [namespace, "pod"] => match self.namespaces.contains_key(*namespace) {
                true => Answer::Found(Vec::new()),
                false => Answer::NoSuchName,
            },
            [address, namespace, "pod"] => self.pod(address, namespace, kind),
            [rest @ .., service, namespace, "svc"] => self.service(rest, service, namespace, kind),
            _ => Answer::NoSuchName,
        }
    }

    fn apex(&self, kind: Kind) -> Answer {
        match kind {
            Kind::Soa => Answer::Found(vec![Data::Authority]),
            Kind::Ns => {
                let name = format!("ns.dns.{}", self.domain());
                Answer::Found(vec![Data::Server { name, addresses: self.servers.clone() }])
            }
            _ => Answer::Found(Vec::new()),
        }
    }

    /// Nodes have short names, which no search path completes.
    fn node(&self, name: &[&str], kind: Kind) -> Answer {
        match name {
            [node] => self.nodes.get(*node).map_or(Answer::Elsewhere, |ips| Answer::Found(of_kind(ips, kind))),
            _ => Answer::Elsewhere,
        }
    }

    /// The name says its address itself; that the pod exists is not checked.
    fn pod(&self, name: &str, namespace: &str, kind: Kind) -> Answer {
        let address = name
            .replace('-', ".")
            .parse::<Ipv4Addr>()
            .map(IpAddr::from)
            .or_else(|_| name.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::from));
        match address {
            Ok(address) if self.namespaces.contains_key(namespace) => Answer::Found(of_kind(&[address], kind)),
            _ => Answer::NoSuchName,
        }
    }

    fn service(&self, rest: &[&str], service: &str, namespace: &str, kind: Kind) -> Answer {
        let Some(records) = self.namespaces.get(namespace).and_then(|services| services.get(service)) else {
            return Answer::NoSuchName;
        };
        let full = format!("{service}.{namespace}.svc.{}", self.domain());
        match (records, rest) {
            (Records::External(target), []) => Answer::Alias(target.clone()),
            (Records::Addressed { addresses, ports }, []) => match kind {
                Kind::Srv => Answer::Found(ports.iter().map(|port| at(port, &full, addresses)).collect()),
                kind => Answer::Found(of_kind(addresses, kind)),
            },
            (Records::Headless(hosts), []) => match kind {
                Kind::Srv => services(hosts, &full, |_| true),
                // A name of no ready endpoint exists, as its Service does.
                kind => Answer::Found(of_hosts(hosts.iter(), kind)),
            },
            (Records::Headless(hosts), [host]) => match hosts.iter().any(|found| found.name == *host) {
                true => Answer::Found(of_hosts(hosts.iter().filter(|found| found.name == *host), kind)),
                false => Answer::NoSuchName,
            },
            (records, [port, protocol]) => {
                let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
                    return Answer::NoSuchName;
                };
                let asked = |found: &Port| found.name == port && found.protocol == protocol && !port.is_empty();
                let answer = match records {
                    Records::Addressed { addresses, ports } => Answer::Found(
                        ports.iter().filter(|port| asked(port)).map(|port| at(port, &full, addresses)).collect(),
                    ),
                    Records::Headless(hosts) => services(hosts, &full, asked),
                    Records::External(_) => return Answer::NoSuchName,
                };
                match answer {
                    Answer::Found(records) if records.is_empty() => Answer::NoSuchName,
                    Answer::Found(_) if kind != Kind::Srv => Answer::Found(Vec::new()),
                    answer => answer,
                }
            }
            _ => Answer::NoSuchName,
        }
    }
}

/// The endpoints of each Service by namespace and name, in order.
fn headless_hosts(observed: &Observed) -> BTreeMap<(&str, &str), Vec<Host>> {
    let mut out: BTreeMap<_, Vec<Host>> = BTreeMap::new();
    for (key, slice) in &observed.slices {
        let hosts = slice.endpoints.iter().map(|endpoint| Host {
            name: endpoint.hostname.clone().unwrap_or_else(|| dashed(endpoint.address)),
            address: endpoint.address,
            ports: slice.ports.clone(),
        });
        out.entry((key.namespace.as_str(), slice.service.as_str())).or_default().extend(hosts);
    }
    for hosts in out.values_mut() {
        hosts.sort();
        hosts.dedup();
    }
    out
}

fn labels(name: &str) -> Vec<String> {
    name.trim_matches('.').split('.').map(str::to_ascii_lowercase).collect()
}

/// The labels of `name` below `domain`.
fn strip<'n, 'l>(name: &'n [&'l str], domain: &[String]) -> Option<&'n [&'l str]> {
    let inner = name.len().checked_sub(domain.len())?;
    name[inner..].iter().eq(domain.iter()).then_some(&name[..inner])
}

fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn found(yes: bool, records: impl FnOnce() -> Vec<Data>) -> Answer {
    Answer::Found(if yes { records() } else { Vec::new() })
}

fn of_kind(addresses: &[IpAddr], kind: Kind) -> Vec<Data> {
    let wanted = |address: &&IpAddr| match kind {
        Kind::A => address.is_ipv4(),
        Kind::Aaaa => address.is_ipv6(),
        _ => false,
    };
    addresses.iter().filter(wanted).map(|address| Data::Address(*address)).collect()
}

fn of_hosts<'h>(hosts: impl Iterator<Item = &'h Host>, kind: Kind) -> Vec<Data> {
    let addresses: BTreeSet<_> = hosts.map(|host| host.address).collect();
    of_kind(&addresses.into_iter().collect::<Vec<_>>(), kind)
}

fn at(port: &Port, target: &str, addresses: &[IpAddr]) -> Data {
    Data::Service { port: port.number, target: target.to_owned(), addresses: addresses.to_vec() }
}

/// The ports of the endpoints, each at its own name.
fn services(hosts: &[Host], full: &str, wanted: impl Fn(&Port) -> bool) -> Answer {
    let of = |host: &Host| {
        let target = format!("{}.{full}", host.name);
        let ports = host.ports.iter().filter(|port| wanted(port));
        ports.map(|port| at(port, &target, &[host.address])).collect::<Vec<_>>()
    };
    Answer::Found(hosts.iter().flat_map(of).collect())
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse_address(name: &[&str]) -> Option<IpAddr> {
    match name {
        [d, c, b, a, "in-addr", "arpa"] => format!("{a}.{b}.{c}.{d}").parse::<Ipv4Addr>().ok().map(IpAddr::from),
        [digits @ .., "ip6", "arpa"] if digits.len() == 32 => {
            let number = digits.iter().rev().try_fold(0u128, |number, digit| {
                let digit = u8::from_str_radix(digit, 16).ok().filter(|_| digit.len() == 1)?;
                Some(number << 4 | u128::from(digit))
            });
            number.map(|number| IpAddr::V6(number.into()))
        }
        _ => None,
    }
}
