//! Time as components see it, so that tests can hold it still.
//!
//! Two clocks in one: wall time for what is written into objects, monotonic time for waiting, which a jump of the
//! wall clock must not disturb.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Where a component gets the time.
pub trait Clock: Send + Sync + 'static {
    /// Wall time.
    fn now(&self) -> Timestamp;

    /// Time since a fixed moment in the past; never runs backwards.
    fn elapsed(&self) -> Duration;

    /// Completes once [`Clock::elapsed`] has reached `deadline`.
    fn until(&self, deadline: Duration) -> BoxFuture<'static, ()>;

    /// Completes after `delay`.
    fn after(&self, delay: Duration) -> BoxFuture<'static, ()> {
        self.until(self.elapsed().saturating_add(delay))
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// A clock to hand around.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn until(&self, deadline: Duration) -> BoxFuture<'static, ()> {
        match self.start.checked_add(deadline) {
            Some(instant) => Box::pin(tokio::time::sleep_until(instant.into())),
            // Beyond what an Instant can express: never.
            None => Box::pin(futures::future::pending()),
        }
    }
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock {
    start: Timestamp,
    elapsed: Mutex<Duration>,
    moved: watch::Sender<Duration>,
}

impl ManualClock {
    pub fn new(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { start, elapsed: Mutex::new(Duration::ZERO), moved: watch::Sender::new(Duration::ZERO) })
    }

    /// Moves both clocks forward and wakes whoever waited for a moment passed.
    pub fn advance(&self, by: Duration) {
        let mut elapsed = self.elapsed.lock();
        *elapsed += by;
        self.moved.send_replace(*elapsed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.start.checked_add(self.elapsed()).unwrap_or(Timestamp::MAX)
    }

    fn elapsed(&self) -> Duration {
        *self.elapsed.lock()
    }

    fn until(&self, deadline: Duration) -> BoxFuture<'static, ()> {
        let mut moved = self.moved.subscribe();
        Box::pin(async move {
            // An error means that the clock is gone and will never reach the deadline.
            if moved.wait_for(|elapsed| *elapsed >= deadline).await.is_err() {
                futures::future::pending::<()>().await;
            }
        })
    }
}
