//! A packet's way through a table, by the same statements that the kernel is given.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::*;

/// The first packet of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) protocol: Protocol,
}

/// A node that packets come to, pass, or leave.
pub(crate) struct Tracer<'a> {
    pub(crate) table: &'a Table,
    /// The node's own addresses.
    pub(crate) own: Vec<IpAddr>,
    /// What random numbers come to be, before the modulus.
    pub(crate) random: u32,
    /// What dynamic maps hold.
    pub(crate) remembered: BTreeMap<Key, Data>,
}

struct Trace<'t, 'a> {
    tracer: &'t mut Tracer<'a>,
    packet: Packet,
    original: SocketAddr,
    mark: u32,
    translated: bool,
    masqueraded: bool,
}

enum End {
    Accept,
    Drop,
    Reject,
    Return,
}

impl<'a> Tracer<'a> {
    pub(crate) fn new(table: &'a Table, own: &[&str]) -> Self {
        let own = own.iter().map(|ip| ip.parse().unwrap()).collect();
        Self { table, own, random: 0, remembered: BTreeMap::new() }
    }

    /// What becomes of `packet`: `drop`, `reject`, or where it arrives and whether it was masqueraded.
    pub(crate) fn trace(&mut self, packet: Packet) -> String {
        let original = packet.destination;
        let mut trace = Trace { tracer: self, packet, original, mark: 0, translated: false, masqueraded: false };
        let from_node = trace.tracer.own.contains(&trace.packet.source);
        let entry = if from_node { [Hook::Output].as_slice() } else { &[Hook::Prerouting] };
        let to_node = |trace: &Trace<'_, '_>| trace.tracer.own.contains(&trace.packet.destination.ip());
        let mut end = trace.hooks(entry);
        if end.is_none() {
            end = match (from_node, to_node(&trace)) {
                (true, _) => trace.hooks(&[Hook::Postrouting]),
                (false, true) => trace.hooks(&[Hook::Input]),
                (false, false) => trace.hooks(&[Hook::Forward, Hook::Postrouting]),
            };
        }
        match end {
            Some(word) => word.to_owned(),
            None => format!("{}{}", trace.packet.destination, if trace.masqueraded { " masqueraded" } else { "" }),
        }
    }
}

impl Trace<'_, '_> {
    /// Runs the base chains of the hooks in the order of their priorities; the word of the first that ends the packet.
    fn hooks(&mut self, hooks: &[Hook]) -> Option<&'static str> {
        for hook in hooks {
            let table = self.tracer.table;
            let mut chains: Vec<_> =
                table.chains.iter().filter_map(|(name, chain)| Some((chain.base?, name))).collect();
            chains.retain(|(base, _)| base.hook == *hook);
            chains.sort_by_key(|(base, _)| base.priority);
            for (_, name) in chains {
                match self.chain(name) {
                    Some(End::Drop) => return Some("drop"),
                    Some(End::Reject) => return Some("reject"),
                    _ => {}
                }
            }
        }
        None
    }

    fn chain(&mut self, name: &str) -> Option<End> {
        let chain = self.tracer.table.chains.get(name).unwrap_or_else(|| panic!("no chain {name}"));
        for rule in &chain.rules {
            match self.rule(rule) {
                None => {}
                Some(End::Return) => return None,
                Some(end) => return Some(end),
            }
        }
        None
    }

    fn rule(&mut self, rule: &[Statement]) -> Option<End> {
        for statement in rule {
            match self.statement(statement) {
                Ok(()) => {}
                Err(end) => return end,
            }
        }
        None
    }

    /// `Ok`: the rule goes on. `Err(None)`: it does not match.
    fn statement(&mut self, statement: &Statement) -> Result<(), Option<End>> {
        let when = |matches: bool| if matches { Ok(()) } else { Err(None) };
        let own = |ip: &IpAddr, trace: &Self| trace.tracer.own.contains(ip);
        match statement {
            Statement::Family(family) => when(Family::of(self.packet.source) == *family),
            Statement::Is { field, value, not } => when((self.value(*field) == *value) != *not),
            Statement::In { fields, set, not } => when(self.find(fields, set).is_some() != *not),
            Statement::SourceIsLocal { not } => when(own(&self.packet.source, self) != *not),
            Statement::DestinationIsLocal { not } => when(own(&self.packet.destination.ip(), self) != *not),
            Statement::State(state) => when(*state == CtState::New),
            Statement::Translated => when(self.translated),
            Statement::Marked(bits) => when(self.mark & bits == *bits),
            Statement::Mark(bits) => {
                self.mark |= bits;
                Ok(())
            }
            Statement::Dispatch { fields, map } => match self.find(fields, map) {
                Some(Data::Verdict(verdict)) => self.verdict(&verdict),
                Some(other) => panic!("{map} holds {other:?}"),
                None => Err(None),
            },
            Statement::Translate { fields, map, .. } => match self.find(fields, map) {
                Some(Data::Values(bytes)) => {
                    self.packet.destination = endpoint(&bytes);
                    self.translated = true;
                    Err(Some(End::Accept))
                }
                Some(other) => panic!("{map} holds {other:?}"),
                None => Err(None),
            },
            Statement::Remember { key, data, .. } => {
                let (key, data) = (self.key(key), Data::Values(self.key(data).from));
                self.tracer.remembered.entry(key).or_insert(data);
                Ok(())
            }
            Statement::Masquerade => {
                self.masqueraded = true;
                Err(Some(End::Accept))
            }
            Statement::Reject => Err(Some(End::Reject)),
            Statement::Verdict(verdict) => self.verdict(verdict),
        }
    }

    fn verdict(&mut self, verdict: &Verdict) -> Result<(), Option<End>> {
        match verdict {
            Verdict::Accept => Err(Some(End::Accept)),
            Verdict::Drop => Err(Some(End::Drop)),
            Verdict::Return => Err(Some(End::Return)),
            Verdict::Jump(chain) => Err(self.chain(chain)),
            Verdict::Goto(chain) => Err(Some(self.chain(chain).unwrap_or(End::Return))),
        }
    }

    fn value(&self, field: Field) -> Value {
        match field {
            Field::Source(_) | Field::OriginalSource(_) => self.packet.source.into(),
            Field::Destination(_) => self.packet.destination.ip().into(),
            Field::Protocol => Value::Protocol(self.packet.protocol),
            Field::Port => Value::Port(self.packet.destination.port()),
            Field::OriginalDestination(_) => self.original.ip().into(),
            Field::OriginalPort => Value::Port(self.original.port()),
            Field::Random(modulus) => Value::Mark(self.tracer.random % modulus),
        }
    }

    fn key(&self, fields: &[Field]) -> Key {
        Key::new(&fields.iter().map(|field| self.value(*field)).collect::<Vec<_>>())
    }

    fn find(&self, fields: &[Field], name: &str) -> Option<Data> {
        let set = self.tracer.table.sets.get(name).unwrap_or_else(|| panic!("no set {name}"));
        let types: Vec<_> = fields.iter().map(|field| field.kind()).collect();
        assert_eq!(types, set.key, "{name} is looked up by what it holds");
        let key = self.key(fields);
        if set.dynamic {
            return self.tracer.remembered.get(&key).cloned();
        }
        if !set.interval {
            return set.elements.get(&key).cloned();
        }
        let within = |range: &Key| {
            let to = range.to.as_ref().expect("an interval has an end");
            let mut at = 0;
            set.key.iter().all(|kind| {
                let field = at..at + kind.length();
                at = field.end.next_multiple_of(4);
                range.from[field.clone()] <= key.from[field.clone()] && key.from[field.clone()] <= to[field]
            })
        };
        set.elements.iter().find(|(range, _)| within(range)).map(|(_, data)| data.clone())
    }
}

fn endpoint(bytes: &[u8]) -> SocketAddr {
    let address = bytes.len() - 4;
    let ip = match <[u8; 4]>::try_from(&bytes[..address]) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..address]).unwrap()),
    };
    SocketAddr::new(ip, u16::from_be_bytes([bytes[address], bytes[address + 1]]))
}
