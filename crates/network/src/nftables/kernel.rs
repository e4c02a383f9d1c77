//! The kernel's end: applying a table, hearing that somebody else changed the rules.

use linux::netlink::{self, Listener, Protocol, Socket};

use super::diff::{Command, Installed, diff};
use super::table::{Data, Key, Table};
use super::wire::{NFNL_SUBSYS_NFTABLES, NFNLGRP_NFTABLES, NFT_MSG_NEWGEN, kind};
use super::{dump, encode};

/// Why a table could not be read or applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netfilter socket (is nf_tables in the kernel, and are we root?): {0}")]
    Open(netlink::Error),
    #[error("cannot read nftables table {table}: {source}")]
    Read { table: String, source: netlink::Error },
    /// Nothing of the transaction was applied.
    #[error("cannot apply nftables table {table}, at {command}: {source}")]
    Apply { table: String, command: String, source: netlink::Error },
}

/// A table in the kernel of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Netfilter {
    socket: Socket,
    name: String,
    installed: Option<Installed>,
}

impl Netfilter {
    /// Opens a socket and reads what is there of the table `name`.
    pub fn open(name: &str) -> Result<Self, Error> {
        let socket = Socket::open(Protocol::Netfilter).map_err(Error::Open)?;
        let mut netfilter = Self { socket, name: name.to_owned(), installed: None };
        netfilter.refresh()?;
        Ok(netfilter)
    }

    /// Reads anew what the kernel holds, after somebody else may have changed it.
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.installed = dump::read(&mut self.socket, &self.name)
            .map_err(|source| Error::Read { table: self.name.clone(), source })?;
        Ok(())
    }

    /// What the kernel held when it was last read or written.
    pub fn installed(&self) -> Option<&Installed> {
        self.installed.as_ref()
    }

    /// Brings the kernel to `table` in one transaction; returns the number of commands that took, 0 if there was
    /// nothing to change. After an error the kernel holds what it held before.
    pub fn apply(&mut self, table: &Table) -> Result<usize, Error> {
        let commands = diff(self.installed.as_ref(), table);
        if commands.is_empty() {
            return Ok(0);
        }
        Self::send(&mut self.socket, &self.name, &commands)?;
        let count = commands.len();
        self.installed = Some(Installed::of(table));
        Ok(count)
    }

    /// Deletes from the dynamic map `name` what `keep` does not want; returns how many elements went.
    pub fn retain(&mut self, name: &str, keep: impl Fn(&Key, &Data) -> bool) -> Result<usize, Error> {
        let Some(set) = self.installed.as_ref().and_then(|installed| installed.sets.get(name)) else { return Ok(0) };
        let mut found = set.clone();
        dump::elements(&mut self.socket, &self.name, name, &mut found)
            .map_err(|source| Error::Read { table: self.name.clone(), source })?;
        let mut gone = 0;
        for (key, _) in found.elements.iter().filter(|(key, data)| !keep(key, data)) {
            // One by one: what expires meanwhile must not fail the others.
            match Self::send(&mut self.socket, &self.name, &[Command::DeleteElements(name, &found, vec![key])]) {
                Ok(()) => gone += 1,
                Err(Error::Apply { source, .. }) if source.not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(gone)
    }

    /// Removes the table.
    pub fn remove(&mut self) -> Result<(), Error> {
        if self.installed.take().is_some() {
            Self::send(&mut self.socket, &self.name, &[Command::DeleteTable])?;
        }
        Ok(())
    }

    fn send(socket: &mut Socket, table: &str, commands: &[Command<'_>]) -> Result<(), Error> {
        let (indices, messages): (Vec<_>, Vec<_>) = encode::messages(table, commands).into_iter().unzip();
        socket.transact(encode::begin(), &messages, encode::end()).map_err(|source| {
            let command = match &source {
                netlink::Error::Refused { index, .. } => indices.get(*index).map(|index| commands[*index].to_string()),
                _ => None,
            };
            Error::Apply { table: table.to_owned(), command: command.unwrap_or_default(), source }
        })
    }

    /// Begins to listen for changes by others in the network namespace of the calling thread.
    pub fn watch(&self) -> Result<Watch, Error> {
        let ours = self.socket.port().map_err(|e| Error::Open(e.into()))?;
        let listener = Listener::join(Protocol::Netfilter, 1 << (NFNLGRP_NFTABLES - 1)).map_err(Error::Open)?;
        Ok(Watch { listener, ours })
    }
}

/// Hears of every committed transaction of a network namespace.
#[derive(Debug)]
pub struct Watch {
    listener: Listener,
    ours: u32,
}

impl Watch {
    /// Waits until somebody else than the [`Netfilter`] that made this has changed the rules.
    pub async fn changed(&mut self) -> Result<(), netlink::Error> {
        let mut foreign = false;
        while !foreign {
            let complete = self.listener.hear(|heard, by, _| {
                foreign |= heard == kind(NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN) && by != self.ours;
            });
            foreign |= !complete.await?;
        }
        Ok(())
    }
}
