//! How long to wait before trying again.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Exponential delays with jitter, so that many clients of a restarted server do not return in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
    seed: u64,
}

impl Backoff {
    pub fn new(first: Duration, cap: Duration) -> Self {
        // The hasher's keys are the standard library's random numbers; nothing here needs better ones.
        Self::seeded(first, cap, RandomState::new().build_hasher().finish())
    }

    /// With a fixed sequence of jitter.
    pub fn seeded(first: Duration, cap: Duration, seed: u64) -> Self {
        Self { first, cap, failures: 0, seed: seed | 1 }
    }

    /// The delay before the next attempt: between half and the whole of `first * 2^failures`, at most `cap`.
    pub fn fail(&mut self) -> Duration {
        let whole = exponential(self.first, self.cap, self.failures);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + 0.5 * self.random())
    }

    /// The last attempt succeeded.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A number in `0.0..1.0` (xorshift64*).
    pub fn random(&mut self) -> f64 {
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        let bits = self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let fraction = bits as f64 / (1u64 << 53) as f64;
        fraction
    }
}

/// `first * 2^failures`, at most `cap`.
pub fn exponential(first: Duration, cap: Duration, failures: u32) -> Duration {
    first.checked_mul(2u32.saturating_pow(failures.min(31))).map_or(cap, |delay| delay.min(cap))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_with_at_most_half_taken_off() {
        let mut backoff = Backoff::seeded(Duration::from_millis(100), Duration::from_secs(1), 7);
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.fail().as_millis();
            assert!(delay >= whole / 2 && delay <= whole, "{delay} not within half of {whole}");
        }
        backoff.reset();
        assert!(backoff.fail() <= Duration::from_millis(100));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let cap = Duration::from_secs(300);
        assert_eq!(exponential(Duration::from_secs(1), cap, u32::MAX), cap);
    }
}
