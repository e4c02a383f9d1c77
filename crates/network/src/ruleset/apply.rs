//! A plan -> one transaction, then what the kernel remembers of endpoints that are gone. Makes no choices.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::nftables::{self, Conntrack, Data, Family, Flow, Key, Netfilter, Table, Watch};
use crate::services::plan::{Plan, UdpFrontends};
use crate::services::rules::{TABLE, endpoint_maps, memory};

/// Why rules could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Nftables(#[from] nftables::Error),
    #[error("cannot delete stale connection tracking entries: {0}")]
    Conntrack(#[source] linux::netlink::Error),
    #[error("cannot hear of changes of nftables by others: {0}")]
    Watch(#[source] linux::netlink::Error),
    #[error("the thread that wrote nftables rules panicked")]
    Panicked,
}

/// The kernel's side of the table, in the network namespace in which this was opened.
#[derive(Debug)]
pub struct Applier {
    netfilter: Netfilter,
    conntrack: Conntrack,
    applied: Option<Plan>,
}

impl Applier {
    pub fn open() -> Result<Self, Error> {
        let conntrack = Conntrack::open().map_err(Error::Conntrack)?;
        Ok(Self { netfilter: Netfilter::open(TABLE)?, conntrack, applied: None })
    }

    /// Begins to listen for changes by others.
    pub fn watch(&self) -> Result<Watch, Error> {
        Ok(self.netfilter.watch()?)
    }

    /// Looks anew at what the kernel holds.
    pub fn refresh(&mut self) -> Result<(), Error> {
        Ok(self.netfilter.refresh()?)
    }

    /// Brings the kernel to `plan`; returns the number of commands that took.
    pub fn apply(&mut self, plan: Plan) -> Result<usize, Error> {
        let commands = self.netfilter.apply(&plan.table)?;
        let before = self.applied.replace(plan);
        let Some(now) = &self.applied else { return Ok(commands) };
        // After the rules: until they are there, packets make new entries of the old kind.
        for family in [Family::V4, Family::V6] {
            if before.as_ref().is_none_or(|before| endpoints_differ(&before.table, &now.table, family)) {
                self.netfilter.retain(&memory(family), |key, data| still_serves(&now.table, family, key, data))?;
            }
        }
        if before.as_ref().is_none_or(|before| before.udp != now.udp) {
            let nothing = UdpFrontends::default();
            forget_flows(&mut self.conntrack, before.as_ref().map_or(&nothing, |before| &before.udp), &now.udp)?;
        }
        Ok(commands)
    }
}

fn endpoints_differ(before: &Table, now: &Table, family: Family) -> bool {
    let maps = [endpoint_maps(family, false), endpoint_maps(family, true)].concat();
    maps.iter().any(|map| before.sets.get(map) != now.sets.get(map))
}

/// Whether what a client was given (`frontend . client` -> endpoint) is still an endpoint of that frontend.
fn still_serves(table: &Table, family: Family, remembered: &Key, endpoint: &Data) -> bool {
    let address = family.address().length();
    let frontend = &remembered.from[..remembered.from.len() - address];
    let found = |node: bool, prefix: &[u8]| {
        let maps = endpoint_maps(family, node);
        maps.iter().filter_map(|map| table.sets.get(map)).any(|set| {
            let start = Key { from: prefix.into(), to: None };
            let behind = set.elements.range(start..).take_while(|(key, _)| key.from.starts_with(prefix));
            behind.into_iter().any(|(_, data)| data == endpoint)
        })
    };
    // For a node port the address that the client used is remembered, but any would do.
    found(false, frontend) || found(true, &frontend[address..])
}

/// Deletes the UDP flows to frontends, of before or now, whose answers come from where they should not any more.
fn forget_flows(conntrack: &mut Conntrack, before: &UdpFrontends, now: &UdpFrontends) -> Result<(), Error> {
    for family in [Family::V4, Family::V6] {
        for flow in conntrack.udp_flows(family).map_err(Error::Conntrack)? {
            if is_stale(&flow, before, now) {
                conntrack.delete(&flow).map_err(Error::Conntrack)?;
            }
        }
    }
    Ok(())
}

fn is_stale(flow: &Flow, before: &UdpFrontends, now: &UdpFrontends) -> bool {
    let serves = |live: Option<&BTreeSet<SocketAddr>>| live.is_some_and(|live| live.contains(&flow.answers_from));
    let (to, port) = (&flow.destination, &flow.destination.port());
    if before.addresses.contains_key(to) || now.addresses.contains_key(to) {
        return !serves(now.addresses.get(to));
    }
    // An untranslated flow to such a port may be to any address of the world.
    let translated = flow.answers_from != flow.destination;
    let known = before.ports.contains_key(port) || now.ports.contains_key(port);
    translated && known && !serves(now.ports.get(port))
}
