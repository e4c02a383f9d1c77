//! What an nftables table is: sets with their elements, chains with their rules.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rule::Statement;

/// A table of family `inet`, which sees IPv4 and IPv6 alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    pub sets: BTreeMap<String, Set>,
    pub chains: BTreeMap<String, Chain>,
}

/// A set, a map or a verdict map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// More than one type is a concatenation.
    pub key: Vec<Type>,
    pub data: DataType,
    /// Keys are ranges.
    pub interval: bool,
    /// Elements are added by rules and expire. Then `elements` is empty: the packets own the content.
    pub dynamic: bool,
    pub elements: BTreeMap<Key, Data>,
}

/// What a set holds beside its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataType {
    Nothing,
    Verdict,
    Values(Vec<Type>),
}

/// The type of one field of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Ipv4Addr,
    Ipv6Addr,
    InetProto,
    InetService,
    /// A number in host byte order.
    Mark,
}

/// One field of a key or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Protocol(Protocol),
    Port(u16),
    Mark(u32),
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// An element's key as the kernel holds it: fields in network order, each padded to four bytes in a concatenation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub(crate) from: Box<[u8]>,
    /// The inclusive end of a range.
    pub(crate) to: Option<Box<[u8]>>,
}

/// What an element holds beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    Nothing,
    Verdict(Verdict),
    Values(Box<[u8]>),
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter; none for a chain that is only jumped to.
    pub base: Option<Base>,
    pub rules: Vec<Vec<Statement>>,
}

/// The kernel's hook of a base chain. Its policy is accept: one table of ours never drops what it has no word on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    pub kind: ChainKind,
    pub hook: Hook,
    pub priority: i32,
}

/// What a base chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    /// Sees only the first packet of a connection.
    Nat,
}

/// Where in a packet's way a base chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

impl Table {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), sets: BTreeMap::new(), chains: BTreeMap::new() }
    }

    /// Takes over the sets and chains of `other`; a chain that both have gets the rules of both, ours first.
    pub fn merge(&mut self, other: &Table) {
        self.sets.extend(other.sets.iter().map(|(name, set)| (name.clone(), set.clone())));
        for (name, chain) in &other.chains {
            let mine = self.chains.entry(name.clone()).or_default();
            mine.base = mine.base.or(chain.base);
            mine.rules.extend(chain.rules.iter().cloned());
        }
    }

    /// The chain `name`, made if it is missing.
    pub fn chain(&mut self, name: &str) -> &mut Chain {
        self.chains.entry(name.to_owned()).or_default()
    }

    /// Adds an element to the set `name`.
    ///
    /// # Panics
    /// If there is no such set: a table is built by code that has just defined its sets.
    pub fn element(&mut self, name: &str, key: Key, data: Data) {
        self.sets.get_mut(name).expect("sets are defined before they are filled").elements.insert(key, data);
    }
}

impl Set {
    pub fn new(key: &[Type], data: DataType) -> Self {
        Self { key: key.to_vec(), data, interval: false, dynamic: false, elements: BTreeMap::new() }
    }

    /// The same with ranges as keys.
    pub fn intervals(self) -> Self {
        Self { interval: true, ..self }
    }

    /// The same, filled by rules.
    pub fn dynamic(self) -> Self {
        Self { dynamic: true, ..self }
    }

    /// Whether the kernel could hold both in one set.
    pub fn same_definition(&self, other: &Set) -> bool {
        self.key == other.key
            && self.data == other.data
            && self.interval == other.interval
            && self.dynamic == other.dynamic
    }
}

impl Chain {
    /// A chain where packets enter.
    pub fn base(kind: ChainKind, hook: Hook, priority: i32) -> Self {
        Self { base: Some(Base { kind, hook, priority }), rules: Vec::new() }
    }

    pub fn rule(&mut self, statements: impl Into<Vec<Statement>>) -> &mut Self {
        self.rules.push(statements.into());
        self
    }
}

impl Key {
    pub fn new(values: &[Value]) -> Self {
        Self { from: encode(values), to: None }
    }

    /// All keys from `from` to `to`, both included.
    pub fn range(from: &[Value], to: &[Value]) -> Self {
        Self { from: encode(from), to: Some(encode(to)) }
    }

    /// All addresses of a network.
    pub fn network(net: ipnet::IpNet) -> Self {
        Self::range(&[net.network().into()], &[net.broadcast().into()])
    }
}

impl Data {
    pub fn values(values: &[Value]) -> Self {
        Self::Values(encode(values))
    }

    pub fn goto(chain: &str) -> Self {
        Self::Verdict(Verdict::Goto(chain.to_owned()))
    }
}

fn encode(values: &[Value]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(values.len() * 4);
    for value in values {
        out.resize(out.len().next_multiple_of(4), 0);
        value.write(&mut out);
    }
    if values.len() > 1 {
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out.into()
}

impl Value {
    pub fn kind(self) -> Type {
        match self {
            Value::V4(_) => Type::Ipv4Addr,
            Value::V6(_) => Type::Ipv6Addr,
            Value::Protocol(_) => Type::InetProto,
            Value::Port(_) => Type::InetService,
            Value::Mark(_) => Type::Mark,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Value::V4(address) => out.extend_from_slice(&address.octets()),
            Value::V6(address) => out.extend_from_slice(&address.octets()),
            Value::Protocol(protocol) => out.push(protocol.number()),
            Value::Port(port) => out.extend_from_slice(&port.to_be_bytes()),
            Value::Mark(mark) => out.extend_from_slice(&mark.to_ne_bytes()),
        }
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Value::V4(address),
            IpAddr::V6(address) => Value::V6(address),
        }
    }
}

impl Protocol {
    /// The number in IP headers.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol as Services name it; an absent name means TCP.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "" | "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl Type {
    /// The length in bytes.
    pub fn length(self) -> usize {
        match self {
            Type::InetProto => 1,
            Type::InetService => 2,
            Type::Ipv4Addr | Type::Mark => 4,
            Type::Ipv6Addr => 16,
        }
    }

    /// The length of `types` as a key: a single field is not padded.
    pub(super) fn total(types: &[Type]) -> usize {
        match types {
            [one] => one.length(),
            many => many.iter().map(|kind| kind.length().next_multiple_of(4)).sum(),
        }
    }
}
