//! A log as a stream of bytes that, when it is followed, goes on until its container has ended.
//!
//! At the end of the file the reader waits for inotify on its folder: that tells of new text and of a new file in its
//! place (rotation) alike. That the container has ended is told by who opened the log.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use client::folder::{Folder, WatchFlags};
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};

use super::filter::Filter;
use super::{LogOptions, tail};

/// How much is read at once.
const BLOCK: usize = 64 * 1024;
/// A line longer than this is no line of a log: the runtime cuts at 16 KiB.
const LONGEST_LINE: usize = 1 << 20;
/// New text, and a new file.
const CHANGES: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CREATE).union(WatchFlags::MOVED_TO);

/// Completes when the container has ended; what it wrote before that is in the file then.
pub type Ends = BoxFuture<'static, ()>;

/// Opens a log file as `options` say. Errors later in the stream end it.
pub fn open(path: &Path, options: LogOptions, ends: Ends) -> io::Result<BoxStream<'static, io::Result<Bytes>>> {
    let mut file = open_file(path)?;
    let at = match options.tail_lines {
        Some(lines) => tail::offset(&mut file, lines)?,
        None => 0,
    };
    file.seek(SeekFrom::Start(at))?;
    // Watched before it is read: nothing can be missed between.
    let watch = if options.follow { Some(Folder::of(path, CHANGES)?) } else { None };
    if options.limit_bytes == Some(0) {
        return Ok(stream::empty().boxed());
    }
    let reader = Reader {
        path: path.to_owned(),
        file,
        watch,
        ends: Some(ends),
        filter: Filter::new(options),
        rest: Vec::new(),
        done: false,
    };
    Ok(stream::try_unfold(reader, |mut reader| async move { Ok(reader.next().await?.map(|bytes| (bytes, reader))) })
        .boxed())
}

/// A log is a plain file. A link or pipe in its place was not put there by the runtime.
fn open_file(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a log file", path.display())));
    }
    Ok(file)
}

struct Reader {
    path: PathBuf,
    file: std::fs::File,
    watch: Option<Folder>,
    /// Taken once the container has ended: then the end of the file is the end.
    ends: Option<Ends>,
    filter: Filter,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
    done: bool,
}

impl Reader {
    /// The next text; `None` at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if self.done {
                return Ok(None);
            }
            let mut block = vec![0; BLOCK];
            let count = self.file.read(&mut block)?;
            if count > 0 {
                let text = self.take(&block[..count]);
                if !text.is_empty() {
                    return Ok(Some(text.into()));
                }
                continue;
            }
            if !self.wait().await? {
                self.done = true;
            }
        }
    }

    fn take(&mut self, block: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(block);
        let mut out = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            if !self.filter.add(&self.rest[begin..begin + length], &mut out) {
                self.done = true;
                break;
            }
            begin += length + 1;
        }
        self.rest.drain(..begin);
        if self.rest.len() > LONGEST_LINE {
            self.rest.clear();
        }
        out
    }

    /// At the end of the file: true when there may be more.
    async fn wait(&mut self) -> io::Result<bool> {
        let Some(watch) = &self.watch else { return Ok(false) };
        if replaced(&self.path, &self.file) {
            self.file = open_file(&self.path)?;
            return Ok(true);
        }
        let Some(ends) = &mut self.ends else { return Ok(false) };
        tokio::select! {
            changed = watch.changed() => drop(changed?),
            () = ends => self.ends = None,
        }
        Ok(true)
    }
}

/// Whether another file has the path now.
fn replaced(path: &Path, file: &std::fs::File) -> bool {
    match (std::fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(open)) => (there.dev(), there.ino()) != (open.dev(), open.ino()),
        _ => false,
    }
}
