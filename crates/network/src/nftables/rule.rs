//! What a rule can say: matches, lookups, translations, verdicts.
//!
//! A rule is a list of statements; the first that does not match ends it and the next rule is tried.

use super::table::{Type, Value, Verdict};

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

/// A property of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The source address; only where the packet's family is known.
    Source(Family),
    /// The destination address; only where the packet's family is known.
    Destination(Family),
    Protocol,
    /// The destination port of TCP, UDP or SCTP.
    Port,
    /// The source address of the connection's first packet.
    OriginalSource(Family),
    /// The destination address of the connection's first packet, before any translation.
    OriginalDestination(Family),
    /// The destination port of the connection's first packet, before any translation.
    OriginalPort,
    /// A random number below the given one, a new one for each packet.
    Random(u32),
}

/// A set of conntrack states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtState {
    New,
    EstablishedOrRelated,
    Invalid,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Statement {
    /// The packet is of this family.
    Family(Family),
    /// The field has (or, negated, has not) this value.
    Is {
        field: Field,
        value: Value,
        not: bool,
    },
    /// The concatenated fields are (or are not) in the set.
    In {
        fields: Vec<Field>,
        set: String,
        not: bool,
    },
    /// The source address is (or is not) one of this node's own.
    SourceIsLocal {
        not: bool,
    },
    /// The destination address is (or is not) one of this node's own.
    DestinationIsLocal {
        not: bool,
    },
    State(CtState),
    /// The connection's destination was translated.
    Translated,
    /// All of these bits of the packet's mark are set.
    Marked(u32),
    /// Sets these bits of the packet's mark.
    Mark(u32),
    /// Looks the concatenated fields up and does what is found; goes on if nothing is.
    Dispatch {
        fields: Vec<Field>,
        map: String,
    },
    /// Looks the concatenated fields up and translates the destination to the address and port found.
    Translate {
        family: Family,
        fields: Vec<Field>,
        map: String,
    },
    /// Puts `key` with `data` into a dynamic map, for so long from now on; if `key` is there, its data stay.
    Remember {
        key: Vec<Field>,
        data: Vec<Field>,
        memory: String,
        milliseconds: u64,
    },
    /// Translates the source to an address of this node.
    Masquerade,
    /// Answers that nobody listens there.
    Reject,
    Verdict(Verdict),
}

impl Family {
    /// The type of addresses.
    pub fn address(self) -> Type {
        match self {
            Family::V4 => Type::Ipv4Addr,
            Family::V6 => Type::Ipv6Addr,
        }
    }

    /// The family of `address`.
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The digit by which names of sets and chains differ.
    pub fn digit(self) -> char {
        match self {
            Family::V4 => '4',
            Family::V6 => '6',
        }
    }
}

impl Field {
    /// The type of its values.
    pub fn kind(self) -> Type {
        match self {
            Field::Source(family)
            | Field::Destination(family)
            | Field::OriginalSource(family)
            | Field::OriginalDestination(family) => family.address(),
            Field::Protocol => Type::InetProto,
            Field::Port | Field::OriginalPort => Type::InetService,
            Field::Random(_) => Type::Mark,
        }
    }
}
