//! The database file: its tables, its identity and version, and what it remembers about itself.
//!
//! ```text
//! versions  every version of every key, by the revision that wrote it; a deletion is a version without a value.
//!           `previous` is the revision of the version it replaced, absent for a creation. Watches read it in order.
//! history   index (key, revision): reads at a revision.
//! live      key -> revision of its newest version, absent when deleted: reads of now, preconditions.
//! meta      compacted  history before this revision is gone
//!           swept      the versions up to here have been looked at by the compaction
//!           clean      1 when the last owner closed the store, 0 while one has it open
//! ```
//!
//! Revisions are the writer's, never SQLite's AUTOINCREMENT: a commit that fails must not burn a number. The
//! newest is `max(versions.revision, compacted)`: compaction removes nothing later than `compacted`, so the
//! number survives even when the newest version was a deletion that has been swept away.

use rusqlite::{Connection, OptionalExtension};

use crate::Revision;

/// In the file's header: this is a k3rs datastore ("k3rs" in ASCII).
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"k3rs");

/// The layout below. Raise it with every change, and migrate from the one before.
pub(super) const VERSION: i32 = 1;

const TABLES: &str = "
    CREATE TABLE versions (
        revision INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        created INTEGER NOT NULL,
        previous INTEGER,
        checksum INTEGER NOT NULL,
        value BLOB
    );
    CREATE INDEX history ON versions (key, revision);
    CREATE TABLE live (key TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('compacted', 0), ('swept', 0), ('clean', 1);
";

/// A number that the database keeps about itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    Compacted,
    Swept,
    Clean,
}

impl Meta {
    fn name(self) -> &'static str {
        match self {
            Meta::Compacted => "compacted",
            Meta::Swept => "swept",
            Meta::Clean => "clean",
        }
    }

    pub(super) fn get(self, connection: &Connection) -> rusqlite::Result<u64> {
        connection
            .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
            .query_row([self.name()], |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
    }

    pub(super) fn set(self, connection: &Connection, value: u64) -> rusqlite::Result<()> {
        connection
            .prepare_cached("UPDATE meta SET value = ?2 WHERE name = ?1")?
            .execute((self.name(), value.cast_signed()))?;
        Ok(())
    }
}

/// Makes the tables of a new database, whole or not at all. They go to the file itself at once, so that one that
/// is found without them has never held anything.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// The newest revision that has been minted, as the connection sees it.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<Revision> {
    let last: Option<i64> =
        connection.prepare_cached("SELECT max(revision) FROM versions")?.query_row([], |row| row.get(0))?;
    let compacted = Meta::Compacted.get(connection)?;
    Ok(Revision(last.map_or(0, i64::cast_unsigned).max(compacted)))
}

/// Whether there is a table of this name.
pub(super) fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection
        .query_row("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1", [name], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

/// Whether there is nothing at all in the database.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0))
}
