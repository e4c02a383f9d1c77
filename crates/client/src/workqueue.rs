//! Keys that wait for work.
//!
//! A key waits once however often it is added, is handed to one worker at a time, and when it is added while a worker
//! has it, waits again after that worker is done. The queue grows with the number of distinct keys only; producers
//! that can wait do so in [`WorkQueue::room`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backoff::exponential;
use crate::clock::Clock;
use crate::metrics;

/// How many keys may wait before producers are held back.
const ROOM: usize = 16_384;
/// The delay after a key's first failure.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// The longest delay between two tries of a failing key.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// The queues that have a name.
static NAMED: Mutex<Vec<Weak<dyn Busy>>> = Mutex::new(Vec::new());

/// What tells for how long its workers have been at work.
trait Busy: Send + Sync {
    fn name(&self) -> &'static str;
    /// Added up, and the longest.
    fn busy(&self) -> (Duration, Duration);
}

/// Tells for how long workers have been at what they are not done with: as figures are read, so that nobody counts time.
pub fn tell_busy() {
    let mut by_name: BTreeMap<&str, (Duration, Duration)> = BTreeMap::new();
    let mut named = NAMED.lock();
    named.retain(|queue| queue.strong_count() > 0);
    for queue in named.iter().filter_map(Weak::upgrade) {
        let (all, longest) = queue.busy();
        let told = by_name.entry(queue.name()).or_default();
        *told = (told.0 + all, told.1.max(longest));
    }
    drop(named);
    for (name, (all, longest)) in by_name {
        metrics::QUEUE_UNFINISHED.set(&[name], all.as_secs_f64());
        metrics::QUEUE_LONGEST.set(&[name], longest.as_secs_f64());
    }
}

/// A queue of distinct keys.
pub struct WorkQueue<K> {
    /// By which its figures are told; empty for one that has none.
    name: &'static str,
    clock: Arc<dyn Clock>,
    state: Mutex<State<K>>,
    /// Something to take, an earlier deadline, or the end.
    ready: Notify,
    /// The queue has become shorter.
    room: Notify,
}

struct State<K> {
    /// Each with the time at which it was queued.
    waiting: VecDeque<(K, Duration)>,
    /// Everything in `waiting`, and what was added while it was being worked on.
    dirty: HashSet<K>,
    /// Each with the time since which it is.
    working: HashMap<K, Duration>,
    /// When delayed keys are due, earliest first, and the same by key.
    delayed: BTreeSet<(Duration, K)>,
    due: HashMap<K, Duration>,
    failures: HashMap<K, u32>,
    closed: bool,
}

/// A key being worked on: nobody else gets it until this is dropped.
pub struct Work<K: Key> {
    queue: Arc<WorkQueue<K>>,
    key: K,
}

/// What can be queued.
pub trait Key: Clone + Eq + Hash + Ord + Send + 'static {}

impl<K: Clone + Eq + Hash + Ord + Send + 'static> Key for K {}

impl<K: Key> WorkQueue<K> {
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::named("", clock)
    }

    /// A queue whose figures are told under `name`.
    pub fn named(name: &'static str, clock: Arc<dyn Clock>) -> Arc<Self> {
        let state = State {
            waiting: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashMap::new(),
            delayed: BTreeSet::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            closed: false,
        };
        let queue = Arc::new(Self { name, clock, state: Mutex::new(state), ready: Notify::new(), room: Notify::new() });
        if !name.is_empty() {
            let busy: Weak<Self> = Arc::downgrade(&queue);
            NAMED.lock().push(busy);
        }
        queue
    }

    /// Queues `key`, unless it waits already.
    pub fn add(&self, key: K) {
        let now = self.clock.elapsed();
        let added = {
            let mut state = self.state.lock();
            let added = state.add(key, now);
            self.tell_depth(&state);
            added
        };
        if added && !self.name.is_empty() {
            metrics::QUEUE_ADDS.add(&[self.name], 1.0);
        }
        self.ready.notify_one();
    }

    /// Queues `key` after `delay`.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let due = self.clock.elapsed().saturating_add(delay);
        let mut state = self.state.lock();
        match state.due.get(&key).copied() {
            // The earlier one covers this.
            Some(earlier) if earlier <= due => return,
            Some(later) => state.delayed.remove(&(later, key.clone())),
            None => false,
        };
        state.due.insert(key.clone(), due);
        state.delayed.insert((due, key));
        drop(state);
        self.ready.notify_one();
    }

    /// Queues `key` after a delay that doubles with each failure since [`WorkQueue::forget`].
    pub fn retry(&self, key: K) {
        let failures = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures - 1
        };
        if !self.name.is_empty() {
            metrics::QUEUE_RETRIES.add(&[self.name], 1.0);
        }
        self.add_after(key, exponential(FIRST_RETRY, LAST_RETRY, failures));
    }

    /// The key's work succeeded: its next failure is its first.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often the key has failed in a row.
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or_default()
    }

    /// How many keys wait, without those that are delayed.
    pub fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the queue is short enough to take more.
    pub async fn room(&self) {
        loop {
            let shorter = self.room.notified();
            {
                let state = self.state.lock();
                if state.closed || state.waiting.len() < ROOM {
                    return;
                }
            }
            shorter.await;
        }
    }

    /// The next key, or `None` once the queue is closed.
    pub async fn next(self: &Arc<Self>) -> Option<Work<K>> {
        loop {
            let ready = self.ready.notified();
            let due = {
                let mut state = self.state.lock();
                if state.closed {
                    return None;
                }
                let now = self.clock.elapsed();
                state.promote(now);
                if let Some((key, since)) = state.take(now) {
                    let more = !state.waiting.is_empty();
                    self.tell_depth(&state);
                    drop(state);
                    if !self.name.is_empty() {
                        metrics::QUEUE_WAIT.observe(&[self.name], now.saturating_sub(since).as_secs_f64());
                    }
                    if more {
                        self.ready.notify_one();
                    }
                    self.room.notify_waiters();
                    return Some(Work { queue: self.clone(), key });
                }
                state.delayed.first().map(|(due, _)| *due)
            };
            match due {
                Some(due) => tokio::select! {
                    () = ready => {}
                    () = self.clock.until(due) => {}
                },
                None => ready.await,
            }
        }
    }

    fn tell_depth(&self, state: &State<K>) {
        if !self.name.is_empty() {
            metrics::QUEUE_DEPTH.set(&[self.name], state.waiting.len() as f64);
        }
    }

    /// Hands out no more keys.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_waiters();
        self.room.notify_waiters();
    }
}

impl<K: Key> Busy for WorkQueue<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn busy(&self) -> (Duration, Duration) {
        let now = self.clock.elapsed();
        let state = self.state.lock();
        let since = state.working.values().map(|since| now.saturating_sub(*since));
        since.fold((Duration::ZERO, Duration::ZERO), |(all, longest), one| (all + one, longest.max(one)))
    }
}

impl<K: Key> State<K> {
    /// True if the key did not wait already.
    fn add(&mut self, key: K, now: Duration) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) {
            return false;
        }
        if !self.working.contains_key(&key) {
            self.waiting.push_back((key, now));
        }
        true
    }

    fn promote(&mut self, now: Duration) {
        while self.delayed.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((_, key)) = self.delayed.pop_first() {
                self.due.remove(&key);
                self.add(key, now);
            }
        }
    }

    fn take(&mut self, now: Duration) -> Option<(K, Duration)> {
        let (key, since) = self.waiting.pop_front()?;
        self.dirty.remove(&key);
        self.working.insert(key.clone(), now);
        Some((key, since))
    }
}

impl<K: Key> Work<K> {
    pub fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Key> Drop for Work<K> {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.working.remove(&self.key);
        if state.dirty.contains(&self.key) {
            state.waiting.push_back((self.key.clone(), self.queue.clock.elapsed()));
            drop(state);
            self.queue.ready.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;

    fn queue() -> (Arc<ManualClock>, Arc<WorkQueue<&'static str>>) {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        (clock.clone(), WorkQueue::new(clock))
    }

    /// The next key if there is one now.
    fn poll(queue: &Arc<WorkQueue<&'static str>>) -> Option<Work<&'static str>> {
        queue.next().now_or_never().flatten()
    }

    #[tokio::test]
    async fn a_key_waits_once() {
        let (_, queue) = queue();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        let first = poll(&queue).unwrap();
        let second = poll(&queue).unwrap();
        assert_eq!((*first.key(), *second.key()), ("a", "b"));
        assert!(poll(&queue).is_none());
    }

    #[tokio::test]
    async fn a_key_added_while_worked_on_comes_again_afterwards() {
        let (_, queue) = queue();
        queue.add("a");
        let work = poll(&queue).unwrap();
        queue.add("a");
        assert!(poll(&queue).is_none(), "two workers had one key");
        drop(work);
        assert_eq!(poll(&queue).map(|work| *work.key()), Some("a"));
        assert!(poll(&queue).is_none());
    }

    #[tokio::test]
    async fn it_is_told_for_how_long_workers_are_at_it() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let queue = WorkQueue::named("told-busy", clock.clone());
        let told = || {
            tell_busy();
            let lines = metrics::text([&metrics::QUEUE_UNFINISHED, &metrics::QUEUE_LONGEST]);
            let mine = lines.lines().filter(|line| line.contains("\"told-busy\""));
            mine.map(|line| line.rsplit_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        queue.add("a");
        queue.add("b");
        let first = poll(&queue).unwrap();
        clock.advance(Duration::from_secs(3));
        let second = poll(&queue).unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(told(), ["5", "4"]);
        drop(first);
        assert_eq!(told(), ["1", "1"]);
        drop(second);
        assert_eq!(told(), ["0", "0"]);
    }

    #[tokio::test]
    async fn the_earlier_of_two_delays_counts() {
        let (clock, queue) = queue();
        queue.add_after("a", Duration::from_secs(10));
        queue.add_after("a", Duration::from_secs(2));
        queue.add_after("a", Duration::from_secs(5));
        clock.advance(Duration::from_secs(1));
        assert!(poll(&queue).is_none());
        clock.advance(Duration::from_secs(1));
        assert!(poll(&queue).is_some());
        clock.advance(Duration::from_secs(20));
        assert!(poll(&queue).is_none());
    }

    #[tokio::test]
    async fn failures_double_the_delay_until_forgotten() {
        let (clock, queue) = queue();
        for delay in [5, 10, 20] {
            queue.retry("a");
            clock.advance(Duration::from_millis(delay - 1));
            assert!(poll(&queue).is_none());
            clock.advance(Duration::from_millis(1));
            assert!(poll(&queue).is_some());
        }
        queue.forget(&"a");
        queue.retry("a");
        clock.advance(Duration::from_millis(5));
        assert!(poll(&queue).is_some());
    }

    #[tokio::test]
    async fn a_waiting_worker_wakes_for_a_delayed_key_and_for_the_end() {
        let (clock, queue) = queue();
        let woken = async {
            let work = queue.next().await.unwrap();
            assert_eq!(*work.key(), "a");
            drop(work);
            assert!(queue.next().await.is_none());
        };
        let driver = async {
            queue.add_after("a", Duration::from_secs(1));
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
            tokio::task::yield_now().await;
            queue.close();
        };
        tokio::join!(woken, driver);
    }
}
