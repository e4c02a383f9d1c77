//! The log: a bounded queue, and a file that is put aside when it is full.
//!
//! Files are named as upstream's are (lumberjack): `audit.log`, and beside it `audit-2026-01-31T10-00-00.000.log`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan as _, civil};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::ERRORS;
use super::waiting::{Line, Waiting};

/// Events that may wait for the file.
const WAITING: usize = 10_000;
/// Lines that are written at once.
const BATCH: usize = 512;
/// When a file was put aside, in its name.
const MOMENT: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// How long the past is kept. Zero is without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Bytes after which a file is put aside.
    pub size: u64,
    /// Files that were put aside.
    pub files: usize,
    pub days: u32,
}

impl Default for Retention {
    /// Upstream's.
    fn default() -> Self {
        Self { size: 100 << 20, files: 100, days: 366 }
    }
}

/// The file, written by whoever has something to tell.
pub(super) struct Direct(Mutex<Target>);

impl Direct {
    pub(super) fn open(path: &Path, retention: Retention) -> io::Result<Self> {
        Ok(Self(Mutex::new(Target::open(path, retention)?)))
    }

    /// Returns when the line is written, or why it is not.
    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        self.0.lock().write(&[line])
    }
}

/// Opens the file at `path` (`-`: the standard output), which is written on `tasks` until `stop`; the way to it.
pub(super) fn open(
    path: &Path,
    retention: Retention,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> io::Result<Waiting> {
    let target = Target::open(path, retention)?;
    let (queue, lines) = Waiting::new(WAITING);
    tasks.spawn(keep(target, lines, stop));
    Ok(queue)
}

/// Writes what is queued, in order; after `stop` what had come before it.
async fn keep(mut target: Target, mut lines: mpsc::Receiver<Line>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let count = tokio::select! {
            biased;
            count = lines.recv_many(&mut batch, BATCH) => count,
            () = stop.cancelled(), if !lines.is_closed() => {
                lines.close();
                continue;
            }
        };
        if count == 0 {
            return;
        }
        let written = std::mem::take(&mut batch);
        let writing = tokio::task::spawn_blocking(move || {
            if let Err(why) = target.write(&written) {
                ERRORS.add(&["log"], written.len() as f64);
                error!(%why, lost = written.len(), "writing the audit log");
            }
            target
        });
        match writing.await {
            Ok(back) => target = back,
            Err(why) => {
                error!(%why, "the audit log's writer ended: nothing more is recorded");
                return;
            }
        }
    }
}

enum Target {
    Stdout,
    File(LogFile),
}

impl Target {
    fn open(path: &Path, retention: Retention) -> io::Result<Self> {
        Ok(match path == Path::new("-") {
            true => Self::Stdout,
            false => Self::File(LogFile::open(path, retention)?),
        })
    }

    fn write(&mut self, lines: &[impl AsRef<[u8]>]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                lines.iter().try_for_each(|line| out.write_all(line.as_ref()))?;
                out.flush()
            }
            Self::File(file) => file.write(lines),
        }
    }
}

struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    retention: Retention,
}

impl LogFile {
    fn open(path: &Path, retention: Retention) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, retention })
    }

    fn write(&mut self, lines: &[impl AsRef<[u8]>]) -> io::Result<()> {
        let mut piece = Vec::new();
        for bytes in lines.iter().map(AsRef::as_ref) {
            let full = self.size + (piece.len() + bytes.len()) as u64 > self.retention.size;
            if self.retention.size > 0 && full && self.size + piece.len() as u64 > 0 {
                self.append(&mut piece)?;
                self.put_aside()?;
            }
            piece.extend_from_slice(bytes);
        }
        self.append(&mut piece)
    }

    fn append(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.size += piece.len() as u64;
        piece.clear();
        Ok(())
    }

    /// Begins a new file, and forgets the oldest.
    fn put_aside(&mut self) -> io::Result<()> {
        let now = Timestamp::now();
        let (stem, ending) = names(&self.path);
        let aside = self.path.with_file_name(format!("{stem}-{}{ending}", now.strftime(MOMENT)));
        // Twice within a millisecond: the file in use may grow until the next line.
        if aside.exists() {
            return Ok(());
        }
        fs::rename(&self.path, aside)?;
        *self = Self::open(&self.path, self.retention)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let files = fs::read_dir(folder)?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        for name in stale(files, &stem, &ending, now, self.retention) {
            fs::remove_file(folder.join(name))?;
        }
        Ok(())
    }
}

/// `audit` and `.log`.
fn names(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy()));
    (text(path.file_stem()), ending.unwrap_or_default())
}

/// Which of `files` that were put aside are to go.
fn stale(files: Vec<String>, stem: &str, ending: &str, now: Timestamp, keep: Retention) -> Vec<String> {
    let moment = |name: &str| {
        let moment = name.strip_prefix(stem)?.strip_prefix('-')?.strip_suffix(ending)?;
        civil::DateTime::strptime(MOMENT, moment).ok()
    };
    let mut aside: Vec<_> = files.into_iter().filter_map(|name| Some((moment(&name)?, name))).collect();
    aside.sort_by(|one, other| other.cmp(one));
    let oldest = now.checked_sub((i64::from(keep.days) * 24).hours()).unwrap_or(Timestamp::MIN);
    let oldest = oldest.to_zoned(jiff::tz::TimeZone::UTC).datetime();
    let goes =
        |at: usize, moment: civil::DateTime| (keep.files > 0 && at >= keep.files) || (keep.days > 0 && moment < oldest);
    aside.into_iter().enumerate().filter(|(at, (moment, _))| goes(*at, *moment)).map(|(_, (_, name))| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::waiting::BYTES;

    #[test]
    fn the_oldest_go_by_number_and_by_age() {
        let check = |files: usize, days: u32, expected: &[&str]| {
            let names = [
                "audit.log",
                "audit-2026-01-01T00-00-00.000.log",
                "audit-2026-01-30T00-00-00.123.log",
                "audit-2026-01-29T00-00-00.000.log",
                "audit-notes.log",
                "other-2025-01-01T00-00-00.000.log",
            ];
            let now = "2026-01-31T00:00:00Z".parse().unwrap();
            let keep = Retention { size: 1, files, days };
            assert_eq!(stale(names.map(str::to_owned).into(), "audit", ".log", now, keep), expected);
        };
        check(0, 0, &[]);
        check(2, 0, &["audit-2026-01-01T00-00-00.000.log"]);
        check(0, 7, &["audit-2026-01-01T00-00-00.000.log"]);
        check(1, 1, &["audit-2026-01-29T00-00-00.000.log", "audit-2026-01-01T00-00-00.000.log"]);
    }

    #[tokio::test]
    async fn lines_come_in_order_over_several_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/audit.log");
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let retention = Retention { size: 10, files: 0, days: 0 };
        let log = open(&path, retention, &tasks, stop.clone()).unwrap();
        let lines: Vec<String> = (0..4).map(|at| format!("line{at}\n")).collect();
        for line in &lines {
            log.write(line.clone().into_bytes());
        }
        log.write(vec![b'x'; BYTES + 1]);
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        let mut files: Vec<PathBuf> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|it| it.unwrap().path()).collect();
        // The one in use has no moment, and is the last to be written.
        files.sort_by_key(|file| (*file == path, file.clone()));
        let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert_eq!(text, lines.concat());
        assert!(files.len() >= 2, "{files:?}");
    }
}
