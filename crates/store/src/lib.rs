//! Revisioned bytes with watch: etcd's semantics over a database. Knows nothing of Kubernetes.
//!
//! One global [`Revision`] orders all writes. A committed write is visible to reads and watches at its revision
//! and never before; an acknowledged write survives a power cut; no revision is minted twice.
//!
//! [`sqlite::SqliteStore`] is the default datastore. [`memory::MemoryStore`] is the same contract in the fewest
//! words: property tests compare the others with it, and tests of what stands above the store run on it.

mod failpoint;
mod hub;
pub mod memory;
pub mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use tokio::sync::mpsc;

/// A point in the store's history. Only the store mints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

/// A key with its value as of some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: String,
    pub value: Bytes,
    /// The write that made this version.
    pub revision: Revision,
    /// The write that created the key, since it was last absent.
    pub created: Revision,
}

/// One write, conditional on what the key holds.
#[derive(Clone, Debug)]
pub struct Write {
    pub key: String,
    pub expect: Expect,
    pub change: Change,
}

/// What must hold of a key for a [`Write`] to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Anything,
    Absent,
    /// The key's latest write is this one.
    Revision(Revision),
}

#[derive(Clone, Debug)]
pub enum Change {
    Put(Bytes),
    /// Deleting a key that is absent fails with [`Error::Precondition`], whatever was expected: there is nothing
    /// to delete, so no revision is minted.
    Delete,
}

/// What a committed [`Write`] did.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The revision that the write minted.
    pub revision: Revision,
}

/// What happened to a key.
#[derive(Clone, Debug)]
pub struct Event {
    pub key: String,
    pub revision: Revision,
    /// The new value; `None` when the key was deleted.
    pub value: Option<Bytes>,
    /// The write that this one replaced; `None` when the key was created.
    pub previous: Option<Revision>,
}

/// An item of a watch.
#[derive(Clone, Debug)]
pub enum Notice {
    /// Events of one or more whole revisions, in order.
    Events(Vec<Event>),
    /// Every event up to and including this revision has been delivered. Comes once when the watch has caught up
    /// with the store, and again whenever the store has moved on without an event for this watch.
    Progress(Revision),
}

/// One page of a range, and the revision at which it was read.
#[derive(Clone, Debug)]
pub struct Page {
    pub records: Vec<Record>,
    pub revision: Revision,
    /// More keys follow the last one.
    pub more: bool,
}

/// Which keys: all that start with `prefix`, from `start` on (inclusive), `limit` at most (0: all).
#[derive(Clone, Debug, Default)]
pub struct Range {
    pub prefix: String,
    pub start: Option<String>,
    pub limit: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The precondition of a write does not hold; this is what the key holds instead.
    #[error("precondition failed")]
    Precondition { current: Option<Record> },
    #[error("revision {asked} has been compacted: the oldest is {oldest}")]
    Compacted { asked: Revision, oldest: Revision },
    #[error("revision {asked} is in the future: the newest is {current}")]
    Future { asked: Revision, current: Revision },
    /// The datastore cannot be written (disk full, read-only, fault). Reads may go on.
    #[error("datastore cannot be written: {0}")]
    Unavailable(String),
    #[error("datastore: {0}")]
    Corrupt(String),
    #[error("datastore is closed")]
    Closed,
}

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A datastore.
///
/// Semantics are etcd's: writes are serialised; a batch commits whole or not at all, each member minting a
/// revision of its own in order; reads at a revision see exactly that snapshot; watches deliver every event
/// after their start in revision order, each once.
pub trait Backend: Send + Sync + 'static {
    /// The newest committed revision.
    fn current(&self) -> Revision;

    /// The bytes that it takes where it is stored, if it is.
    fn size(&self) -> Option<u64> {
        None
    }

    /// The value of `key` at `at`, or now.
    fn get(&self, key: &str, at: Option<Revision>) -> BoxFuture<'_, Result<Option<Record>, Error>>;

    /// The keys of `range` at `at`, or now, in byte order.
    fn range(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<Page, Error>>;

    /// How many keys `range` has at `at`, or now, its limit apart.
    fn count(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move { Ok(self.range(Range { limit: 0, ..range }, at).await?.records.len() as u64) })
    }

    /// Commits one write, durably.
    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, Error>>;

    /// Every event of keys under `prefix` after `after` (a revision that was read or watched).
    ///
    /// The channel is bounded: a watcher that lags behind its bound is resumed from the database, not dropped.
    /// It ends when the receiver is dropped, with [`Error::Compacted`] when its place is gone, with
    /// [`Error::Future`] when `after` has not been minted yet, or on close. Call it inside a Tokio runtime.
    fn watch(&self, prefix: &str, after: Revision) -> mpsc::Receiver<Result<Notice, Error>>;

    /// Forgets what was overwritten or deleted before `before`; reads and watches from earlier revisions fail.
    /// What has been compacted already is not an error.
    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), Error>>;
}

impl Revision {
    /// The revision of an empty store.
    pub const ZERO: Self = Self(0);

    /// Reads back a revision that this store minted earlier (a client's resourceVersion, a stored number).
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
