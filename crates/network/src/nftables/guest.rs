//! Rules as a guest in a chain of somebody else's: where another program drops what is forwarded and offers a chain for
//! exceptions, as Docker does, an exception must be in that chain.
//!
//! They are written as iptables writes its own, for iptables must go on being able to read the chain, and found again
//! by their comment, which people see, too.

use linux::netlink::{Attributes, CREATE, Error as NetlinkError, Message, Protocol, Socket};

use super::Error;
use super::encode::{begin, end};
use super::expression::{compare, expression, meta, write};
use super::rule::Statement;
use super::table::Verdict;
use super::wire::*;

/// A chain of iptables' own table for IPv4.
const TABLE: &str = "filter";
/// Docker's place for the rules of others, before its own.
const CHAIN: &str = "DOCKER-USER";
/// A full register, which is what iptables uses.
const REGISTER: u32 = 1;
const META_IN: u32 = 6;
const META_OUT: u32 = 7;
/// The user data that is a rule's comment.
const COMMENT: u8 = 0;

/// Lets through what comes and goes by `link`; without Docker's chain there is nothing to do. What has been let through
/// under the same comment is replaced.
pub fn admit(link: &str, comment: &str) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(Error::Open)?;
    let mut messages = withdrawals(&mut socket, comment)?;
    // Without a position a rule is put before all others.
    messages.extend([META_IN, META_OUT].map(|direction| rule(direction, link, comment)));
    match socket.transact(begin(), &messages, end()) {
        Err(error) if error.not_found() => Ok(()),
        done => done.map_err(applying),
    }
}

/// Takes away what was let through under `comment`.
pub fn withdraw(comment: &str) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Netfilter).map_err(Error::Open)?;
    let messages = withdrawals(&mut socket, comment)?;
    match messages.is_empty() {
        true => Ok(()),
        false => socket.transact(begin(), &messages, end()).map_err(applying),
    }
}

fn applying(source: NetlinkError) -> Error {
    Error::Apply { table: TABLE.to_owned(), command: format!("rules in chain {CHAIN}"), source }
}

fn message(number: u16, flags: u16) -> Message {
    let mut message = Message::new(kind(NFNL_SUBSYS_NFTABLES, number), flags, &header(NFPROTO_IPV4, 0));
    message.text(NFTA_RULE_TABLE, TABLE).text(NFTA_RULE_CHAIN, CHAIN);
    message
}

fn rule(direction: u32, link: &str, comment: &str) -> Message {
    let mut message = message(NFT_MSG_NEWRULE, CREATE);
    let name = [link.as_bytes(), &[0]].concat();
    message.nest(NFTA_RULE_EXPRESSIONS, |out| {
        meta(out, direction, REGISTER);
        compare(out, REGISTER, &name, false);
        expression(out, "counter", |_| ());
        write(&Statement::Verdict(Verdict::Accept), out);
    });
    message.attr(NFTA_RULE_USERDATA, &user_data(comment));
    message
}

fn user_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
    let mut data = vec![COMMENT, length];
    data.extend(comment.bytes().take(usize::from(length) - 1));
    data.push(0);
    data
}

/// The messages that remove each rule with this comment.
fn withdrawals(socket: &mut Socket, comment: &str) -> Result<Vec<Message>, Error> {
    let wanted = user_data(comment);
    let mut found = Vec::new();
    let read = socket.dump(message(NFT_MSG_GETRULE, 0), |_, payload| {
        let attributes = Attributes(payload.get(4..).unwrap_or_default());
        let here = attributes.get_text(NFTA_RULE_TABLE) == Some(TABLE)
            && attributes.get_text(NFTA_RULE_CHAIN) == Some(CHAIN)
            && attributes.get(NFTA_RULE_USERDATA) == Some(&wanted[..]);
        found.extend(attributes.get(NFTA_RULE_HANDLE).filter(|_| here).map(<[u8]>::to_vec));
    });
    match read {
        Err(error) if error.not_found() => return Ok(Vec::new()),
        read => read.map_err(|source| Error::Read { table: TABLE.to_owned(), source })?,
    }
    let removal = |handle: Vec<u8>| {
        let mut message = message(NFT_MSG_DELRULE, 0);
        message.attr(NFTA_RULE_HANDLE, &handle);
        message
    };
    Ok(found.into_iter().map(removal).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Namespace, root};

    /// Docker's table and chain.
    fn make_chain() {
        let mut table = Message::new(kind(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWTABLE), CREATE, &header(NFPROTO_IPV4, 0));
        table.text(NFTA_TABLE_NAME, TABLE);
        let mut chain = Message::new(kind(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWCHAIN), CREATE, &header(NFPROTO_IPV4, 0));
        chain.text(NFTA_CHAIN_TABLE, TABLE).text(NFTA_CHAIN_NAME, CHAIN);
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        socket.transact(begin(), &[table, chain], end()).unwrap();
    }

    fn rules() -> usize {
        let (mut socket, mut count) = (Socket::open(Protocol::Netfilter).unwrap(), 0);
        socket.dump(message(NFT_MSG_GETRULE, 0), |_, _| count += 1).unwrap();
        count
    }

    #[test]
    fn guests_come_and_go() {
        if !root() {
            return;
        }
        Namespace::new().run(|| {
            admit("k3rs-1", "k3rs-dev a").unwrap();
            withdraw("k3rs-dev a").unwrap();
            make_chain();
            admit("k3rs-1", "k3rs-dev a").unwrap();
            admit("k3rs-1", "k3rs-dev a").unwrap();
            admit("k3rs-2", "k3rs-dev b").unwrap();
            assert_eq!(rules(), 4);
            withdraw("k3rs-dev a").unwrap();
            assert_eq!(rules(), 2);
            withdraw("k3rs-dev b").unwrap();
            withdraw("k3rs-dev b").unwrap();
            assert_eq!(rules(), 0);
        });
    }
}
