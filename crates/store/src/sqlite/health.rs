//! Whether the writer may write, and what becomes of it when it fails.
//!
//! - The disk is full: what the failed batch wrote is rolled back, the connection is opened anew and compared with
//!   what was acknowledged, and the reserve beside the database is given up, so that deletions and compactions go
//!   on. Each later batch first looks whether there is room for the reserve and as much again: then it is taken back,
//!   and everything may be written.
//! - Anything else that the disk did to a write, above all a failed fsync: nobody knows what is on the disk, and
//!   asking again may get a lie for an answer. Writes stop until the process starts anew and looks at the file.
//! - The file was replaced under us: the same.
//!
//! Reads go on in any case.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi};
use rustix::fs::statvfs;

use super::open::{beside, configure, connect};
use super::schema;
use super::writer::Writer;

/// What is kept free for deletions and compactions on a full disk.
const RESERVE: u64 = 4 << 20;

/// What may be written.
#[derive(Clone, Debug)]
pub(super) enum Health {
    Good,
    /// Only what frees space.
    Full(String),
    /// Nothing, until the process starts anew.
    Broken(String),
}

/// What the writer knows about its file from outside of SQLite.
pub(super) struct Guard {
    path: PathBuf,
    identity: io::Result<Identity>,
    /// Set when the check of a large file finds damage.
    damage: Arc<OnceLock<String>>,
}

/// How the file system sees the database. Only a checkpoint changes it, and only the writer checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    database: (u64, u64, u64, i64, i64),
    wal: (u64, u64),
}

impl Guard {
    pub(super) fn new(path: &Path, damage: Arc<OnceLock<String>>) -> Self {
        Self { path: path.to_owned(), identity: Identity::of(path), damage }
    }

    /// How a store starts: a disk that has no room for the reserve is full already.
    pub(super) fn health(&self) -> Health {
        let path = self.path.display();
        match take_reserve(&self.path) {
            Ok(()) => Health::Good,
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Health::Full(no_space(&self.path)),
            Err(error) => {
                tracing::warn!(%path, %error, "no space could be reserved for deletions on a full disk");
                Health::Good
            }
        }
    }

    /// What is wrong with the file, seen from outside.
    fn suspicion(&self) -> Option<String> {
        let path = self.path.display();
        if let Some(detail) = self.damage.get() {
            return Some(format!("{path} is damaged ({detail}): restore a snapshot"));
        }
        let expected = match &self.identity {
            Ok(identity) => identity,
            Err(error) => return Some(format!("{path} cannot be looked at: {error}")),
        };
        match Identity::of(&self.path) {
            Ok(found) if found == *expected => None,
            Ok(_) => Some(format!("{path} was replaced or changed by another program: restart on the file you mean")),
            Err(error) => Some(format!("{path} or its WAL is gone ({error}): restart on the file you mean")),
        }
    }
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        // By name only: to close another descriptor of the file would drop SQLite's locks on it.
        let database = fs::metadata(path)?;
        let wal = fs::metadata(wal(path))?;
        let inode = |file: &Metadata| (file.dev(), file.ino());
        let (device, number) = inode(&database);
        Ok(Self {
            database: (device, number, database.len(), database.mtime(), database.mtime_nsec()),
            wal: inode(&wal),
        })
    }
}

impl Writer {
    /// What may be written now.
    pub(super) fn check_health(&mut self) -> Health {
        if matches!(self.health, Health::Good | Health::Full(_))
            && let Some(reason) = self.guard.suspicion()
        {
            tracing::error!(reason, "the datastore stops writing");
            self.health = Health::Broken(reason);
        }
        if matches!(self.health, Health::Full(_)) && take_reserve(&self.guard.path).is_ok() {
            tracing::info!(path = %self.guard.path.display(), "there is space again: the datastore can be written");
            self.health = Health::Good;
        }
        self.health.clone()
    }

    /// Takes in that a transaction failed; returns the reason for those who wait for it.
    pub(super) fn failed(&mut self, error: &rusqlite::Error) -> String {
        let what = format!("{}: {error}", self.guard.path.display());
        self.health = match Fault::of(error) {
            Fault::Passing => return what,
            Fault::Full => self.full(),
            Fault::Lasting => Health::Broken(format!("{what}: check the disk, then restart")),
        };
        let (Health::Full(reason) | Health::Broken(reason)) = &self.health else { return what };
        tracing::error!(reason, "the datastore cannot be written");
        reason.clone()
    }

    /// Starts over on a full disk, unless the file does not hold what was acknowledged.
    fn full(&mut self) -> Health {
        let path = &self.guard.path.clone();
        give_up_reserve(path);
        match reopen(path) {
            Ok((connection, newest)) if newest == self.newest => {
                self.connection = connection;
                self.use_reserve();
                Health::Full(no_space(path))
            }
            Ok((_, newest)) => {
                let expected = self.newest;
                Health::Broken(format!("{}: is at revision {newest}, not {expected}: restart", path.display()))
            }
            Err(error) => Health::Broken(format!("{}: cannot be opened again: {error}: restart", path.display())),
        }
    }

    /// Moves the WAL into the database where the reserve's space suffices for that: the WAL is then written from its
    /// beginning again, which takes no space. Where it does not, deletions have the reserve's space behind the WAL.
    fn use_reserve(&mut self) {
        let done = growth(&self.connection, &self.guard.path)
            .and_then(|growth| if growth <= RESERVE { self.checkpoint("PASSIVE") } else { Ok(()) });
        if let Err(error) = done {
            tracing::warn!(path = %self.guard.path.display(), %error, "the WAL stays as it is while the disk is full");
        }
    }

    /// A checkpoint has written the database: this is how it looks now.
    pub(super) fn identity_changed(&mut self) {
        self.guard.identity = Identity::of(&self.guard.path);
    }
}

/// How an error of SQLite is to be taken.
enum Fault {
    /// Nothing is wrong with the file: a stranger's lock, no memory.
    Passing,
    Full,
    Lasting,
}

impl Fault {
    fn of(error: &rusqlite::Error) -> Self {
        let Some(failure) = error.sqlite_error() else { return Fault::Passing };
        match failure.code {
            ErrorCode::DiskFull => Fault::Full,
            // The shared-memory file beside the database could not grow.
            ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => Fault::Full,
            ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ReadOnly => {
                Fault::Lasting
            }
            _ => Fault::Passing,
        }
    }
}

/// Whether SQLite found no space.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    matches!(Fault::of(error), Fault::Full)
}

fn reopen(path: &Path) -> rusqlite::Result<(Connection, crate::Revision)> {
    let connection = connect(path)?;
    configure(&connection)?;
    let newest = schema::newest(&connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok((connection, newest))
}

fn no_space(path: &Path) -> String {
    format!("no space left on the disk of {}: free some, or delete objects", path.display())
}

/// Makes room for what frees more.
pub(super) fn give_up_reserve(path: &Path) {
    if let Err(error) = remove(&beside(path, "reserve"))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "the reserve cannot be given up");
    }
}

/// By how many bytes a checkpoint makes the database longer.
fn growth(connection: &Connection, path: &Path) -> rusqlite::Result<u64> {
    let number = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, u32>(0)).map(u64::from);
    let size = number("page_count")? * number("page_size")?;
    // A file that cannot be looked at is taken for empty.
    Ok(size.saturating_sub(fs::metadata(path).map_or(0, |file| file.len())))
}

/// Takes the reserve: a file of zeros, whole or not there at all. What would leave no room beside it is not taken: it
/// would only be given up again by the next write.
fn take_reserve(database: &Path) -> io::Result<()> {
    let path = beside(database, "reserve");
    if fs::metadata(&path).is_ok_and(|file| file.len() == RESERVE) {
        return Ok(());
    }
    let disk = statvfs(database)?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < 2 * RESERVE {
        return Err(io::ErrorKind::StorageFull.into());
    }
    // Not synced: file systems account for the space when it is written, and nobody reads what is in it.
    let fill = |mut file: File| io::copy(&mut io::repeat(0).take(RESERVE), &mut file).map(drop);
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&path).and_then(fill).inspect_err(|_| {
        // Half a reserve would only take space; that it may not be there to remove is fine.
        drop(remove(&path));
    })
}

/// Removes a file and frees its space now. A name that is gone frees nothing while somebody else has the file open, as
/// a child of ours has between its fork and its exec.
fn remove(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.set_len(0)?;
    fs::remove_file(path)
}

pub(super) fn wal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
