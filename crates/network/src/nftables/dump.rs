//! What the kernel holds is read here, to find out what others changed and what a predecessor left.

use linux::netlink::{Attributes, Error, Message, Socket};

use super::diff::{Installed, InstalledChain};
use super::encode::{flags, message, predecessor, read_fingerprint, type_number};
use super::table::{Base, ChainKind, Data, DataType, Hook, Key, Set, Type, Verdict};
use super::wire::*;

/// Reads the table `name`; none if there is no such table.
pub(super) fn read(socket: &mut Socket, name: &str) -> Result<Option<Installed>, Error> {
    let mut installed = Installed::default();
    let mut chains = Vec::new();
    listing(socket, NFT_MSG_GETCHAIN, name, |attributes| chains.extend(chain(name, attributes)))?;
    let mut rules = Vec::new();
    listing(socket, NFT_MSG_GETRULE, name, |attributes| rules.extend(rule(name, attributes)))?;
    let mut sets = Vec::new();
    listing(socket, NFT_MSG_GETSET, name, |attributes| sets.extend(set(name, attributes)))?;
    installed.chains.extend(chains);
    for (chain, fingerprint) in rules {
        installed.chains.entry(chain).or_default().rules.push(fingerprint);
    }
    for (set_name, mut set) in sets {
        if !set.dynamic {
            elements(socket, name, &set_name, &mut set)?;
        }
        installed.sets.insert(set_name, set);
    }
    // Every table of ours has chains; an empty one is as good as none.
    Ok((!installed.chains.is_empty() || !installed.sets.is_empty()).then_some(installed))
}

/// Not all kernels filter a dump by table, so whoever reads the answers does.
fn listing(socket: &mut Socket, kind: u16, table: &str, mut each: impl FnMut(&Attributes<'_>)) -> Result<(), Error> {
    let result = socket.dump(message(kind, 0, table), |_, payload| {
        each(&Attributes(payload.get(4..).unwrap_or_default()));
    });
    match result {
        Err(error) if error.not_found() => Ok(()),
        other => other,
    }
}

fn chain(table: &str, attributes: &Attributes<'_>) -> Option<(String, InstalledChain)> {
    let name = attributes.get_text(NFTA_CHAIN_NAME).filter(|_| attributes.get_text(NFTA_CHAIN_TABLE) == Some(table))?;
    let base = attributes.get(NFTA_CHAIN_HOOK).and_then(|hook| {
        let hook = Attributes(hook);
        Some(Base {
            kind: match attributes.get_text(NFTA_CHAIN_TYPE)? {
                "nat" => ChainKind::Nat,
                _ => ChainKind::Filter,
            },
            hook: hook_of(hook.get_be32(NFTA_HOOK_HOOKNUM)?)?,
            priority: hook.get_be32(NFTA_HOOK_PRIORITY)?.cast_signed(),
        })
    });
    Some((name.to_owned(), InstalledChain { base, rules: Vec::new() }))
}

fn hook_of(number: u32) -> Option<Hook> {
    [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]
        .into_iter()
        .find(|hook| *hook as u32 == number)
}

/// The chain and fingerprint of a rule; a rule that is not ours has a fingerprint that no rule of ours has.
fn rule(table: &str, attributes: &Attributes<'_>) -> Option<(String, u64)> {
    let chain = attributes.get_text(NFTA_RULE_CHAIN).filter(|_| attributes.get_text(NFTA_RULE_TABLE) == Some(table))?;
    let fingerprint = attributes.get(NFTA_RULE_USERDATA).and_then(read_fingerprint).unwrap_or_default();
    Some((chain.to_owned(), fingerprint))
}

fn set(table: &str, attributes: &Attributes<'_>) -> Option<(String, Set)> {
    let name = attributes.get_text(NFTA_SET_NAME).filter(|_| attributes.get_text(NFTA_SET_TABLE) == Some(table))?;
    let found = attributes.get_be32(NFTA_SET_FLAGS).unwrap_or_default();
    let data = match attributes.get_be32(NFTA_SET_DATA_TYPE).filter(|_| found & NFT_SET_MAP != 0) {
        None => DataType::Nothing,
        Some(NFT_DATA_VERDICT) => DataType::Verdict,
        Some(number) => DataType::Values(types(number)?),
    };
    let mut set = Set::new(&types(attributes.get_be32(NFTA_SET_KEY_TYPE)?)?, data);
    set.interval = found & NFT_SET_INTERVAL != 0;
    set.dynamic = found & NFT_SET_EVAL != 0;
    // A flag that we never set makes it a set of somebody else's, to be replaced.
    (flags(&set) == found).then(|| (name.to_owned(), set))
}

/// The inverse of [`type_number`].
fn types(number: u32) -> Option<Vec<Type>> {
    const ALL: [Type; 5] = [Type::Ipv4Addr, Type::Ipv6Addr, Type::InetProto, Type::InetService, Type::Mark];
    let mut rest = number;
    let mut found = Vec::new();
    while rest != 0 {
        let digit = rest & ((1 << TYPE_BITS) - 1);
        found.insert(0, ALL.into_iter().find(|kind| type_number(&[*kind]) == digit)?);
        rest >>= TYPE_BITS;
    }
    Some(found)
}

/// Reads the elements of a set, also of one that packets fill.
pub(super) fn elements(socket: &mut Socket, table: &str, name: &str, set: &mut Set) -> Result<(), Error> {
    let mut request: Message = message(NFT_MSG_GETSETELEM, 0, table);
    request.text(NFTA_SET_ELEM_LIST_SET, name);
    let mut found: Vec<(bool, Key, Data)> = Vec::new();
    socket.dump(request, |_, payload| {
        let list = Attributes(payload.get(4..).unwrap_or_default()).get(NFTA_SET_ELEM_LIST_ELEMENTS);
        for (_, bytes) in Attributes(list.unwrap_or_default()) {
            found.extend(element(&Attributes(bytes)));
        }
    })?;
    if set.interval && set.key.len() == 1 {
        set.elements = ranges(found);
    } else {
        set.elements = found.into_iter().map(|(_, key, data)| (key, data)).collect();
    }
    Ok(())
}

/// An element, and whether it only marks the end of a range.
fn element(attributes: &Attributes<'_>) -> Option<(bool, Key, Data)> {
    let bytes = |attribute| Attributes(attributes.get(attribute)?).get(NFTA_DATA_VALUE).map(Into::into);
    let ends = attributes.get_be32(NFTA_SET_ELEM_FLAGS).unwrap_or_default() & NFT_SET_ELEM_INTERVAL_END != 0;
    let data = match attributes.get(NFTA_SET_ELEM_DATA).map(Attributes) {
        None => Data::Nothing,
        Some(data) => match data.get(NFTA_DATA_VERDICT) {
            Some(found) => Data::Verdict(verdict(&Attributes(found))?),
            None => Data::Values(data.get(NFTA_DATA_VALUE)?.into()),
        },
    };
    Some((ends, Key { from: bytes(NFTA_SET_ELEM_KEY)?, to: bytes(NFTA_SET_ELEM_KEY_END) }, data))
}

/// Joins the starts and ends of ranges, which the kernel lists as elements of their own in any order.
fn ranges(mut found: Vec<(bool, Key, Data)>) -> std::collections::BTreeMap<Key, Data> {
    // At one value the end of a range comes before the start of the next.
    found.sort_by(|(ends_a, a, _), (ends_b, b, _)| a.from.cmp(&b.from).then(ends_b.cmp(ends_a)));
    let mut out = std::collections::BTreeMap::new();
    let mut open: Option<(Key, Data)> = None;
    for (ends, key, data) in found {
        if let Some((start, data)) = open.take() {
            out.insert(Key { from: start.from, to: Some(predecessor(&key.from)) }, data);
        }
        if !ends {
            open = Some((key, data));
        }
    }
    if let Some((start, data)) = open {
        let last = vec![0xff; start.from.len()].into();
        out.insert(Key { from: start.from, to: Some(last) }, data);
    }
    out
}

fn verdict(attributes: &Attributes<'_>) -> Option<Verdict> {
    let chain = || attributes.get_text(NFTA_VERDICT_CHAIN).map(str::to_owned);
    match attributes.get_be32(NFTA_VERDICT_CODE)?.cast_signed() {
        NF_ACCEPT => Some(Verdict::Accept),
        NF_DROP => Some(Verdict::Drop),
        NFT_RETURN => Some(Verdict::Return),
        NFT_JUMP => Some(Verdict::Jump(chain()?)),
        NFT_GOTO => Some(Verdict::Goto(chain()?)),
        _ => None,
    }
}
