//! Reads run here: a few threads, each with a read-only connection, that never wait for the writer.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::reads::Snapshot;
use crate::Error;

/// Reads that may wait for a thread; callers wait beyond that.
const QUEUE: usize = 256;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The pool. Its threads end when it is closed or dropped.
pub(super) struct Readers {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
}

impl Readers {
    /// Starts a thread for each connection.
    pub(super) fn start(connections: Vec<Connection>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for connection in connections {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name("store-reader".to_owned()).spawn(move || serve(&connection, &queue))?;
        }
        Ok(Self { jobs: Mutex::new(Some(jobs)) })
    }

    /// Runs `read` on the newest snapshot.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Snapshot<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = Snapshot::open(connection).and_then(|snapshot| read(&snapshot));
            // A caller that has gone away needs no answer.
            drop(answer.send(result));
        });
        let jobs = self.jobs.lock().clone().ok_or(Error::Closed)?;
        jobs.send(job).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Lets the threads end once they have answered what is queued.
    pub(super) fn close(&self) {
        self.jobs.lock().take();
    }
}

fn serve(connection: &Connection, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // The lock is held while waiting: the threads take turns at the queue's head.
        let job = queue.lock().blocking_recv();
        let Some(job) = job else { return };
        // A panic costs the caller its answer, not the pool a thread.
        if catch_unwind(AssertUnwindSafe(|| job(connection))).is_err() {
            tracing::error!("a read of the datastore panicked");
        }
    }
}
