//! Tables and commands as text in the manner of nft(8): for goldens, error messages and people.

use std::fmt::{self, Display, Formatter};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::diff::Command;
use super::rule::{CtState, Family, Field, Statement};
use super::table::{Base, Chain, ChainKind, Data, DataType, Hook, Key, Set, Table, Type, Value, Verdict};

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {} {{", self.name)?;
        for (name, set) in &self.sets {
            writeln!(f, "  {} {name} {{", set.word())?;
            set.fmt_body(f)?;
            writeln!(f, "  }}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "  chain {name} {{")?;
            chain.fmt_body(f)?;
            writeln!(f, "  }}")?;
        }
        writeln!(f, "}}")
    }
}

impl Set {
    fn word(&self) -> &'static str {
        if self.data == DataType::Nothing { "set" } else { "map" }
    }

    fn fmt_body(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "    type {}", Concat(&self.key))?;
        match &self.data {
            DataType::Nothing => {}
            DataType::Verdict => write!(f, " : verdict")?,
            DataType::Values(types) => write!(f, " : {}", Concat(types))?,
        }
        writeln!(f)?;
        if self.interval {
            writeln!(f, "    flags interval")?;
        }
        if self.dynamic {
            writeln!(f, "    flags dynamic,timeout")?;
        }
        for (key, data) in &self.elements {
            write!(f, "    ")?;
            self.fmt_element(key, data, f)?;
            writeln!(f)?;
        }
        Ok(())
    }

    fn fmt_element(&self, key: &Key, data: &Data, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Fields(&self.key, &key.from))?;
        if let Some(to) = &key.to {
            write!(f, "-{}", Fields(&self.key, to))?;
        }
        match (data, &self.data) {
            (Data::Values(values), DataType::Values(types)) => write!(f, " : {}", Fields(types, values)),
            (Data::Verdict(verdict), _) => write!(f, " : {verdict}"),
            _ => Ok(()),
        }
    }
}

impl Chain {
    fn fmt_body(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(base) = self.base {
            writeln!(f, "    {base}")?;
        }
        for rule in &self.rules {
            writeln!(f, "    {}", Joined(rule, " "))?;
        }
        Ok(())
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let hook = match self.hook {
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
        };
        write!(f, "type {kind} hook {hook} priority {}; policy accept;", self.priority)
    }
}

struct Concat<'a>(&'a [Type]);

impl Display for Concat<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Joined(self.0, " . "))
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Ipv4Addr => "ipv4_addr",
            Type::Ipv6Addr => "ipv6_addr",
            Type::InetProto => "inet_proto",
            Type::InetService => "inet_service",
            Type::Mark => "mark",
        })
    }
}

/// Bytes of an element, by the types of its fields.
struct Fields<'a>(&'a [Type], &'a [u8]);

impl Display for Fields<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut rest = self.1;
        for (index, kind) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" . ")?;
            }
            let bytes = rest.get(..kind.length()).unwrap_or_default();
            fmt_field(*kind, bytes, f)?;
            rest = rest.get(kind.length().next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

fn fmt_field(kind: Type, bytes: &[u8], f: &mut Formatter<'_>) -> fmt::Result {
    match (kind, bytes) {
        (Type::Ipv4Addr, &[a, b, c, d]) => write!(f, "{}", Ipv4Addr::new(a, b, c, d)),
        (Type::Ipv6Addr, bytes) => match <[u8; 16]>::try_from(bytes) {
            Ok(bytes) => write!(f, "{}", Ipv6Addr::from(bytes)),
            Err(_) => f.write_str("?"),
        },
        (Type::InetProto, [6]) => f.write_str("tcp"),
        (Type::InetProto, [17]) => f.write_str("udp"),
        (Type::InetProto, [132]) => f.write_str("sctp"),
        (Type::InetService, &[a, b]) => write!(f, "{}", u16::from_be_bytes([a, b])),
        (Type::Mark, &[a, b, c, d]) => write!(f, "{}", u32::from_ne_bytes([a, b, c, d])),
        _ => f.write_str("?"),
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Fields(&[self.kind()], &Key::new(&[*self]).from))
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Accept => f.write_str("accept"),
            Verdict::Drop => f.write_str("drop"),
            Verdict::Return => f.write_str("return"),
            Verdict::Jump(chain) => write!(f, "jump {chain}"),
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Family {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        })
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Field::Source(family) => write!(f, "{family} saddr"),
            Field::Destination(family) => write!(f, "{family} daddr"),
            Field::OriginalSource(family) => write!(f, "ct original {family} saddr"),
            Field::OriginalDestination(family) => write!(f, "ct original {family} daddr"),
            Field::OriginalPort => f.write_str("ct original proto-dst"),
            Field::Protocol => f.write_str("meta l4proto"),
            Field::Port => f.write_str("th dport"),
            Field::Random(modulus) => write!(f, "numgen random mod {modulus}"),
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let equal = |not: &bool| if *not { "!= " } else { "" };
        match self {
            Statement::Family(Family::V4) => f.write_str("meta nfproto ipv4"),
            Statement::Family(Family::V6) => f.write_str("meta nfproto ipv6"),
            Statement::Is { field, value, not } => write!(f, "{field} {}{value}", equal(not)),
            Statement::In { fields, set, not } => write!(f, "{} {}@{set}", Joined(fields, " . "), equal(not)),
            Statement::SourceIsLocal { not } => write!(f, "fib saddr type {}local", equal(not)),
            Statement::DestinationIsLocal { not } => write!(f, "fib daddr type {}local", equal(not)),
            Statement::State(CtState::New) => f.write_str("ct state new"),
            Statement::State(CtState::EstablishedOrRelated) => f.write_str("ct state established,related"),
            Statement::State(CtState::Invalid) => f.write_str("ct state invalid"),
            Statement::Translated => f.write_str("ct status dnat"),
            Statement::Marked(bits) => write!(f, "meta mark & {bits:#x} == {bits:#x}"),
            Statement::Mark(bits) => write!(f, "meta mark set meta mark | {bits:#x}"),
            Statement::Dispatch { fields, map } => write!(f, "{} vmap @{map}", Joined(fields, " . ")),
            Statement::Translate { family, fields, map } => {
                write!(f, "dnat {family} to {} map @{map}", Joined(fields, " . "))
            }
            Statement::Remember { key, data, memory, milliseconds } => {
                write!(f, "update @{memory} {{ {} timeout {}s : ", Joined(key, " . "), milliseconds / 1000)?;
                write!(f, "{} }}", Joined(data, " . "))
            }
            Statement::Masquerade => f.write_str("masquerade fully-random"),
            Statement::Reject => f.write_str("reject"),
            Statement::Verdict(verdict) => write!(f, "{verdict}"),
        }
    }
}

struct Joined<'a, T>(&'a [T], &'a str);

impl<T: Display> Display for Joined<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(self.1)?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

impl Display for Command<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Command::AddTable => f.write_str("add table"),
            Command::DeleteTable => f.write_str("delete table"),
            Command::AddSet(name, set) => write!(f, "add {} {name}", set.word()),
            Command::DeleteSet(name) => write!(f, "delete set {name}"),
            Command::AddElements(name, set, elements) => {
                write!(f, "add element {name} {{")?;
                for (key, data) in elements {
                    f.write_str(" ")?;
                    set.fmt_element(key, data, f)?;
                    f.write_str(",")?;
                }
                f.write_str(" }")
            }
            Command::DeleteElements(name, set, keys) => {
                write!(f, "delete element {name} {{")?;
                for key in keys {
                    f.write_str(" ")?;
                    set.fmt_element(key, &Data::Nothing, f)?;
                    f.write_str(",")?;
                }
                f.write_str(" }")
            }
            Command::AddChain(name, _) => write!(f, "add chain {name}"),
            Command::DeleteChain(name) => write!(f, "delete chain {name}"),
            Command::FlushChain(name) => write!(f, "flush chain {name}"),
            Command::AddRule(chain, rule) => write!(f, "add rule {chain} {}", Joined(rule, " ")),
        }
    }
}
