//! Versions as rows: how one is written, how it is read back, and how a damaged one is told.

use bytes::Bytes;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{Error, Event, Record, Revision};

/// The columns that [`Version::read`] takes, of a row called `v`.
macro_rules! version_columns {
    () => {
        "v.revision, v.key, v.created, v.previous, v.checksum, v.value"
    };
}
pub(super) use version_columns;

const STANDING: &str =
    "SELECT l.revision, v.created FROM live l LEFT JOIN versions v ON v.revision = l.revision WHERE l.key = ?1";

/// What a write needs to know of the key that it changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) revision: Revision,
    pub(super) created: Revision,
}

/// A row of `versions`.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) revision: Revision,
    pub(super) key: String,
    pub(super) created: Revision,
    pub(super) previous: Option<Revision>,
    pub(super) value: Option<Bytes>,
}

impl Version {
    /// The version that `live` names for `key`.
    pub(super) fn live(connection: &Connection, key: &str) -> Result<Option<Record>, Error> {
        let mut statement = connection
            .prepare_cached(concat!(
                "SELECT l.revision, ",
                version_columns!(),
                " FROM live l LEFT JOIN versions v ON v.revision = l.revision WHERE l.key = ?1"
            ))
            .map_err(read_error)?;
        let mut rows = statement.query([key]).map_err(read_error)?;
        match rows.next().map_err(read_error)? {
            Some(row) => Self::read_live(row, 0, key).map(Some),
            None => Ok(None),
        }
    }

    /// When `key` was created and written last, without what it holds.
    pub(super) fn standing(connection: &Connection, key: &str) -> Result<Option<Standing>, Error> {
        let numbers = connection
            .prepare_cached(STANDING)
            .and_then(|mut statement| {
                statement.query_row([key], |row| Ok((revision(row, 0)?, row.get::<_, Option<i64>>(1)?))).optional()
            })
            .map_err(read_error)?;
        match numbers {
            None => Ok(None),
            Some((revision, Some(created))) => {
                Ok(Some(Standing { revision, created: Revision(created.cast_unsigned()) }))
            }
            Some((revision, None)) => Err(missing(key, revision)),
        }
    }

    /// Reads the version of `key` that must be there, because another table names its revision in the column `first`.
    pub(super) fn read_live(row: &Row<'_>, first: usize, key: &str) -> Result<Record, Error> {
        let revision = revision(row, first).map_err(read_error)?;
        let damaged = || missing(key, revision);
        if row.get_ref(first + 1).map_err(read_error)? == ValueRef::Null {
            return Err(damaged());
        }
        let record = Self::read(row, first + 1)?.into_record().ok_or_else(damaged)?;
        if record.key == key { Ok(record) } else { Err(damaged()) }
    }

    /// Reads the columns from the `first` on, and compares them with their checksum.
    pub(super) fn read(row: &Row<'_>, first: usize) -> Result<Self, Error> {
        let columns = || -> rusqlite::Result<(Self, i64)> {
            let version = Self {
                revision: revision(row, first)?,
                key: row.get(first + 1)?,
                created: revision(row, first + 2)?,
                previous: row.get::<_, Option<i64>>(first + 3)?.map(|number| Revision(number.cast_unsigned())),
                value: row.get_ref(first + 5)?.as_blob_or_null()?.map(Bytes::copy_from_slice),
            };
            Ok((version, row.get(first + 4)?))
        };
        let (version, stored) = columns().map_err(read_error)?;
        if version.checksum() != stored {
            let Self { revision, key, .. } = version;
            return Err(Error::Corrupt(format!("revision {revision} of {key} does not match its checksum")));
        }
        Ok(version)
    }

    /// Writes the version and makes it the live one.
    pub(super) fn insert(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection
            .prepare_cached(
                "INSERT INTO versions (revision, key, created, previous, checksum, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                Sql(self.revision),
                &self.key,
                Sql(self.created),
                self.previous.map(Sql),
                self.checksum(),
                self.value.as_deref(),
            ))?;
        if self.value.is_some() {
            connection
                .prepare_cached(
                    "INSERT INTO live VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET revision = excluded.revision",
                )?
                .execute((&self.key, Sql(self.revision)))?;
        } else {
            connection.prepare_cached("DELETE FROM live WHERE key = ?1")?.execute([&self.key])?;
        }
        Ok(())
    }

    /// `None` for a deletion.
    pub(super) fn into_record(self) -> Option<Record> {
        let Self { revision, key, created, value, .. } = self;
        Some(Record { key, value: value?, revision, created })
    }

    /// The event that the version was.
    pub(super) fn into_event(self) -> Event {
        Event { key: self.key, revision: self.revision, value: self.value, previous: self.previous }
    }

    fn checksum(&self) -> i64 {
        let mut sum = Checksum::default();
        sum.number(self.revision.0);
        sum.number(self.created.0);
        sum.number(self.previous.map_or(u64::MAX, |revision| revision.0));
        sum.bytes(self.key.as_bytes());
        match &self.value {
            Some(value) => sum.bytes(value),
            None => sum.number(u64::MAX),
        }
        sum.0.cast_signed()
    }
}

/// A 64-bit sum that no damage within one 8-byte word escapes: each step maps the running state one to one, so
/// two inputs that differ in a single word never meet again.
#[derive(Default)]
struct Checksum(u64);

impl Checksum {
    fn number(&mut self, word: u64) {
        // An odd multiplier keeps the map one to one; the rotation lets high bits act on low ones.
        self.0 = (self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.number(u64::from_le_bytes(last));
        self.number(bytes.len() as u64);
    }
}

/// A revision as SQLite stores it.
pub(super) struct Sql(pub(super) Revision);

impl ToSql for Sql {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.0.cast_signed().into())
    }
}

pub(super) fn revision(row: &Row<'_>, column: usize) -> rusqlite::Result<Revision> {
    row.get::<_, i64>(column).map(|number| Revision(number.cast_unsigned()))
}

/// The table of what is live names a version that is not there.
fn missing(key: &str, revision: Revision) -> Error {
    Error::Corrupt(format!("the live version of {key} (revision {revision}) is missing"))
}

/// Why a read failed.
pub(super) fn read_error(error: rusqlite::Error) -> Error {
    Error::Corrupt(format!("a read failed: {error}"))
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::sqlite::open;

    #[test]
    fn statements_are_planned_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.db");
        let writer = open::open(&path).unwrap().writer;
        for connection in [&writer, &open::connect_reader(&path).unwrap()] {
            for key in ["/a", "/b", "/c"] {
                assert!(Version::standing(connection, key).unwrap().is_none());
            }
            let planned_again = connection.prepare_cached(STANDING).unwrap().get_status(StatementStatus::RePrepare);
            assert_eq!(planned_again, 0);
        }
    }
}
