//! The loop that every controller is: changes become keys, keys are reconciled until they need nothing more.
//!
//! ```text
//! informer -> View::absorb -> map(change) -> WorkQueue -> N workers -> reconcile(key) -> Done | After(delay) | error
//! ```
//!
//! A reconciler gets a key and looks at the world: it never learns what changed. The same key is never reconciled
//! twice at a time. An error is logged here, once, and the key comes again with backoff; a panic is an error.

use std::fmt::Display;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::informer::{Change, Informer};
use crate::metrics;
use crate::request::RequestError;
use crate::view::View;
use crate::workqueue::{Key, WorkQueue};

/// What a successful reconciliation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until something changes.
    Done,
    /// To be run again after this delay even if nothing changes.
    After(Duration),
}

/// The keys that a change concerns.
pub type Mapper<K> = Box<dyn Fn(&Change) -> Vec<K> + Send>;

/// How a controller's reconciliations went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunStatus {
    pub runs: u64,
    pub failures: u64,
    pub last_run: Option<Timestamp>,
    /// The key, the error's text and its time.
    pub last_failure: Option<(String, String, Timestamp)>,
}

/// A controller being put together.
pub struct Controller<K: Key> {
    name: &'static str,
    clock: Arc<dyn Clock>,
    queue: Arc<WorkQueue<K>>,
    sources: Vec<(Arc<View>, Mapper<K>)>,
    workers: usize,
    status: Arc<Mutex<RunStatus>>,
}

/// Why a reconciliation failed.
pub trait Failure: Display {
    /// It acted on a view that a newer write has overtaken. That is the ordinary course of things: the change that
    /// overtook it is on its way to the view, and the next run sees it.
    fn is_stale(&self) -> bool;
}

impl Failure for RequestError {
    fn is_stale(&self) -> bool {
        self.is_conflict()
    }
}

impl<K: Key + Display> Controller<K> {
    /// `name` is upstream's, such as `replicaset-controller`.
    pub fn new(name: &'static str, clock: Arc<dyn Clock>) -> Self {
        let queue = WorkQueue::named(name, clock.clone());
        Self { name, clock, queue, sources: Vec::new(), workers: 1, status: Arc::default() }
    }

    /// Reconciles the keys that `map` finds for each change of the view's informer.
    pub fn watch(mut self, view: &Arc<View>, map: impl Fn(&Change) -> Vec<K> + Send + 'static) -> Self {
        self.sources.push((view.clone(), Box::new(map)));
        self
    }

    /// Keeps the view up to date without reconciling anything for it.
    pub fn follow(self, view: &Arc<View>) -> Self {
        self.watch(view, |_| Vec::new())
    }

    /// How many keys are reconciled at once; 1 unless set.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// Where keys can be added that no informer speaks of.
    pub fn queue(&self) -> Arc<WorkQueue<K>> {
        self.queue.clone()
    }

    /// How it has been going; readable while the controller runs.
    pub fn status(&self) -> Arc<Mutex<RunStatus>> {
        self.status.clone()
    }

    /// Runs until `token` is cancelled. Nothing is reconciled before all views are complete.
    pub async fn run<F, R, E>(self, token: CancellationToken, reconcile: F)
    where
        F: Fn(K) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Action, E>> + Send + 'static,
        E: Failure + Send + 'static,
    {
        let Self { name, clock, queue, sources, workers, status } = self;
        let mut tasks = JoinSet::new();
        let gate = CancellationToken::new();
        let mut unsynced = Vec::new();
        for (view, map) in sources {
            let (synced, wait) = tokio::sync::oneshot::channel();
            unsynced.push(wait);
            tasks.spawn(feed(view, map, queue.clone(), synced, token.clone()));
        }
        for _ in 0..workers {
            let worker = Worker {
                name,
                clock: clock.clone(),
                queue: queue.clone(),
                status: status.clone(),
                reconcile: reconcile.clone(),
            };
            let (gate, token) = (gate.clone(), token.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = token.cancelled() => {}
                    () = gate.cancelled() => worker.work(token.clone()).await,
                }
            });
        }
        let opening = async {
            futures::future::join_all(unsynced).await;
            gate.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = token.cancelled() => {}
            () = opening => {}
            // None of them ends before it is told to: half a controller is none.
            Some(Err(died)) = tasks.join_next() => resume_unwind(died.into_panic()),
        }
        queue.close();
        while tasks.join_next().await.is_some() {}
    }
}

/// Carries an informer's changes into the view and the queue.
async fn feed<K: Key>(
    view: Arc<View>,
    map: Mapper<K>,
    queue: Arc<WorkQueue<K>>,
    synced: tokio::sync::oneshot::Sender<()>,
    token: CancellationToken,
) {
    let mut synced = Some(synced);
    let mut changes = view.subscribe();
    loop {
        let change = tokio::select! {
            () = token.cancelled() => return,
            change = changes.recv() => change,
        };
        let Some(change) = change else {
            // The informer dropped us (it ended, or restarted): start anew, and compare with what was seen.
            changes = view.subscribe();
            if changes.is_closed() {
                return token.cancelled().await;
            }
            continue;
        };
        for change in view.absorb(change) {
            if matches!(change, Change::Synced)
                && let Some(synced) = synced.take()
            {
                // The receiver is gone only when the controller is stopping.
                let _ = synced.send(());
            }
            tokio::select! {
                () = token.cancelled() => return,
                () = queue.room() => {}
            }
            for key in map(&change) {
                queue.add(key);
            }
        }
    }
}

struct Worker<K: Key, F> {
    name: &'static str,
    clock: Arc<dyn Clock>,
    queue: Arc<WorkQueue<K>>,
    status: Arc<Mutex<RunStatus>>,
    reconcile: F,
}

impl<K, F, R, E> Worker<K, F>
where
    K: Key + Display,
    F: Fn(K) -> R,
    R: Future<Output = Result<Action, E>>,
    E: Failure,
{
    async fn work(self, token: CancellationToken) {
        loop {
            let work = tokio::select! {
                () = token.cancelled() => return,
                work = self.queue.next() => work,
            };
            let Some(work) = work else { return };
            let key = work.key().clone();
            // A reconciliation under way is let finish: each of its writes is safe to stop after, but its result
            // is worth having.
            let begun = self.clock.elapsed();
            let outcome = AssertUnwindSafe((self.reconcile)(key.clone())).catch_unwind().await;
            let outcome = match outcome {
                Ok(Ok(action)) => Ok(action),
                Ok(Err(error)) => {
                    if error.is_stale() {
                        tracing::debug!(controller = self.name, %key, %error, "acted on an old view; trying again");
                    } else {
                        tracing::warn!(controller = self.name, %key, %error, "reconciliation failed; trying again");
                    }
                    Err(error.to_string())
                }
                Err(_) => {
                    tracing::error!(controller = self.name, %key, "the controller panicked; trying again");
                    Err("the controller panicked".to_owned())
                }
            };
            let took = self.clock.elapsed().saturating_sub(begun);
            metrics::QUEUE_WORK.observe(&[self.name], took.as_secs_f64());
            self.settle(key, outcome);
            drop(work);
        }
    }

    fn settle(&self, key: K, outcome: Result<Action, String>) {
        let now = self.clock.now();
        {
            let mut status = self.status.lock();
            status.runs += 1;
            status.last_run = Some(now);
            if let Err(error) = &outcome {
                status.failures += 1;
                status.last_failure = Some((key.to_string(), error.clone(), now));
            }
        }
        match outcome {
            Ok(action) => {
                self.queue.forget(&key);
                if let Action::After(delay) = action {
                    self.queue.add_after(key, delay);
                }
            }
            Err(_) => self.queue.retry(key),
        }
    }
}

/// The key of the changed object itself; for [`Controller::watch`].
pub fn own_key(change: &Change) -> Vec<api::object::ObjectKey> {
    changed(change).map(|entry| entry.key.clone()).into_iter().collect()
}

/// The object that a change is about: its newest state.
pub fn changed(change: &Change) -> Option<&Arc<api::object::Entry>> {
    match change {
        Change::Applied { new, .. } => Some(new),
        Change::Deleted(last) => Some(last),
        Change::Synced | Change::Resync => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use api::object::ObjectKey;
    use jiff::Timestamp;
    use tokio::sync::mpsc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::informer::{Informers, Scope};
    use crate::shared::{EntryMap, SharedStore};
    use crate::testing::entry;

    struct One(Arc<SharedStore>);

    impl Failure for &'static str {
        fn is_stale(&self) -> bool {
            false
        }
    }

    impl Informers for One {
        fn informer(&self, _: Scope) -> Arc<dyn Informer> {
            self.0.clone()
        }
    }

    #[tokio::test]
    async fn nothing_runs_before_the_list_is_complete_and_failures_come_again() {
        let store = Arc::new(SharedStore::default());
        store.apply(entry("a", "x", 1));
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let view = Arc::new(View::new(&One(store.clone()), Scope::all("", "v1", "pods")));
        let token = CancellationToken::new();
        let (ran, mut runs) = mpsc::unbounded_channel();
        let tries = Arc::new(AtomicUsize::new(0));
        let controller = Controller::new("test", clock.clone()).watch(&view, own_key).workers(2);
        let status = controller.status();
        let run = controller.run(token.clone(), move |key: ObjectKey| {
            let (ran, tries) = (ran.clone(), tries.clone());
            async move {
                ran.send(key.to_string()).unwrap();
                match tries.fetch_add(1, Ordering::SeqCst) {
                    0 => Err("first"),
                    1 => panic!("second"),
                    _ => Ok(Action::After(Duration::from_secs(60))),
                }
            }
        });
        let script = async {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            assert!(runs.try_recv().is_err(), "ran before the informer had synced");
            store.replace([entry("a", "x", 1)].into_iter().collect::<EntryMap>());
            for step in [5, 10, 60_000] {
                assert_eq!(runs.recv().await.as_deref(), Some("a/x"));
                // Let the worker settle before the clock moves.
                for _ in 0..5 {
                    tokio::task::yield_now().await;
                }
                clock.advance(Duration::from_millis(step));
            }
            assert_eq!(runs.recv().await.as_deref(), Some("a/x"));
            token.cancel();
        };
        tokio::join!(run, script);
        let status = status.lock();
        assert_eq!((status.runs, status.failures), (4, 2));
    }
}
