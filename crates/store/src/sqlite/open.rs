//! Opening a database file: whose it is, whether it is whole, and that nobody else has it.
//!
//! ```text
//! state.db           the database; -wal and -shm beside it are SQLite's
//! state.db.lock      flock'ed by the process that has the store open; holds its pid
//! state.db.reserve   space that is given back when the disk is full, see `reserve`
//! ```
//!
//! Nothing is changed before the file is known to be ours, and a damaged file is never changed at all.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::process::setpriority_process;

use super::health::{give_up_reserve, is_full};
use super::schema::{self, Meta};

/// Why a store cannot be opened. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("datastore {} is in use by process {pid}: stop it first, or choose another data directory", path.display())]
    InUse { path: PathBuf, pid: String },
    #[error(
        "datastore {} has format {found}, this version knows {known}: run the version that wrote it, or a newer one",
        path.display()
    )]
    Newer { path: PathBuf, found: i32, known: i32 },
    #[error(
        "{} belongs to {owner}: k3rs cannot take it over; choose another data directory, or move the file away",
        path.display()
    )]
    Foreign { path: PathBuf, owner: &'static str },
    #[error(
        "datastore {} is damaged ({detail}): it was left as it is; restore a snapshot, or move it away to start empty",
        path.display()
    )]
    Corrupt { path: PathBuf, detail: String },
    #[error("cannot {action} {}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    #[error("cannot open datastore {}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

/// A database that is ours, whole (or being checked), and locked.
pub(super) struct Opened {
    pub(super) writer: Connection,
    pub(super) lock: Lock,
    /// The last owner did not close it, and it is too large to have been checked on the way.
    pub(super) unchecked: bool,
}

/// A file up to this size is checked while it is opened (about a second for 100 MB), a larger one afterwards.
const CHECK_AT_ONCE: u64 = 128 << 20;

/// Opens or creates the database at `path`.
pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let lock = Lock::take(path)?;
    create_file(path)?;
    let (writer, unchecked) = match open_writer(path) {
        // Even to open takes some space: that is what the reserve is for.
        Err(OpenError::Sqlite { source, .. }) if is_full(&source) => {
            give_up_reserve(path);
            open_writer(path)
        }
        opened => opened,
    }?;
    Ok(Opened { writer, lock, unchecked })
}

/// The writer's connection, and whether the file is still to be checked.
fn open_writer(path: &Path) -> Result<(Connection, bool), OpenError> {
    let failed = |source| sqlite_error(path, source);
    let mut writer = connect(path).map_err(failed)?;
    let new = identify(path, &writer)?;
    let private = Permissions::from_mode(0o600);
    fs::set_permissions(path, private).map_err(|source| io_error(path, "restrict", source))?;
    if new {
        // Before anything is in it: pages freed by compaction can be given back.
        writer.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    }
    configure(&writer).map_err(failed)?;
    let mut unchecked = false;
    if new {
        schema::create(&mut writer).map_err(failed)?;
    } else if Meta::Clean.get(&writer).map_err(failed)? == 0 {
        let size = fs::metadata(path).map_err(|source| io_error(path, "look at", source))?.len();
        unchecked = size > CHECK_AT_ONCE;
        if !unchecked && let Some(detail) = quick_check(&writer).map_err(failed)? {
            return Err(OpenError::Corrupt { path: path.to_owned(), detail });
        }
    }
    writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed)?;
    Meta::Clean.set(&writer, 0).map_err(failed)?;
    Ok((writer, unchecked))
}

/// Plans do not depend on what is looked for: without this some statements are planned again each time that they run.
fn plan_once(connection: &Connection) -> rusqlite::Result<bool> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
}

/// A connection that may write.
pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Closing the last connection moves the WAL into the database: not before we know that it is ours and whole.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    plan_once(&connection)?;
    // Nor does a commit: the writer checkpoints, when it has time.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Only a stranger, such as a shell that looks at the file, ever holds a lock that we must wait for.
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// What the writer's connection needs before it writes.
pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Each commit is on the disk before it is acknowledged; NORMAL would lose the last ones in a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 32 << 20)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    // In KiB. Who reads objects reads the watch cache: what is worth keeping here are the inner pages of the trees.
    connection.pragma_update(None, "cache_size", -2048)
}

/// A connection that can only read.
pub(super) fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    plan_once(&connection)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

/// The first damage that SQLite finds in the file's structure.
pub(super) fn quick_check(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    // Above what is wrong stands which database it is in, of which there is one.
    let detail = verdict.lines().find(|line| !line.starts_with("***")).unwrap_or(&verdict);
    Ok((verdict != "ok").then(|| detail.to_owned()))
}

/// Checks a large file while it is in use; what is wrong with it ends up in `damage`.
pub(super) fn check_later(path: &Path, damage: Arc<OnceLock<String>>) -> Result<(), OpenError> {
    let connection = connect_reader(path).map_err(|source| sqlite_error(path, source))?;
    let check = move || {
        // Whoever starts with much in the file is to wait for what it reads, not for this.
        if let Err(error) = setpriority_process(None, 19) {
            tracing::debug!(%error, "the check of the datastore runs at the priority of everything else");
        }
        let found = quick_check(&connection).unwrap_or_else(|error| Some(error.to_string()));
        if let Some(detail) = found {
            // Set once: there is one check.
            drop(damage.set(detail));
        }
    };
    let thread = thread::Builder::new().name("store-check".to_owned()).spawn(check);
    thread.map(drop).map_err(|source| io_error(path, "start a thread for", source))
}

/// True for a new file; an error for one that is not ours to use.
fn identify(path: &Path, connection: &Connection) -> Result<bool, OpenError> {
    let failed = |source| sqlite_error(path, source);
    let number = |name| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0)).map_err(failed);
    let foreign = |owner| Err(OpenError::Foreign { path: path.to_owned(), owner });
    if number("application_id")? == schema::APPLICATION_ID {
        let found = number("user_version")?;
        if found > schema::VERSION {
            return Err(OpenError::Newer { path: path.to_owned(), found, known: schema::VERSION });
        }
        return Ok(false);
    }
    if schema::has_table(connection, "kine").map_err(failed)? {
        return foreign("k3s (its kine table is there)");
    }
    // A file that we had only begun to make, when the process died, has a header and no tables.
    if number("application_id")? != 0 || !schema::is_empty(connection).map_err(failed)? {
        return foreign("another program");
    }
    Ok(true)
}

/// Creates the file, readable by its owner only, so that SQLite's files beside it are too.
fn create_file(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match created {
        Ok(_) => sync_directory(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(io_error(path, "create", source)),
    }
}

/// Makes a new name durable.
fn sync_directory(path: &Path) -> Result<(), OpenError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| io_error(directory, "sync", source))
}

/// The right to have the store open. It ends with the process at the latest.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

/// A child that has been forked and is not another program yet holds the file as well: closing it alone would leave the
/// store in use until then.
impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the lock of the datastore is held until the process ends");
        }
    }
}

impl Lock {
    fn take(database: &Path) -> Result<Self, OpenError> {
        let path = beside(database, "lock");
        let failed = |action| {
            let path = path.clone();
            move |source| OpenError::Io { path, action, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(failed("read"))?;
                return Err(OpenError::InUse { path: database.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock")(source)),
        }
        let written =
            file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = written {
            // It is for the message above; the lock itself is what counts, also on a full disk.
            tracing::warn!(path = %path.display(), %error, "the owner of the datastore cannot be noted");
        }
        Ok(Self { file })
    }
}

/// The file called like the database with one more extension.
pub(super) fn beside(database: &Path, extension: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), action, source }
}

/// Says whether SQLite's error is the file's fault.
pub(super) fn sqlite_error(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            OpenError::Corrupt { path, detail: source.to_string() }
        }
        _ => OpenError::Sqlite { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_its_owner_though_a_child_holds_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("state.db");
        let lock = Lock::take(&database).unwrap();
        let inherited = lock.file.try_clone().unwrap();
        assert!(matches!(Lock::take(&database), Err(OpenError::InUse { .. })));
        drop(lock);
        Lock::take(&database).unwrap();
        drop(inherited);
    }
}
