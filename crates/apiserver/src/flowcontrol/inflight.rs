//! How many requests of one sort are being answered, and how many may be where nothing else limits them
//! (upstream: `k8s.io/apiserver/pkg/server/filters/maxinflight.go`).

use std::sync::atomic::{AtomicU32, Ordering};

pub(super) struct InFlight {
    number: AtomicU32,
    /// 0 for any number.
    limit: u32,
}

impl InFlight {
    pub(super) fn new(limit: u32) -> Self {
        Self { number: AtomicU32::new(0), limit }
    }

    pub(super) fn number(&self) -> u32 {
        self.number.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub(super) fn begin(&self) {
        self.number.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one more, unless there are enough.
    pub(super) fn begin_within_limit(&self) -> bool {
        let more = |number| (self.limit == 0 || number < self.limit).then_some(number + 1);
        self.number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn end(&self) {
        self.number.fetch_sub(1, Ordering::Relaxed);
    }
}
