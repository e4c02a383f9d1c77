//! What a controller knows that its view does not show yet.
//!
//! A controller that has just created a pod and is woken before its view shows the pod would create another. After each
//! create it therefore notes the revision that the server answered with, and after each delete the uid; until its view
//! has come that far it makes no more. Unlike upstream's counts, neither can drift: both are facts about the view. A
//! deadline backs them up should a change never arrive (the object was created and gone between two lists).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use client::clock::Clock;
use parking_lot::Mutex;
use serde_json::Value;

/// How long a change may take to appear; upstream's figure.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Expectations {
    clock: Arc<dyn Clock>,
    awaited: Mutex<HashMap<ObjectKey, Awaited>>,
}

struct Awaited {
    revision: u64,
    deleted: HashSet<String>,
    until: Duration,
}

impl Expectations {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, awaited: Mutex::default() }
    }

    /// `owner` wrote `written`: its view is to reach that revision.
    pub(crate) fn wrote(&self, owner: &ObjectKey, written: &Value) {
        let version = written["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok());
        if let Some(revision) = version {
            self.note(owner, |awaited| awaited.revision = awaited.revision.max(revision));
        }
    }

    /// `owner` deleted the object with this uid: its view is to show it gone or going.
    pub(crate) fn deleted(&self, owner: &ObjectKey, uid: &str) {
        self.note(owner, |awaited| {
            awaited.deleted.insert(uid.to_owned());
        });
    }

    /// True if a view that has reached `revision`, and in which `there` tells whether a uid is there and not going,
    /// shows everything that `owner` did.
    pub(crate) fn met(&self, owner: &ObjectKey, revision: u64, there: impl Fn(&str) -> bool) -> bool {
        let mut all = self.awaited.lock();
        let Some(awaited) = all.get_mut(owner) else { return true };
        awaited.deleted.retain(|uid| there(uid));
        let met = awaited.deleted.is_empty() && awaited.revision <= revision;
        if met || awaited.until <= self.clock.elapsed() {
            all.remove(owner);
            return true;
        }
        false
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &ObjectKey) {
        self.awaited.lock().remove(owner);
    }

    fn note(&self, owner: &ObjectKey, change: impl FnOnce(&mut Awaited)) {
        let until = self.clock.elapsed() + PATIENCE;
        let mut all = self.awaited.lock();
        let awaited =
            all.entry(owner.clone()).or_insert_with(|| Awaited { revision: 0, deleted: HashSet::new(), until });
        awaited.until = until;
        change(awaited);
    }
}

#[cfg(test)]
mod tests {
    use client::clock::ManualClock;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_view_must_show_what_was_done_or_time_must_pass() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let expectations = Expectations::new(clock.clone());
        let owner = ObjectKey::new("a", "x");
        assert!(expectations.met(&owner, 0, |_| true));
        expectations.wrote(&owner, &json!({"metadata": {"resourceVersion": "7"}}));
        expectations.deleted(&owner, "u");
        assert!(!expectations.met(&owner, 6, |_| false), "the created object is not there yet");
        expectations.deleted(&owner, "u");
        assert!(!expectations.met(&owner, 7, |uid| uid == "u"), "the deleted object is still there");
        assert!(expectations.met(&owner, 7, |_| false));
        expectations.deleted(&owner, "v");
        clock.advance(PATIENCE);
        assert!(expectations.met(&owner, 7, |_| true));
    }
}
