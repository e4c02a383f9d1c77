//! Statements become the kernel's register machine here.
//!
//! Concatenated fields are loaded into consecutive four-byte registers, from the first on; a lookup reads them as
//! one key. Each statement's nft text stands above its expressions.

use linux::netlink::Message;

use super::rule::{CtState, Family, Field, Statement};
use super::table::Verdict;
use super::wire::{
    NF_ACCEPT, NF_DROP, NFPROTO_IPV4, NFPROTO_IPV6, NFT_GOTO, NFT_JUMP, NFT_REG_VERDICT, NFT_REG32_00, NFT_RETURN,
    NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME, NFTA_LIST_ELEM, NFTA_VERDICT_CHAIN,
    NFTA_VERDICT_CODE,
};

const FIRST: u32 = NFT_REG32_00;

/// Appends the expressions of `statement`.
pub(super) fn write(statement: &Statement, out: &mut Message) {
    match statement {
        // meta nfproto ipv4
        Statement::Family(family) => {
            meta(out, META_NFPROTO, FIRST);
            compare(out, FIRST, &[protocol_family(*family)], false);
        }
        // ip daddr 10.43.0.1
        Statement::Is { field, value, not } => {
            load(out, *field, FIRST);
            compare(out, FIRST, &super::table::Key::new(&[*value]).from, *not);
        }
        // ip saddr . ip daddr @set
        Statement::In { fields, set, not } => {
            load_all(out, fields, FIRST);
            lookup(out, set, FIRST, None, *not);
        }
        // fib saddr type local
        Statement::SourceIsLocal { not } => local(out, FIB_SADDR, *not),
        // fib daddr type local
        Statement::DestinationIsLocal { not } => local(out, FIB_DADDR, *not),
        // ct state new
        Statement::State(state) => any_bit(out, CT_STATE, state_bits(*state)),
        // ct status dnat
        Statement::Translated => any_bit(out, CT_STATUS, IPS_DST_NAT),
        // meta mark & 0x4000 == 0x4000
        Statement::Marked(bits) => {
            meta(out, META_MARK, FIRST);
            bitwise(out, FIRST, *bits, 0);
            compare(out, FIRST, &bits.to_ne_bytes(), false);
        }
        // meta mark set meta mark | 0x4000
        Statement::Mark(bits) => {
            meta(out, META_MARK, FIRST);
            bitwise(out, FIRST, !bits, *bits);
            expression(out, "meta", |out| {
                out.be32(2, META_MARK).be32(3, FIRST);
            });
        }
        // ip daddr . meta l4proto . th dport vmap @map
        Statement::Dispatch { fields, map } => {
            load_all(out, fields, FIRST);
            lookup(out, map, FIRST, Some(NFT_REG_VERDICT), false);
        }
        // dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @map
        Statement::Translate { family, fields, map } => {
            load_all(out, fields, FIRST);
            lookup(out, map, FIRST, Some(FIRST), false);
            translate(out, *family, FIRST);
        }
        // update @memory { ct original ip daddr . ct original ip saddr timeout 3h : ip daddr . th dport }
        Statement::Remember { key, data, memory, milliseconds } => {
            let data_register = load_all(out, key, FIRST);
            load_all(out, data, data_register);
            expression(out, "dynset", |out| {
                out.text(1, memory).be32(3, SET_UPDATE).be32(4, FIRST).be32(5, data_register);
                out.attr(6, &milliseconds.to_be_bytes());
            });
        }
        // masquerade fully-random
        Statement::Masquerade => expression(out, "masq", |out| {
            out.be32(1, RANDOM_FULLY);
        }),
        // reject
        Statement::Reject => expression(out, "reject", |out| {
            out.be32(1, REJECT_ICMPX).attr(2, &[ICMPX_PORT_UNREACHABLE]);
        }),
        // goto chain
        Statement::Verdict(verdict) => expression(out, "immediate", |out| {
            out.be32(1, NFT_REG_VERDICT).nest(2, |out| write_verdict(verdict, out));
        }),
    }
}

const META_MARK: u32 = 3;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const CT_PROTO_DST: u32 = 12;
const CT_SRC_IP: u32 = 19;
const CT_DST_IP: u32 = 20;
const CT_SRC_IP6: u32 = 21;
const CT_DST_IP6: u32 = 22;
const IPS_DST_NAT: u32 = 1 << 5;
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const RTN_LOCAL: u32 = 2;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const SET_UPDATE: u32 = 1;
const NAT_DESTINATION: u32 = 1;
const RANDOM_FULLY: u32 = 1 << 4;
const REJECT_ICMPX: u32 = 2;
const ICMPX_PORT_UNREACHABLE: u8 = 1;
const NUMGEN_RANDOM: u32 = 1;

fn state_bits(state: CtState) -> u32 {
    match state {
        CtState::Invalid => 1,
        CtState::EstablishedOrRelated => 2 | 4,
        CtState::New => 8,
    }
}

fn protocol_family(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

pub(super) fn expression(out: &mut Message, name: &str, fill: impl FnOnce(&mut Message)) {
    out.nest(NFTA_LIST_ELEM, |out| {
        out.text(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, fill);
    });
}

/// Loads `fields` one behind the other; returns the register behind the last.
fn load_all(out: &mut Message, fields: &[Field], mut register: u32) -> u32 {
    for field in fields {
        load(out, *field, register);
        register += field.kind().length().div_ceil(4) as u32;
    }
    register
}

fn load(out: &mut Message, field: Field, register: u32) {
    match field {
        Field::Source(Family::V4) => payload(out, NETWORK_HEADER, 12, 4, register),
        Field::Destination(Family::V4) => payload(out, NETWORK_HEADER, 16, 4, register),
        Field::Source(Family::V6) => payload(out, NETWORK_HEADER, 8, 16, register),
        Field::Destination(Family::V6) => payload(out, NETWORK_HEADER, 24, 16, register),
        Field::Port => payload(out, TRANSPORT_HEADER, 2, 2, register),
        Field::OriginalSource(Family::V4) => original(out, CT_SRC_IP, register),
        Field::OriginalDestination(Family::V4) => original(out, CT_DST_IP, register),
        Field::OriginalSource(Family::V6) => original(out, CT_SRC_IP6, register),
        Field::OriginalDestination(Family::V6) => original(out, CT_DST_IP6, register),
        Field::OriginalPort => original(out, CT_PROTO_DST, register),
        Field::Protocol => meta(out, META_L4PROTO, register),
        Field::Random(modulus) => expression(out, "numgen", |out| {
            out.be32(1, register).be32(2, modulus).be32(3, NUMGEN_RANDOM).be32(4, 0);
        }),
    }
}

fn payload(out: &mut Message, base: u32, offset: u32, length: u32, register: u32) {
    expression(out, "payload", |out| {
        out.be32(1, register).be32(2, base).be32(3, offset).be32(4, length);
    });
}

pub(super) fn meta(out: &mut Message, key: u32, register: u32) {
    expression(out, "meta", |out| {
        out.be32(1, register).be32(2, key);
    });
}

/// A property of the packet that opened the connection, before any translation.
fn original(out: &mut Message, key: u32, register: u32) {
    expression(out, "ct", |out| {
        out.be32(1, register).be32(2, key).attr(3, &[0]);
    });
}

pub(super) fn compare(out: &mut Message, register: u32, value: &[u8], not: bool) {
    expression(out, "cmp", |out| {
        out.be32(1, register).be32(2, u32::from(not)).nest(3, |out| {
            out.attr(NFTA_DATA_VALUE, value);
        });
    });
}

/// `register = (register & mask) ^ xor`
fn bitwise(out: &mut Message, register: u32, mask: u32, xor: u32) {
    expression(out, "bitwise", |out| {
        out.be32(1, register).be32(2, register).be32(3, 4);
        for (attribute, value) in [(4, mask), (5, xor)] {
            out.nest(attribute, |out| {
                out.attr(NFTA_DATA_VALUE, &value.to_ne_bytes());
            });
        }
    });
}

/// Matches if the conntrack property has any of `bits`.
fn any_bit(out: &mut Message, key: u32, bits: u32) {
    expression(out, "ct", |out| {
        out.be32(1, FIRST).be32(2, key);
    });
    bitwise(out, FIRST, bits, 0);
    compare(out, FIRST, &[0; 4], true);
}

fn local(out: &mut Message, which: u32, not: bool) {
    expression(out, "fib", |out| {
        out.be32(1, FIRST).be32(2, FIB_ADDRESS_TYPE).be32(3, which);
    });
    compare(out, FIRST, &RTN_LOCAL.to_ne_bytes(), not);
}

fn lookup(out: &mut Message, set: &str, from: u32, to: Option<u32>, not: bool) {
    expression(out, "lookup", |out| {
        out.text(1, set).be32(2, from);
        if let Some(to) = to {
            out.be32(3, to);
        }
        if not {
            out.be32(5, 1);
        }
    });
}

/// Translates the destination to the address and port that lie in the registers from `from` on.
fn translate(out: &mut Message, family: Family, from: u32) {
    let port = from + family.address().length().div_ceil(4) as u32;
    expression(out, "nat", |out| {
        out.be32(1, NAT_DESTINATION).be32(2, protocol_family(family).into()).be32(3, from).be32(5, port);
    });
}

/// Appends a verdict as the kernel writes it, in a rule as in an element.
pub(super) fn write_verdict(verdict: &Verdict, out: &mut Message) {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (NFT_RETURN, None),
        Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (NFT_GOTO, Some(chain)),
    };
    out.nest(NFTA_DATA_VERDICT, |out| {
        out.attr(NFTA_VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            out.text(NFTA_VERDICT_CHAIN, chain);
        }
    });
}
