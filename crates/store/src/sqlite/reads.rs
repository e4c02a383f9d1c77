//! What a snapshot of the database answers. A snapshot is a read transaction: it sees one commit and no later one.

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, Rows, Transaction};

use super::rows::{Sql, Version, read_error, version_columns};
use super::schema::{self, Meta};
use crate::hub::Stretch;
use crate::{Error, Page, Range, Record, Revision};

/// Revisions in one stretch of events read for a watcher that has fallen behind.
const STRETCH: u64 = 512;

/// Bytes of values after which a stretch ends early.
const STRETCH_BYTES: usize = 1 << 20;

/// One committed state of the store.
pub(super) struct Snapshot<'c> {
    transaction: Transaction<'c>,
    /// The newest revision in it.
    pub(super) current: Revision,
    compacted: Revision,
}

impl<'c> Snapshot<'c> {
    pub(super) fn open(connection: &'c Connection) -> Result<Self, Error> {
        let open = || {
            let transaction = connection.unchecked_transaction()?;
            let current = schema::newest(&transaction)?;
            let compacted = Revision(Meta::Compacted.get(&transaction)?);
            Ok(Self { transaction, current, compacted })
        };
        open().map_err(read_error)
    }

    /// Fails unless the state at `asked` can still, and already, be read.
    fn check(&self, asked: Revision) -> Result<(), Error> {
        if asked > self.current {
            return Err(Error::Future { asked, current: self.current });
        }
        if asked < self.compacted {
            return Err(Error::Compacted { asked, oldest: self.compacted });
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &str, at: Revision) -> Result<Option<Record>, Error> {
        self.check(at)?;
        if at == self.current {
            return Version::live(&self.transaction, key);
        }
        let mut statement = self
            .transaction
            .prepare_cached(concat!(
                "SELECT ",
                version_columns!(),
                " FROM versions v WHERE v.key = ?1 AND v.revision <= ?2 ORDER BY v.revision DESC LIMIT 1"
            ))
            .map_err(read_error)?;
        let mut rows = statement.query((key, Sql(at))).map_err(read_error)?;
        match rows.next().map_err(read_error)? {
            Some(row) => Ok(Version::read(row, 0)?.into_record()),
            None => Ok(None),
        }
    }

    pub(super) fn range(&self, range: &Range, at: Revision) -> Result<Page, Error> {
        self.check(at)?;
        let (from, to) = bounds(range);
        let sql = if at == self.current { LIVE } else { AT };
        let mut statement = self.transaction.prepare_cached(sql).map_err(read_error)?;
        let rows = if at == self.current { statement.query((from, to)) } else { statement.query((from, to, Sql(at))) };
        let (records, more) = collect(rows.map_err(read_error)?, range.limit)?;
        Ok(Page { records, revision: at, more })
    }

    /// How many keys [`Snapshot::range`] would find without its limit.
    pub(super) fn count(&self, range: &Range, at: Revision) -> Result<u64, Error> {
        self.check(at)?;
        let (from, to) = bounds(range);
        let count = match at == self.current {
            true => self
                .transaction
                .prepare_cached("SELECT COUNT(*) FROM live l WHERE l.key >= ?1 AND l.key < ?2")
                .and_then(|mut statement| statement.query_row((from, to), |row| row.get(0))),
            false => self
                .transaction
                .prepare_cached(COUNT_AT)
                .and_then(|mut statement| statement.query_row((from, to, Sql(at)), |row| row.get(0))),
        };
        let count: i64 = count.map_err(read_error)?;
        Ok(count.unsigned_abs())
    }

    /// A stretch of the events under `prefix` after `after`, for a watcher.
    pub(super) fn events(&self, prefix: &str, after: Revision) -> Result<Stretch, Error> {
        self.check(after)?;
        let upto = Revision(self.current.0.min(after.0 + STRETCH));
        let mut statement = self
            .transaction
            .prepare_cached(concat!(
                "SELECT ",
                version_columns!(),
                " FROM versions v WHERE v.revision > ?1 AND v.revision <= ?2 ORDER BY v.revision"
            ))
            .map_err(read_error)?;
        let mut rows = statement.query((Sql(after), Sql(upto))).map_err(read_error)?;
        let mut events = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next().map_err(read_error)? {
            let key = row.get_ref(1).and_then(|key| Ok(key.as_bytes()?)).map_err(read_error)?;
            if !key.starts_with(prefix.as_bytes()) {
                continue;
            }
            let version = Version::read(row, 0)?;
            bytes += version.value.as_ref().map_or(0, Bytes::len);
            let revision = version.revision;
            events.push(version.into_event());
            if bytes > STRETCH_BYTES {
                return Ok(Stretch { events, upto: revision });
            }
        }
        Ok(Stretch { events, upto })
    }
}

/// The newest versions of the keys from ?1 to before ?2. An outer join, so that a missing version is found out.
pub(super) const LIVE: &str = concat!(
    "SELECT l.key, l.revision, ",
    version_columns!(),
    " FROM live l LEFT JOIN versions v ON v.revision = l.revision WHERE l.key >= ?1 AND l.key < ?2 ORDER BY l.key"
);

/// The same at revision ?3: one walk along `history`, which holds the versions of a key together in order.
pub(super) const AT: &str = concat!(
    "SELECT v.key, v.revision, ",
    version_columns!(),
    " FROM versions v INDEXED BY history
      WHERE v.key >= ?1 AND v.key < ?2 AND v.revision <= ?3
        AND NOT EXISTS (SELECT 1 FROM versions w WHERE w.key = v.key AND w.revision > v.revision AND w.revision <= ?3)
        AND v.value IS NOT NULL
      ORDER BY v.key"
);

/// How many keys [`AT`] finds.
pub(super) const COUNT_AT: &str = "SELECT COUNT(*)
    FROM versions v INDEXED BY history
      WHERE v.key >= ?1 AND v.key < ?2 AND v.revision <= ?3
        AND NOT EXISTS (SELECT 1 FROM versions w WHERE w.key = v.key AND w.revision > v.revision AND w.revision <= ?3)
        AND v.value IS NOT NULL";

/// The keys of a range: from the first on, to before the second.
fn bounds(range: &Range) -> (&String, Value) {
    let from = match &range.start {
        Some(start) if *start > range.prefix => start,
        _ => &range.prefix,
    };
    (from, after_prefix(&range.prefix))
}

/// The first `limit` records (0: all), and whether there are more.
fn collect(mut rows: Rows<'_>, limit: usize) -> Result<(Vec<Record>, bool), Error> {
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(read_error)? {
        if limit > 0 && records.len() == limit {
            return Ok((records, true));
        }
        let key: String = row.get(0).map_err(read_error)?;
        records.push(Version::read_live(row, 1, &key)?);
    }
    Ok((records, false))
}

/// The first key after all that start with `prefix`.
///
/// Keys are UTF-8, whose byte order is that of its code points: the next code point at the end makes the bound. A
/// prefix that has no such successor is bounded by an empty blob, which SQLite orders after every text.
fn after_prefix(prefix: &str) -> Value {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Value::Text(chars.into_iter().collect());
        }
    }
    Value::Blob(Vec::new())
}
