//! Commands become netlink messages here.

use std::hash::{DefaultHasher, Hash, Hasher};

use linux::netlink::{APPEND, CREATE, Message};

use super::diff::Command;
use super::expression::{write, write_verdict};
use super::rule::Statement;
use super::table::{Base, ChainKind, Data, DataType, Key, Set, Type};
use super::wire::*;

/// Elements of one message: an attribute holds less than 64 KiB.
const ELEMENTS: usize = 200;

/// The user data of a rule that holds its fingerprint; nft(8) ignores kinds that it doesn't know.
const FINGERPRINT: u8 = 0x80;

/// By what a rule is recognised in the kernel, so that it need not be decoded.
///
/// The hash may differ between versions of this program: then chains are written anew.
pub(super) fn fingerprint(rule: &[Statement]) -> u64 {
    let mut hasher = DefaultHasher::new();
    rule.hash(&mut hasher);
    hasher.finish()
}

/// The fingerprint in a rule's user data.
pub(super) fn read_fingerprint(user_data: &[u8]) -> Option<u64> {
    match user_data {
        [FINGERPRINT, 8, value @ ..] => Some(u64::from_ne_bytes(value.try_into().ok()?)),
        _ => None,
    }
}

/// The message that opens a transaction.
pub(super) fn begin() -> Message {
    Message::new(NFNL_MSG_BATCH_BEGIN, 0, &header(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES))
}

/// The message that commits a transaction.
pub(super) fn end() -> Message {
    Message::new(NFNL_MSG_BATCH_END, 0, &header(NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES))
}

/// A message about the table `table`; all kinds name it in their first attribute.
pub(super) fn message(kind_: u16, flags: u16, table: &str) -> Message {
    let mut message = Message::new(kind(NFNL_SUBSYS_NFTABLES, kind_), flags, &header(NFPROTO_INET, 0));
    message.text(NFTA_TABLE_NAME, table);
    message
}

/// The messages of `commands`; with each the index of its command.
pub(super) fn messages(table: &str, commands: &[Command<'_>]) -> Vec<(usize, Message)> {
    let mut out = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        match command {
            Command::AddElements(name, set, elements) => {
                let chunks = elements.chunks(ELEMENTS / 2);
                out.extend(chunks.map(|chunk| (index, add_elements(table, name, set, chunk))));
            }
            Command::DeleteElements(name, set, keys) => {
                let chunks = keys.chunks(ELEMENTS / 2);
                out.extend(chunks.map(|chunk| (index, delete_elements(table, name, set, chunk))));
            }
            single => out.push((index, single_message(table, single, index as u32 + 1))),
        }
    }
    out
}

fn single_message(table: &str, command: &Command<'_>, id: u32) -> Message {
    match command {
        Command::AddTable => message(NFT_MSG_NEWTABLE, CREATE, table),
        Command::DeleteTable => message(NFT_MSG_DELTABLE, 0, table),
        Command::AddSet(name, set) => add_set(table, name, set, id),
        Command::DeleteSet(name) => named(NFT_MSG_DELSET, 0, table, NFTA_SET_NAME, name),
        Command::AddChain(name, base) => add_chain(table, name, *base),
        Command::DeleteChain(name) => named(NFT_MSG_DELCHAIN, 0, table, NFTA_CHAIN_NAME, name),
        Command::FlushChain(name) => named(NFT_MSG_DELRULE, 0, table, NFTA_RULE_CHAIN, name),
        Command::AddRule(chain, rule) => add_rule(table, chain, rule),
        Command::AddElements(..) | Command::DeleteElements(..) => unreachable!("these take several messages"),
    }
}

fn named(kind: u16, flags: u16, table: &str, attribute: u16, name: &str) -> Message {
    let mut message = message(kind, flags, table);
    message.text(attribute, name);
    message
}

fn add_chain(table: &str, name: &str, base: Option<Base>) -> Message {
    let mut message = named(NFT_MSG_NEWCHAIN, CREATE, table, NFTA_CHAIN_NAME, name);
    if let Some(base) = base {
        message.nest(NFTA_CHAIN_HOOK, |out| {
            out.be32(NFTA_HOOK_HOOKNUM, base.hook as u32).be32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
        });
        message.be32(NFTA_CHAIN_POLICY, NF_ACCEPT.cast_unsigned());
        message.text(NFTA_CHAIN_TYPE, chain_type(base.kind));
    }
    message
}

/// The word by which the kernel knows a kind of chain.
pub(super) fn chain_type(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
    }
}

fn add_rule(table: &str, chain: &str, rule: &[Statement]) -> Message {
    let mut message = named(NFT_MSG_NEWRULE, CREATE | APPEND, table, NFTA_RULE_CHAIN, chain);
    message.nest(NFTA_RULE_EXPRESSIONS, |out| rule.iter().for_each(|statement| write(statement, out)));
    let mut user_data = vec![FINGERPRINT, 8];
    user_data.extend_from_slice(&fingerprint(rule).to_ne_bytes());
    message.attr(NFTA_RULE_USERDATA, &user_data);
    message
}

fn add_set(table: &str, name: &str, set: &Set, id: u32) -> Message {
    let mut message = named(NFT_MSG_NEWSET, CREATE, table, NFTA_SET_NAME, name);
    message.be32(NFTA_SET_FLAGS, flags(set));
    message.be32(NFTA_SET_KEY_TYPE, type_number(&set.key)).be32(NFTA_SET_KEY_LEN, Type::total(&set.key) as u32);
    match &set.data {
        DataType::Nothing => {}
        DataType::Verdict => {
            message.be32(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT).be32(NFTA_SET_DATA_LEN, 0);
        }
        DataType::Values(types) => {
            message.be32(NFTA_SET_DATA_TYPE, type_number(types)).be32(NFTA_SET_DATA_LEN, Type::total(types) as u32);
        }
    }
    message.be32(NFTA_SET_ID, id);
    if set.dynamic {
        message.nest(NFTA_SET_DESC, |out| {
            out.be32(NFTA_SET_DESC_SIZE, DYNAMIC_SIZE);
        });
    } else if set.interval && set.key.len() > 1 {
        message.nest(NFTA_SET_DESC, |out| {
            out.nest(NFTA_SET_DESC_CONCAT, |out| fields(&set.key, out));
        });
    }
    message
}

/// How many elements packets may add: more clients than that are served without being remembered.
const DYNAMIC_SIZE: u32 = 1 << 18;

fn fields(types: &[Type], out: &mut Message) {
    for kind in types {
        out.nest(NFTA_LIST_ELEM, |out| {
            out.be32(NFTA_SET_FIELD_LEN, kind.length() as u32);
        });
    }
}

/// The kernel's flags of a set.
pub(super) fn flags(set: &Set) -> u32 {
    let mut flags = 0;
    if set.data != DataType::Nothing {
        flags |= NFT_SET_MAP;
    }
    if set.interval {
        flags |= NFT_SET_INTERVAL;
        // The field lengths and this flag belong together: one without the other is refused.
        if set.key.len() > 1 {
            flags |= NFT_SET_CONCAT;
        }
    }
    if set.dynamic {
        flags |= NFT_SET_EVAL | NFT_SET_TIMEOUT;
    }
    flags
}

/// The number of a type or concatenation.
pub(super) fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, kind| {
        (number << TYPE_BITS)
            | match kind {
                Type::Ipv4Addr => TYPE_ipv4_addr,
                Type::Ipv6Addr => TYPE_ipv6_addr,
                Type::InetProto => TYPE_inet_proto,
                Type::InetService => TYPE_inet_service,
                Type::Mark => TYPE_mark,
            }
    })
}

fn add_elements(table: &str, name: &str, set: &Set, elements: &[(&Key, &Data)]) -> Message {
    element_list(NFT_MSG_NEWSETELEM, CREATE, table, name, |out| {
        for (key, data) in elements {
            element(set, key, Some(data), out);
        }
    })
}

fn delete_elements(table: &str, name: &str, set: &Set, keys: &[&Key]) -> Message {
    element_list(NFT_MSG_DELSETELEM, 0, table, name, |out| {
        for key in keys {
            element(set, key, None, out);
        }
    })
}

fn element_list(kind: u16, flags: u16, table: &str, set: &str, fill: impl FnOnce(&mut Message)) -> Message {
    let mut message = named(kind, flags, table, NFTA_SET_ELEM_LIST_SET, set);
    message.nest(NFTA_SET_ELEM_LIST_ELEMENTS, fill);
    message
}

/// An element; a range of a single field takes a second one that marks its end.
fn element(set: &Set, key: &Key, data: Option<&Data>, out: &mut Message) {
    out.nest(NFTA_LIST_ELEM, |out| {
        value(NFTA_SET_ELEM_KEY, &key.from, out);
        if let (Some(to), true) = (&key.to, set.key.len() > 1) {
            value(NFTA_SET_ELEM_KEY_END, to, out);
        }
        match data {
            Some(Data::Values(values)) => value(NFTA_SET_ELEM_DATA, values, out),
            Some(Data::Verdict(verdict)) => {
                out.nest(NFTA_SET_ELEM_DATA, |out| write_verdict(verdict, out));
            }
            Some(Data::Nothing) | None => {}
        }
    });
    if let (Some(to), 1) = (&key.to, set.key.len())
        && let Some(behind) = successor(to)
    {
        out.nest(NFTA_LIST_ELEM, |out| {
            out.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            value(NFTA_SET_ELEM_KEY, &behind, out);
        });
    }
}

fn value(attribute: u16, bytes: &[u8], out: &mut Message) {
    out.nest(attribute, |out| {
        out.attr(NFTA_DATA_VALUE, bytes);
    });
}

/// The next larger value, unless there is none: such a range has no end.
fn successor(bytes: &[u8]) -> Option<Box<[u8]>> {
    let mut next: Box<[u8]> = bytes.into();
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(next);
        }
    }
    None
}

/// The largest value below; the inverse of [`successor`].
pub(super) fn predecessor(bytes: &[u8]) -> Box<[u8]> {
    let mut before: Box<[u8]> = bytes.into();
    for byte in before.iter_mut().rev() {
        *byte = byte.wrapping_sub(1);
        if *byte != 0xff {
            break;
        }
    }
    before
}
