//! The sets and chains that Services need, whatever Services there are, and the names by which plans fill them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::nftables::{
    Chain, ChainKind, CtState, Data, DataType, Family, Field, Hook, Key, Protocol, Set, Statement, Table, Type, Value,
    Verdict,
};

/// The one table of ours on a node.
pub(crate) const TABLE: &str = "k3rs";
/// The chain that answers that nobody serves there.
pub(super) const REJECT: &str = "reject";
/// The bit by which postrouting knows what to masquerade: kube-proxy's, which others keep their hands off.
const MASQUERADE: u32 = 0x4000;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
const DSTNAT: i32 = -100;
const SRCNAT: i32 = 100;
const FILTER: i32 = 0;

/// Where clients send to.
#[derive(Clone, Debug)]
pub(super) enum Frontend {
    Address(IpAddr, Protocol, u16),
    /// Any address of the node.
    Node(Family, Protocol, u16),
}

/// Over which endpoints a frontend is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All: the reply must come back through this node, so foreign clients are masqueraded.
    Cluster,
    /// Those of this node: they see the client's address.
    Local,
}

impl Frontend {
    fn family(&self) -> Family {
        match self {
            Frontend::Address(ip, ..) => Family::of(*ip),
            Frontend::Node(family, ..) => *family,
        }
    }

    fn values(&self) -> Vec<Value> {
        match *self {
            Frontend::Address(ip, protocol, port) => vec![ip.into(), Value::Protocol(protocol), Value::Port(port)],
            Frontend::Node(_, protocol, port) => vec![Value::Protocol(protocol), Value::Port(port)],
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::new(&self.values())
    }

    pub(super) fn key_with(&self, last: Value) -> Key {
        Key::new(&[self.values(), vec![last]].concat())
    }

    fn fields(&self) -> Vec<Field> {
        match self {
            Frontend::Address(..) => address_fields(self.family()),
            Frontend::Node(..) => node_fields(),
        }
    }

    /// The name of a set for frontends of this kind and family.
    fn named(&self, address: &str, node: &str) -> String {
        let word = if matches!(self, Frontend::Address(..)) { address } else { node };
        format!("{word}{}", self.family().digit())
    }
}

fn address_fields(family: Family) -> Vec<Field> {
    vec![Field::Destination(family), Field::Protocol, Field::Port]
}

fn node_fields() -> Vec<Field> {
    vec![Field::Protocol, Field::Port]
}

/// The map from a frontend to its chain.
pub(super) fn dispatch(frontend: &Frontend) -> String {
    frontend.named("services", "node-ports")
}

/// The same, for clients outside where externalTrafficPolicy is Local.
pub(super) fn outside(frontend: &Frontend) -> String {
    frontend.named("services-outside", "node-ports-outside")
}

/// The map of frontends without endpoints.
pub(super) fn unserved(frontend: &Frontend) -> String {
    frontend.named("unserved", "unserved-node-ports")
}

/// The set of pairs of equal addresses, of the pods of this node that are endpoints.
pub(super) fn hairpin(family: Family) -> String {
    format!("hairpin{}", family.digit())
}

/// The map of what clients with affinity were given.
pub(crate) fn memory(family: Family) -> String {
    format!("memory{}", family.digit())
}

/// The maps from a frontend and a number to an endpoint.
pub(crate) fn endpoint_maps(family: Family, node: bool) -> [String; 2] {
    let word = if node { "node-endpoints" } else { "endpoints" };
    [format!("{word}{}", family.digit()), format!("{word}-local{}", family.digit())]
}

/// A way to balance a frontend.
pub(super) struct Balance<'a> {
    pub(super) frontend: &'a Frontend,
    pub(super) scope: Scope,
    pub(super) endpoints: u32,
    pub(super) sticky: bool,
}

impl Balance<'_> {
    pub(super) fn endpoints_map(&self) -> String {
        let node = matches!(self.frontend, Frontend::Node(..));
        let [cluster, local] = endpoint_maps(self.frontend.family(), node);
        if self.scope == Scope::Cluster { cluster } else { local }
    }

    /// The chain for all frontends that are balanced so; makes it if it is missing.
    pub(super) fn chain(&self, table: &mut Table) -> String {
        let scope = if self.scope == Scope::Cluster { "cluster" } else { "local" };
        let sticky = if self.sticky { "-sticky" } else { "" };
        let name = format!("{}-{scope}-{}{sticky}", self.frontend.named("pick", "pick-node"), self.endpoints);
        if !table.chains.contains_key(&name) {
            self.fill(table.chain(&name));
        }
        name
    }

    fn fill(&self, chain: &mut Chain) {
        let family = self.frontend.family();
        let of_family = Statement::Family(family);
        if self.scope == Scope::Cluster {
            chain.rule([of_family.clone(), from_pods(family, true), Statement::Mark(MASQUERADE)]);
        }
        if self.sticky {
            let fields = [address_fields(family), vec![Field::Source(family)]].concat();
            chain.rule([of_family.clone(), Statement::Translate { family, fields, map: memory(family) }]);
        }
        let fields = [self.frontend.fields(), vec![Field::Random(self.endpoints)]].concat();
        chain.rule([of_family, Statement::Translate { family, fields, map: self.endpoints_map() }]);
    }
}

/// Makes clients of `frontend` stay with their endpoint.
pub(super) fn make_sticky(table: &mut Table, frontend: &Frontend, seconds: u32) {
    let family = frontend.family();
    let set = format!("{}-{seconds}s", frontend.named("sticky", "sticky-node-ports"));
    if !table.sets.contains_key(&set) {
        let original = vec![Field::OriginalDestination(family), Field::Protocol, Field::OriginalPort];
        let asked = match frontend {
            Frontend::Address(..) => original.clone(),
            Frontend::Node(..) => original[1..].to_vec(),
        };
        let types: Vec<_> = asked.iter().map(|field| field.kind()).collect();
        table.sets.insert(set.clone(), Set::new(&types, DataType::Nothing));
        table.chain("remember").rule([
            Statement::Family(family),
            Statement::Translated,
            Statement::In { fields: asked, set: set.clone(), not: false },
            Statement::Remember {
                key: [original, vec![Field::OriginalSource(family)]].concat(),
                data: vec![Field::Destination(family), Field::Port],
                memory: memory(family),
                milliseconds: u64::from(seconds) * 1000,
            },
        ]);
    }
    table.element(&set, frontend.key(), Data::Nothing);
}

/// Lets only `ranges` use `frontend`.
pub(super) fn make_restricted(table: &mut Table, frontend: &Frontend, ranges: impl Iterator<Item = IpNet>) {
    let digit = frontend.family().digit();
    table.element(&format!("restricted{digit}"), frontend.key(), Data::Nothing);
    for range in ranges {
        let ends = [range.network(), range.broadcast()].map(|end| [frontend.values(), vec![end.into()]].concat());
        table.element(&format!("allowed{digit}"), Key::range(&ends[0], &ends[1]), Data::Nothing);
    }
}

/// The table of a node without Services.
pub(super) fn skeleton(cluster_cidrs: &[IpNet], service_cidrs: &[IpNet]) -> Table {
    let mut table = Table::new(TABLE);
    for family in FAMILIES {
        sets(&mut table, family);
    }
    for (set, networks) in [("pods", cluster_cidrs), ("service-range", service_cidrs)] {
        for network in IpNet::aggregate(&networks.to_vec()) {
            let name = format!("{set}{}", Family::of(network.addr()).digit());
            table.element(&name, Key::network(network), Data::Nothing);
        }
    }
    dispatching(&mut table);
    leaving(&mut table);
    filtering(&mut table);
    table
}

fn sets(table: &mut Table, family: Family) {
    let digit = family.digit();
    let address = family.address();
    let by_address = vec![address, Type::InetProto, Type::InetService];
    let by_node = vec![Type::InetProto, Type::InetService];
    let endpoint = DataType::Values(vec![address, Type::InetService]);
    let with = |types: &[Type], last: Type| [types, &[last]].concat();
    let mut add = |name: &str, set: Set| table.sets.insert(format!("{name}{digit}"), set);
    add("pods", Set::new(&[address], DataType::Nothing).intervals());
    add("service-range", Set::new(&[address], DataType::Nothing).intervals());
    add("hairpin", Set::new(&[address, address], DataType::Nothing));
    for name in ["services", "services-outside", "unserved"] {
        add(name, Set::new(&by_address, DataType::Verdict));
    }
    for name in ["node-ports", "node-ports-outside", "unserved-node-ports"] {
        add(name, Set::new(&by_node, DataType::Verdict));
    }
    for name in ["endpoints", "endpoints-local"] {
        add(name, Set::new(&with(&by_address, Type::Mark), endpoint.clone()));
    }
    for name in ["node-endpoints", "node-endpoints-local"] {
        add(name, Set::new(&with(&by_node, Type::Mark), endpoint.clone()));
    }
    add("memory", Set::new(&with(&by_address, address), endpoint).dynamic());
    add("restricted", Set::new(&by_address, DataType::Nothing));
    add("allowed", Set::new(&with(&by_address, address), DataType::Nothing).intervals());
}

/// Whether the source is (or is `not`) in the pod network.
fn from_pods(family: Family, not: bool) -> Statement {
    Statement::In { fields: vec![Field::Source(family)], set: format!("pods{}", family.digit()), not }
}

fn jump(chain: &str) -> Statement {
    Statement::Verdict(Verdict::Jump(chain.to_owned()))
}

fn vmap(fields: Vec<Field>, map: &str, family: Family) -> Statement {
    Statement::Dispatch { fields, map: format!("{map}{}", family.digit()) }
}

/// From the hooks to the chains that pick an endpoint.
fn dispatching(table: &mut Table) {
    for (name, hook) in [("nat-prerouting", Hook::Prerouting), ("nat-output", Hook::Output)] {
        table.chains.insert(name.to_owned(), Chain::base(ChainKind::Nat, hook, DSTNAT));
        for family in FAMILIES {
            let chain = format!("services{}", family.digit());
            table.chain(name).rule([Statement::Family(family), jump(&chain)]);
        }
    }
    for family in FAMILIES {
        let of_family = Statement::Family(family);
        let outside = [of_family.clone(), from_pods(family, true), Statement::SourceIsLocal { not: true }];
        let to_node = [of_family.clone(), Statement::DestinationIsLocal { not: false }, not_loopback(family)];
        let chain = table.chain(&format!("services{}", family.digit()));
        chain.rule([&outside[..], &[vmap(address_fields(family), "services-outside", family)]].concat());
        chain.rule([of_family, vmap(address_fields(family), "services", family)]);
        let from_outside = [&to_node[..], &outside[1..], &[vmap(node_fields(), "node-ports-outside", family)]];
        chain.rule(from_outside.concat());
        chain.rule([&to_node[..], &[vmap(node_fields(), "node-ports", family)]].concat());
    }
}

/// A packet of the loopback can't leave it, so a translation would only lose it.
fn not_loopback(family: Family) -> Statement {
    let loopback = match family {
        Family::V4 => Value::V4(std::net::Ipv4Addr::LOCALHOST),
        Family::V6 => Value::V6(std::net::Ipv6Addr::LOCALHOST),
    };
    Statement::Is { field: Field::Destination(family), value: loopback, not: true }
}

/// What happens when the destination is settled: affinity, masquerading.
fn leaving(table: &mut Table) {
    table.chains.insert("remember".to_owned(), Chain::default());
    table.chains.insert("nat-input".to_owned(), Chain::base(ChainKind::Nat, Hook::Input, SRCNAT));
    table.chain("nat-input").rule([jump("remember")]);
    table.chains.insert("nat-postrouting".to_owned(), Chain::base(ChainKind::Nat, Hook::Postrouting, SRCNAT));
    let chain = table.chain("nat-postrouting");
    chain.rule([jump("remember")]);
    chain.rule([Statement::Translated, Statement::Marked(MASQUERADE), Statement::Masquerade]);
    for family in FAMILIES {
        let pair = vec![Field::Source(family), Field::Destination(family)];
        let itself = Statement::In { fields: pair, set: hairpin(family), not: false };
        chain.rule([Statement::Family(family), Statement::Translated, itself, Statement::Masquerade]);
    }
    // Addresses of pods mean nothing outside. (Of IPv6 they may, but a private range is the rule here.)
    for family in FAMILIES {
        let leaves = Statement::In {
            fields: vec![Field::Destination(family)],
            set: format!("pods{}", family.digit()),
            not: true,
        };
        chain.rule([Statement::Family(family), from_pods(family, false), leaves, Statement::Masquerade]);
    }
}

/// What is refused.
fn filtering(table: &mut Table) {
    table.chain(REJECT).rule([Statement::Reject]);
    table.chains.insert("firewall".to_owned(), Chain::base(ChainKind::Filter, Hook::Prerouting, DSTNAT - 10));
    for family in FAMILIES {
        let digit = family.digit();
        let fields = address_fields(family);
        let restricted = Statement::In { fields: fields.clone(), set: format!("restricted{digit}"), not: false };
        let fields = [fields, vec![Field::Source(family)]].concat();
        let allowed = Statement::In { fields, set: format!("allowed{digit}"), not: true };
        table.chain("firewall").rule([
            Statement::Family(family),
            Statement::State(CtState::New),
            restricted,
            allowed,
            Statement::Verdict(Verdict::Drop),
        ]);
    }
    for (name, hook) in [("input", Hook::Input), ("forward", Hook::Forward), ("output", Hook::Output)] {
        table.chains.insert(name.to_owned(), Chain::base(ChainKind::Filter, hook, FILTER));
        table.chain(name).rule([Statement::State(CtState::New), jump("unserved")]);
    }
    for family in FAMILIES {
        let of_family = Statement::Family(family);
        let chain = table.chain("unserved");
        chain.rule([of_family.clone(), vmap(address_fields(family), "unserved", family)]);
        let to_node = Statement::DestinationIsLocal { not: false };
        chain.rule([of_family.clone(), to_node, vmap(node_fields(), "unserved-node-ports", family)]);
        // What no Service has must not wander to the default gateway and back.
        let range = Statement::In {
            fields: vec![Field::Destination(family)],
            set: format!("service-range{}", family.digit()),
            not: false,
        };
        chain.rule([of_family, range, Statement::DestinationIsLocal { not: true }, Statement::Reject]);
    }
}
