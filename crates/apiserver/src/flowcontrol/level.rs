//! The seats of one priority level.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;

use super::config::Queuing;
use super::plan::Schema;
use super::queues::{Queues, Ticket};
use super::shares::Demand;
use super::work::Work;

/// One who waits, in [`Level::state`].
const WAITER: u64 = 1 << 32;
const SEATS: u64 = WAITER - 1;
/// Clients are never told to wait longer, in seconds.
const MOST_RETRY: u32 = 32;

/// A priority level: what it has is shared by its name, over changes of its object.
pub(super) struct Level {
    pub(super) name: String,
    exempt: bool,
    /// How many wait, and behind 32 bits how many seats are taken: nobody overtakes those who wait.
    state: AtomicU64,
    limit: AtomicU32,
    /// The most seats of one request; zero for as many as the server has for one.
    most_seats: AtomicU32,
    /// The most seats that were wanted at once, and seat-microseconds that were had, since [`Level::demand`] was asked.
    high: AtomicU32,
    busy: AtomicU64,
    demand: Mutex<(Instant, Demand)>,
    queues: Mutex<Queues>,
    retries: Mutex<Retries>,
    pub(super) rejected: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) dispatched: AtomicU64,
    since: Instant,
}

/// Seats that somebody has, until this is dropped.
pub(super) struct Seats {
    level: Arc<Level>,
    number: u32,
    begun: Instant,
    /// Of a request that had to wait.
    queued: Option<Queued>,
}

struct Queued {
    queue: usize,
    work: Work,
}

/// Why somebody was not served, in the words of upstream's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

impl Refusal {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
        }
    }
}

impl Level {
    pub(super) fn new(name: &str, exempt: bool) -> Self {
        let since = Instant::now();
        Self {
            name: name.to_owned(),
            exempt,
            state: AtomicU64::new(0),
            limit: AtomicU32::new(0),
            most_seats: AtomicU32::new(0),
            high: AtomicU32::new(0),
            busy: AtomicU64::new(0),
            demand: Mutex::new((since, Demand::default())),
            queues: Mutex::default(),
            retries: Mutex::default(),
            rejected: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            dispatched: AtomicU64::new(0),
            since,
        }
    }

    pub(super) fn is_exempt(&self) -> bool {
        self.exempt
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn most_seats(&self) -> u32 {
        self.most_seats.load(Ordering::Relaxed)
    }

    /// How many wait, and how many seats are taken.
    pub(super) fn load(&self) -> (u32, u32) {
        let state = self.state.load(Ordering::Relaxed);
        ((state / WAITER) as u32, (state & SEATS) as u32)
    }

    /// Takes over how it queues; `nominal` is what it has by its shares.
    pub(super) fn configure(&self, queuing: Option<Queuing>, nominal: u32) {
        // So that one request cannot hold up the rest of its level.
        let most = queuing.map_or(0, |queuing| {
            let part = (f64::from(nominal) * 0.15).ceil() as u32;
            part.min(nominal / queuing.hand_size.max(1) as u32).max(1)
        });
        self.most_seats.store(most, Ordering::Relaxed);
        self.queues.lock().configure(queuing);
        if self.limit() == 0 {
            self.set_limit(nominal);
        }
    }

    pub(super) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
        self.dispatch(&mut self.synced());
    }

    /// What was needed since this was last asked.
    pub(super) fn demand(&self, period: Duration) -> Demand {
        let mut known = self.demand.lock();
        let elapsed = known.0.elapsed().as_secs_f64();
        let seats = self.busy.swap(0, Ordering::Relaxed) as f64 / 1e6;
        let now = self.load().1;
        let high = self.high.swap(now, Ordering::Relaxed).max(now);
        let average = if elapsed > 0.0 { seats / elapsed } else { 0.0 };
        *known = (Instant::now(), known.1.after(elapsed / period.as_secs_f64(), average, high));
        known.1
    }

    /// Takes seats if nobody waits and there are enough.
    pub(super) fn try_take(self: &Arc<Self>, number: u32) -> Option<Seats> {
        let limit = self.limit();
        let taken = self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |state| {
            let used = (state & SEATS) as u32;
            let free = self.exempt || (state < WAITER && fits(used, number, limit));
            free.then_some(state + u64::from(number))
        });
        let before = taken.ok()?;
        self.note((before & SEATS) as u32 + number);
        self.dispatched.fetch_add(1, Ordering::Relaxed);
        Some(Seats { level: self.clone(), number, begun: Instant::now(), queued: None })
    }

    /// Waits for seats, no longer than `most`.
    pub(super) async fn wait(
        self: &Arc<Self>,
        schema: &Schema,
        hash: u64,
        work: Work,
        most: Duration,
    ) -> Result<Seats, Refusal> {
        let begun = Instant::now();
        let (mut waiting, woken) = {
            let mut queues = self.synced();
            // Meanwhile somebody may have gone.
            if let Some(seats) = self.try_take(work.seats()) {
                return Ok(seats);
            }
            let Some((ticket, woken)) = queues.enqueue(hash, work, &schema.name) else {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                return Err(if queues.has_queues() { Refusal::QueueFull } else { Refusal::ConcurrencyLimit });
            };
            self.state.fetch_add(WAITER, Ordering::AcqRel);
            self.note(queues.all().iter().map(|queue| queue.waiting.len() as u32).sum::<u32>() + self.load().1);
            self.dispatch(&mut queues);
            (Waiting { level: self, schema, ticket: Some(ticket), work, begun }, woken)
        };
        schema.figures.waits(1.0);
        match timeout(most, woken).await {
            Err(_) if waiting.leave() => {
                self.timed_out.fetch_add(1, Ordering::Relaxed);
                Err(Refusal::TimeOut)
            }
            _ => {
                self.dispatched.fetch_add(1, Ordering::Relaxed);
                waiting.served().ok_or(Refusal::TimeOut)
            }
        }
    }

    /// When a client that was refused is to come again, in seconds.
    pub(super) fn retry_after(&self) -> u32 {
        self.retries.lock().refused(self.since.elapsed().as_secs())
    }

    /// Tells what the queues hold: for each its waiters' schema, work and how long they wait, and who is served.
    pub(super) fn queues<T>(&self, tell: impl FnOnce(&Queues, f64) -> T) -> T {
        let queues = self.synced();
        tell(&queues, self.since.elapsed().as_secs_f64())
    }

    fn synced(&self) -> parking_lot::MutexGuard<'_, Queues> {
        let mut queues = self.queues.lock();
        queues.sync(self.since.elapsed().as_secs_f64(), self.limit());
        queues
    }

    /// Serves as many as there are seats for.
    fn dispatch(&self, queues: &mut Queues) {
        loop {
            let (waiting, used) = self.load();
            let limit = self.limit();
            if waiting == 0 || used >= limit {
                return;
            }
            let Some(seats) = queues.dispatch(|seats| fits(used, seats, limit)) else { return };
            // One who waited has seats now. Others only give back: who waits is not overtaken.
            self.state.fetch_sub(WAITER - u64::from(seats), Ordering::AcqRel);
        }
    }

    fn note(&self, wanted: u32) {
        if self.high.load(Ordering::Relaxed) < wanted {
            self.high.fetch_max(wanted, Ordering::Relaxed);
        }
    }
}

/// Whether so many more seats can be had. One that wants more than there are is served alone.
fn fits(used: u32, number: u32, limit: u32) -> bool {
    used + number <= limit || (used == 0 && limit > 0)
}

/// Somebody who waits.
struct Waiting<'a> {
    level: &'a Arc<Level>,
    schema: &'a Schema,
    ticket: Option<Ticket>,
    work: Work,
    begun: Instant,
}

impl Waiting<'_> {
    /// Gives up; false if he was served meanwhile.
    fn leave(&mut self) -> bool {
        let Some(ticket) = self.ticket else { return false };
        let mut queues = self.level.synced();
        if queues.leave(ticket).is_none() {
            return false;
        }
        self.ticket = None;
        self.level.state.fetch_sub(WAITER, Ordering::AcqRel);
        // The next may want less.
        self.level.dispatch(&mut queues);
        true
    }

    /// The seats that were given to him.
    fn served(&mut self) -> Option<Seats> {
        let queued = Some(Queued { queue: self.ticket.take()?.queue, work: self.work });
        Some(Seats { level: self.level.clone(), number: self.work.seats(), begun: self.begun, queued })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.schema.figures.waits(-1.0);
        if self.ticket.is_none() {
            return;
        }
        if self.leave() {
            self.level.cancelled.fetch_add(1, Ordering::Relaxed);
        } else {
            drop(self.served());
        }
    }
}

impl Seats {
    pub(super) fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        let had = self.begun.elapsed();
        let microseconds = u64::try_from(had.as_micros()).unwrap_or(u64::MAX).saturating_mul(u64::from(self.number));
        self.level.busy.fetch_add(microseconds, Ordering::Relaxed);
        let before = self.level.state.fetch_sub(u64::from(self.number), Ordering::AcqRel);
        if before < WAITER && self.queued.is_none() {
            return;
        }
        let mut queues = self.level.synced();
        if let Some(queued) = &self.queued {
            queues.finish(queued.queue, self.number, queued.work, had.saturating_sub(queued.work.linger));
        }
        self.level.dispatch(&mut queues);
    }
}

/// How often clients were refused of late, by which they are told when to come again: twice as late where many were,
/// a second earlier where few were.
#[derive(Debug)]
struct Retries {
    after: u32,
    changed: u64,
    /// Seconds and how many were refused in them, latest last.
    history: Vec<(u64, u32)>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { after: 1, changed: 0, history: Vec::new() }
    }
}

impl Retries {
    fn refused(&mut self, now: u64) -> u32 {
        match self.history.last_mut() {
            Some((second, count)) if *second == now => *count += 1,
            _ => {
                self.adjust(now);
                self.history.push((now, 1));
                self.history.retain(|(second, _)| now - second <= u64::from(MOST_RETRY));
            }
        }
        self.after
    }

    /// Once in each second in which somebody is refused.
    fn adjust(&mut self, now: u64) {
        let late = u64::from(self.after);
        let of_late: u32 = self.history.iter().filter(|(second, _)| now - second <= late).map(|(_, count)| count).sum();
        if now - self.changed >= late && of_late >= 3 * self.after {
            self.after = (self.after * 2).min(MOST_RETRY);
            self.changed = now;
        } else if of_late < self.after && self.after > 1 {
            self.after -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flowcontrol::level_for_tests;

    const QUEUING: Queuing = Queuing { queues: 4, hand_size: 1, queue_length_limit: 2 };

    #[tokio::test]
    async fn seats_are_taken_waited_for_and_given_back() {
        let (level, schema) = (level_for_tests(2, Some(QUEUING)), Schema::for_tests());
        let held = [level.try_take(1).unwrap(), level.try_take(1).unwrap()];
        assert!(level.try_take(1).is_none());
        let wait = |hash| level.wait(&schema, hash, Work::one(), Duration::from_secs(60));
        let mut waiting = Box::pin(wait(0));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert_eq!(level.load(), (1, 2));
        let [first, second] = held;
        drop(first);
        let seats = waiting.await.unwrap();
        assert_eq!(level.load(), (0, 2));
        drop((seats, second));
        assert_eq!(level.load(), (0, 0));
    }

    #[tokio::test]
    async fn who_waits_too_long_or_finds_the_queue_full_is_refused() {
        let (level, schema) = (level_for_tests(1, Some(QUEUING)), Schema::for_tests());
        let _held = level.try_take(1).unwrap();
        let wait = || level.wait(&schema, 0, Work::one(), Duration::from_millis(1));
        let (one, other, third) = futures::join!(wait(), wait(), wait());
        let refused = |outcome: Result<Seats, Refusal>| outcome.err().unwrap();
        assert_eq!([one, other, third].map(refused), [Refusal::TimeOut, Refusal::TimeOut, Refusal::QueueFull]);
        assert_eq!(level.load(), (0, 1));
        let strict = level_for_tests(1, None);
        let _held = strict.try_take(1).unwrap();
        let refused = strict.wait(&schema, 0, Work::one(), Duration::from_millis(1)).await.err();
        assert_eq!(refused, Some(Refusal::ConcurrencyLimit));
    }

    #[tokio::test]
    async fn who_goes_away_leaves_no_trace() {
        let (level, schema) = (level_for_tests(1, Some(QUEUING)), Schema::for_tests());
        let held = level.try_take(1).unwrap();
        let wait = |hash| level.wait(&schema, hash, Work::one(), Duration::from_secs(60));
        let (mut one, mut other) = (Box::pin(wait(0)), Box::pin(wait(1)));
        assert!(futures::poll!(&mut one).is_pending());
        assert!(futures::poll!(&mut other).is_pending());
        drop(one);
        assert_eq!(level.load(), (1, 1));
        // Served, and gone before he knows.
        drop(held);
        assert_eq!(level.load(), (0, 1));
        drop(other);
        assert_eq!(level.load(), (0, 0));
    }

    #[test]
    fn one_that_is_wider_than_the_level_is_served_alone() {
        let level = level_for_tests(3, None);
        let wide = level.try_take(10).unwrap();
        assert!(level.try_take(1).is_none());
        drop(wide);
        let _narrow = level.try_take(1).unwrap();
        assert!(level.try_take(10).is_none());
    }

    #[tokio::test]
    async fn a_higher_limit_serves_those_who_wait() {
        let (level, schema) = (level_for_tests(1, Some(QUEUING)), Schema::for_tests());
        let _held = level.try_take(1).unwrap();
        let mut waiting = Box::pin(level.wait(&schema, 0, Work::one(), Duration::from_secs(60)));
        assert!(futures::poll!(&mut waiting).is_pending());
        level.set_limit(2);
        assert!(waiting.await.is_ok());
    }

    #[test]
    fn the_more_are_refused_the_later_they_come_again() {
        let mut retries = Retries::default();
        assert_eq!(retries.refused(10), 1);
        for _ in 0..5 {
            retries.refused(10);
        }
        assert_eq!(retries.refused(11), 2);
        assert_eq!(retries.refused(20), 1);
    }
}
