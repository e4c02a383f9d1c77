//! What the writer does between batches: sweeps compacted versions, moves the WAL into the database, gives free
//! pages back. Each is a bounded step, so that writes that arrive meanwhile wait for one step at most; a step that
//! fails, or that the process does not survive, is taken again after a later batch.

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::mpsc;

use super::health::Health;
use super::rows::{Sql, revision};
use super::schema::Meta;
use super::writer::{Job, Writer};
use crate::failpoint::{Failpoints, Point};
use crate::{Error, Revision};

/// Revisions swept in one step.
const SWEEP: u64 = 128;

/// WAL pages (4 KiB) that are worth a checkpoint when nobody is waiting.
const CHECKPOINT_IDLE: i64 = 1_000;

/// WAL pages at which writers have to wait for a checkpoint.
const CHECKPOINT_BUSY: i64 = 16_000;

/// Free pages given back in one step.
const VACUUM: i64 = 256;

/// WAL pages that a write takes beside those of its value, at most, about: mostly it is six, and now and then a page of a
/// tree has to be split.
const TAKEN: usize = 16;
const PAGE: usize = 4096;

/// How far the upkeep has come.
pub(super) struct Upkeep {
    /// History before this revision cannot be read any more.
    pub(super) compacted: Revision,
    /// The versions up to here have been swept; behind `compacted` there is work to do.
    swept: Revision,
    /// A sweep may have freed pages since they were last counted.
    freed: bool,
    /// WAL pages that are not in the database yet, at most: SQLite is asked when they may be worth a checkpoint, since
    /// to ask takes it as long as a tenth of a commit.
    backlog: i64,
}

impl Upkeep {
    /// Takes up where the last process stopped.
    pub(super) fn resume(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            compacted: Revision(Meta::Compacted.get(connection)?),
            swept: Revision(Meta::Swept.get(connection)?),
            freed: true,
            // What the last process left is not known.
            backlog: CHECKPOINT_BUSY,
        })
    }

    /// A batch of writes, with values of so many bytes in all, has been committed.
    pub(super) fn written(&mut self, writes: usize, bytes: usize) {
        let pages = i64::try_from(bytes / PAGE + writes * TAKEN).unwrap_or(CHECKPOINT_BUSY);
        self.backlog = self.backlog.saturating_add(pages);
    }
}

impl Writer {
    /// One step of each kind of work that cannot wait, and, while nobody is waiting, of all the rest.
    pub(super) fn maintain(&mut self, jobs: &mpsc::Receiver<Job>) {
        let mut idle = false;
        loop {
            match self.step(idle) {
                Ok(true) => {}
                Ok(false) if idle => return,
                Ok(false) => {}
                Err(error) => {
                    let reason = self.failed(&error);
                    tracing::warn!(reason, "upkeep of the datastore failed: it is taken up after the next write");
                    return;
                }
            }
            idle = jobs.is_empty();
            // A store that is being closed leaves the rest to the next start.
            if !idle || jobs.is_closed() {
                return;
            }
        }
    }

    /// True when a step has been taken that may be followed by another.
    fn step(&mut self, idle: bool) -> rusqlite::Result<bool> {
        if matches!(self.health, Health::Broken(_)) {
            return Ok(false);
        }
        if self.upkeep.swept < self.upkeep.compacted {
            self.sweep()?;
            return Ok(true);
        }
        let threshold = if idle { CHECKPOINT_IDLE } else { CHECKPOINT_BUSY };
        if self.upkeep.backlog >= threshold {
            self.upkeep.backlog = backlog(&self.connection)?;
        }
        if self.upkeep.backlog >= threshold {
            // Readers may keep it from finishing: not to be repeated at once.
            self.checkpoint("PASSIVE")?;
            return Ok(false);
        }
        if idle && self.upkeep.freed {
            self.upkeep.freed = vacuum(&self.connection)?;
            if self.upkeep.freed {
                self.upkeep.backlog = CHECKPOINT_BUSY;
            }
            return Ok(self.upkeep.freed);
        }
        Ok(false)
    }

    fn sweep(&mut self) -> rusqlite::Result<()> {
        let upto = Revision(self.upkeep.compacted.0.min(self.upkeep.swept.0 + SWEEP));
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        delete_superseded(&transaction, self.upkeep.swept, upto, &self.failpoints)?;
        Meta::Swept.set(&transaction, upto.0)?;
        transaction.commit()?;
        self.upkeep.swept = upto;
        self.upkeep.freed = true;
        // What it took is not known.
        self.upkeep.backlog = CHECKPOINT_BUSY;
        Ok(())
    }

    pub(super) fn checkpoint(&mut self, mode: &str) -> rusqlite::Result<()> {
        self.failpoints.hit(Point::Checkpoint)?;
        let done = self.connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()));
        // One that fails may have written a part.
        self.identity_changed();
        done
    }

    /// Leaves a file that needs no check when it is opened again, with everything in it.
    pub(super) fn close(&mut self) -> Result<(), Error> {
        if let Health::Broken(reason) = &self.health {
            return Err(Error::Unavailable(reason.clone()));
        }
        let close = |writer: &mut Self| {
            Meta::Clean.set(&writer.connection, 1)?;
            writer.checkpoint("TRUNCATE")
        };
        close(self).map_err(|error| Error::Unavailable(self.failed(&error)))
    }
}

/// Deletes what the versions after `swept` up to `upto` have replaced, and those that are deletions.
///
/// A later version never names one of these as its predecessor, so watches and reads from `upto` on miss nothing.
fn delete_superseded(
    transaction: &Transaction<'_>,
    swept: Revision,
    upto: Revision,
    failpoints: &Failpoints,
) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached("DELETE FROM versions WHERE revision = ?1")?;
    let mut versions = transaction.prepare_cached(
        "SELECT revision, previous, value IS NULL FROM versions WHERE revision > ?1 AND revision <= ?2",
    )?;
    let mut doomed = Vec::new();
    let mut rows = versions.query((Sql(swept), Sql(upto)))?;
    while let Some(row) = rows.next()? {
        if let Some(previous) = row.get::<_, Option<i64>>(1)? {
            doomed.push(Revision(previous.cast_unsigned()));
        }
        if row.get(2)? {
            doomed.push(revision(row, 0)?);
        }
    }
    for revision in doomed {
        delete.execute([Sql(revision)])?;
        failpoints.hit(Point::Compaction)?;
    }
    Ok(())
}

/// WAL pages that are not in the database yet.
fn backlog(connection: &Connection) -> rusqlite::Result<i64> {
    connection
        .prepare_cached("PRAGMA wal_checkpoint(NOOP)")?
        .query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
}

/// Gives some free pages back to the file system while they are more than half of the file: below that they are
/// soon used again. True when more may follow.
fn vacuum(connection: &Connection) -> rusqlite::Result<bool> {
    let number = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    if number("freelist_count")? < VACUUM.max(number("page_count")? / 2) {
        return Ok(false);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM})"))?;
    let mut rows = statement.query([])?;
    // Each row is a page that has been given back.
    while rows.next()?.is_some() {}
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::open;
    use crate::sqlite::rows::Version;

    #[test]
    fn the_backlog_is_no_more_than_is_known_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let connection = open::open(&directory.path().join("state.db")).unwrap().writer;
        let mut upkeep = Upkeep::resume(&connection).unwrap();
        assert_eq!(upkeep.backlog, CHECKPOINT_BUSY);
        upkeep.backlog = backlog(&connection).unwrap();
        for n in 1..=400u64 {
            let size = usize::try_from(n * 97 % 9000).unwrap();
            let version = Version {
                revision: Revision(n),
                key: format!("/registry/core/pods/default/{}", n * 31 % 300),
                created: Revision(n),
                previous: None,
                value: Some(vec![b'x'; size].into()),
            };
            let transaction = connection.unchecked_transaction().unwrap();
            version.insert(&transaction).unwrap();
            transaction.commit().unwrap();
            upkeep.written(1, size);
            let real = backlog(&connection).unwrap();
            assert!(upkeep.backlog >= real, "{n}: {real} pages, not {}", upkeep.backlog);
        }
        assert!(upkeep.backlog < 4 * backlog(&connection).unwrap(), "{}", upkeep.backlog);
    }
}
