//! How long to wait before something that failed is tried again: 10 s, doubling to 5 min, forgotten after 10 min of
//! peace (upstream's `flowcontrol.Backoff` as the kubelet sets it up). Pure: time is an argument.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

const FIRST: SignedDuration = SignedDuration::from_secs(10);
const LONGEST: SignedDuration = SignedDuration::from_mins(5);
const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// The delays of one pod's containers or images, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoffs {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

/// A delay that still runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wait {
    pub(crate) delay: SignedDuration,
    pub(crate) until: Timestamp,
}

impl Backoffs {
    /// What must still be waited after the failure at `failed`.
    pub(crate) fn waiting(&self, key: &str, failed: Timestamp, now: Timestamp) -> Option<Wait> {
        let entry = self.entries.get(key).filter(|entry| !entry.expired(failed))?;
        let until = failed + entry.delay;
        (until > now).then_some(Wait { delay: entry.delay, until })
    }

    /// Records that it is tried again now, after the failure at `failed`.
    pub(crate) fn next(&mut self, key: &str, failed: Timestamp, now: Timestamp) {
        let delay = match self.entries.get(key).filter(|entry| !entry.expired(failed)) {
            Some(entry) => (entry.delay * 2).min(LONGEST),
            None => FIRST,
        };
        self.entries.insert(key.to_owned(), Entry { delay, updated: now });
    }
}

impl Entry {
    /// The last try held long enough before it failed.
    fn expired(&self, failed: Timestamp) -> bool {
        failed.duration_since(self.updated) > FORGET_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn delays_double_up_to_five_minutes_and_are_forgotten_after_ten_minutes_of_running() {
        let mut backoffs = Backoffs::default();
        let mut now = at(1000);
        assert_eq!(backoffs.waiting("web", now, now), None, "the first crash is restarted at once");
        let mut delays = Vec::new();
        for _ in 0..7 {
            backoffs.next("web", now, now);
            let wait = backoffs.waiting("web", now, now).unwrap();
            delays.push(wait.delay.as_secs());
            now = wait.until;
            assert_eq!(backoffs.waiting("web", now - wait.delay, now), None, "over when its time is reached");
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);

        let later = now + SignedDuration::from_secs(301 + 601);
        assert_eq!(backoffs.waiting("web", later, later), None);
        backoffs.next("web", later, later);
        assert_eq!(backoffs.waiting("web", later, later).unwrap().delay.as_secs(), 10);
    }
}
