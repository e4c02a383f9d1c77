//! How many images are pulled at once, and how many pulls begin in a second.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// What the settings say of pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PullPolicy {
    /// One after the other.
    pub serial: bool,
    /// No more at once, if it is said.
    pub parallel: Option<u32>,
    /// No more in a second; 0 for any number.
    pub per_second: u32,
    /// So many may begin at once nevertheless.
    pub burst: u32,
}

/// As k3s has it: whoever wants images gets them at once.
impl Default for PullPolicy {
    fn default() -> Self {
        Self { serial: false, parallel: None, per_second: 0, burst: 10 }
    }
}

pub(crate) struct Pulls {
    policy: PullPolicy,
    places: Semaphore,
    /// Pulls that may begin, as of a time.
    allowance: Mutex<(f64, Duration)>,
}

impl Pulls {
    pub(crate) fn new(policy: PullPolicy) -> Self {
        let most = if policy.serial { 1 } else { policy.parallel.unwrap_or(u32::MAX) };
        let places = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let allowance = Mutex::new((f64::from(policy.burst), Duration::ZERO));
        Self { policy, places: Semaphore::new(places), allowance }
    }

    /// Whether a pull may begin now.
    pub(crate) fn admits(&self, now: Duration) -> bool {
        if self.policy.per_second == 0 {
            return true;
        }
        let mut allowance = self.allowance.lock();
        let (left, since) = *allowance;
        let gained = now.saturating_sub(since).as_secs_f64() * f64::from(self.policy.per_second);
        let left = (left + gained).min(f64::from(self.policy.burst));
        *allowance = (if left < 1.0 { left } else { left - 1.0 }, now);
        left >= 1.0
    }

    /// Waits until there is a place; it is given back when the permit is dropped. None would mean that nobody pulls any more.
    pub(crate) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn pulls_begin_at_the_rate_that_is_set_after_a_burst() {
        let pulls = Pulls::new(PullPolicy { per_second: 2, burst: 3, ..PullPolicy::default() });
        let begun = |seconds: f64| (0..5).filter(|_| pulls.admits(Duration::from_secs_f64(seconds))).count();
        assert_eq!((begun(0.0), begun(0.4), begun(0.5), begun(10.0)), (3, 0, 1, 3));
        let free = Pulls::new(PullPolicy::default());
        assert!((0..1000).all(|_| free.admits(Duration::ZERO)));
    }

    #[test]
    fn a_serial_pull_waits_for_the_one_before() {
        for (policy, places) in [
            (PullPolicy { serial: true, ..PullPolicy::default() }, 1),
            (PullPolicy { parallel: Some(2), ..PullPolicy::default() }, 2),
        ] {
            let pulls = Pulls::new(policy);
            let mut held: Vec<_> = (0..places).map(|_| pulls.place().now_or_never().unwrap()).collect();
            assert!(pulls.place().now_or_never().is_none());
            held.pop();
            assert!(pulls.place().now_or_never().is_some());
        }
    }
}
