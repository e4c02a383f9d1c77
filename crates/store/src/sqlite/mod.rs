//! The default datastore: one SQLite file, one writer thread, a few reader threads.
//!
//! Writers queue for the writer thread, which commits them in groups ([`writer`]); reads take a snapshot each
//! and never wait for it ([`readers`], [`reads`]). Watchers are fed by the crate's hub and come back here
//! only when they have fallen behind it. [`schema`] draws the tables, [`open`] the files.

mod health;
mod open;
mod readers;
mod reads;
mod rows;
mod schema;
mod upkeep;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use self::health::Guard;
pub use self::open::OpenError;
use self::readers::Readers;
use self::upkeep::Upkeep;
use self::writer::{Job, Writer};
use crate::failpoint::Failpoints;
use crate::hub::{Bounds, History, Hub, Stretch};
use crate::{Backend, BoxFuture, Error, Notice, Page, Range, Record, Revision, Write, Written};

/// Writes that may wait for the writer; callers wait beyond that.
const QUEUE: usize = 1024;

/// Threads that read.
const READERS: usize = 2;

/// A datastore in one SQLite file.
///
/// [`close`](Self::close) it when the process ends in order. Dropping it does the same, but blocks the thread
/// for the time of a checkpoint; a process that just dies loses nothing that was acknowledged.
pub struct SqliteStore {
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    /// `None` once the store is closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    closed: Mutex<Option<oneshot::Receiver<Result<(), Error>>>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

/// What tests change.
#[derive(Clone, Debug, Default)]
struct Options {
    ring: Bounds,
    failpoints: Failpoints,
}

impl SqliteStore {
    /// Opens the datastore in the file `path`, or makes a new one. Blocks: a large file that was not closed in
    /// order is checked first.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path.as_ref(), Options::default())
    }

    fn open_with(path: &Path, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(path)?;
        let failed = |source| open::sqlite_error(path, source);
        let newest = schema::newest(&opened.writer).map_err(failed)?;
        let connections = (0..READERS).map(|_| open::connect_reader(path)).collect::<Result<_, _>>().map_err(failed)?;
        let no_thread = |source| OpenError::Io { path: path.to_owned(), action: "start a thread for", source };
        let damage = Arc::new(OnceLock::new());
        if opened.unchecked {
            open::check_later(path, Arc::clone(&damage))?;
        }
        let upkeep = Upkeep::resume(&opened.writer).map_err(failed)?;
        let hub = Arc::new(Hub::new(newest, upkeep.compacted, options.ring));
        let guard = Guard::new(path, damage);
        let writer = Writer {
            upkeep,
            connection: opened.writer,
            hub: Arc::clone(&hub),
            newest,
            health: guard.health(),
            guard,
            failpoints: options.failpoints,
            _lock: opened.lock,
        };
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (done, closed) = oneshot::channel();
        let thread = thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run(queue, done));
        Ok(Self {
            hub,
            readers: Arc::new(Readers::start(connections).map_err(no_thread)?),
            jobs: Mutex::new(Some(jobs)),
            closed: Mutex::new(Some(closed)),
            thread: Some(thread.map_err(no_thread)?),
            path: path.to_owned(),
        })
    }

    /// Commits what is queued, ends all watches, and leaves a file that needs no check when it is opened again.
    /// Later calls find the store closed. Closing twice is no error.
    pub async fn close(&self) -> Result<(), Error> {
        self.stop();
        let closed = self.closed.lock().take();
        match closed {
            // The writer says nothing only when it panicked: then the file is for the next start to check.
            Some(closed) => closed.await.unwrap_or(Err(Error::Closed)),
            None => Ok(()),
        }
    }

    fn stop(&self) {
        self.hub.close();
        self.readers.close();
        self.jobs.lock().take();
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job) -> Result<T, Error> {
        let (done, answer) = oneshot::channel();
        let jobs = self.jobs.lock().clone().ok_or(Error::Closed)?;
        jobs.send(job(done)).await.map_err(|_| Error::Closed)?;
        drop(jobs);
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // It panicked: its message is out, and there is nobody here to tell.
            drop(thread.join());
        }
    }
}

impl Backend for SqliteStore {
    fn current(&self) -> Revision {
        self.hub.current()
    }

    fn size(&self) -> Option<u64> {
        let database = std::fs::metadata(&self.path).ok()?.len();
        // Gone after a checkpoint in order.
        Some(database + std::fs::metadata(health::wal(&self.path)).map_or(0, |wal| wal.len()))
    }

    fn get(&self, key: &str, at: Option<Revision>) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        let key = key.to_owned();
        Box::pin(async move {
            let (record, seen) = self
                .readers
                .read(move |snapshot| Ok((snapshot.get(&key, at.unwrap_or(snapshot.current))?, snapshot.current)))
                .await?;
            self.hub.published(at.unwrap_or(seen)).await?;
            Ok(record)
        })
    }

    fn range(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<Page, Error>> {
        Box::pin(async move {
            let page =
                self.readers.read(move |snapshot| snapshot.range(&range, at.unwrap_or(snapshot.current))).await?;
            self.hub.published(page.revision).await?;
            Ok(page)
        })
    }

    fn count(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let (count, seen) = self
                .readers
                .read(move |snapshot| Ok((snapshot.count(&range, at.unwrap_or(snapshot.current))?, snapshot.current)))
                .await?;
            self.hub.published(at.unwrap_or(seen)).await?;
            Ok(count)
        })
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, Error>> {
        Box::pin(self.ask(|done| Job::Write { write, done }))
    }

    fn watch(&self, prefix: &str, after: Revision) -> mpsc::Receiver<Result<Notice, Error>> {
        let history = Arc::clone(&self.readers) as Arc<dyn History>;
        self.hub.watch(history, prefix, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ask(move |done| Job::Compact { before, done }))
    }
}

impl History for Readers {
    fn events<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Stretch, Error>> {
        let prefix = prefix.to_owned();
        Box::pin(self.read(move |snapshot| snapshot.events(&prefix, after)))
    }
}
