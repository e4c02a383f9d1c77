//! Pods that wait for a node.
//!
//! A pod is active (its turn comes by priority, then by time), backs off after a failed attempt, is unschedulable until
//! a change in the cluster may help it, or is gated until its scheduling gates are gone. The queue keeps no
//! clock: callers say what time it is and ask when to come again.

mod hints;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use client::backoff::exponential;

use crate::plugins::Plugin;
use crate::snapshot::PodInfo;
pub use hints::{Event, helps};

/// The pause after a pod's first failed attempt, and the longest.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// After so long an unschedulable pod is tried again, should a change that helps it have gone unnoticed.
const UNSCHEDULABLE_AT_MOST: Duration = Duration::from_secs(300);

/// The waiting pods.
#[derive(Default)]
pub struct Queue {
    pods: HashMap<ObjectKey, Waiting>,
    active: BTreeSet<Turn>,
    /// When pods that back off become active, and unschedulable ones are tried anyway.
    deadlines: BTreeSet<(Duration, ObjectKey)>,
    sequence: u64,
}

/// Highest priority first, then who came first.
type Turn = (Reverse<i32>, Duration, u64, ObjectKey);

struct Waiting {
    pod: Arc<PodInfo>,
    attempts: u32,
    place: Place,
}

enum Place {
    Active(Turn),
    Backoff(Duration),
    Unschedulable {
        refused_by: BTreeSet<Plugin>,
        backoff: Duration,
        deadline: Duration,
    },
    Gated,
    /// Taken by [`Queue::pop`] or never placed.
    Out,
}

/// A pod whose turn it is.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub pod: Arc<PodInfo>,
    /// How often it has been tried, this time included.
    pub number: u32,
}

impl Queue {
    /// Takes in a new pod, or what has become of one that waits. A change in what an unschedulable pod needs is
    /// reason to try again.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Duration) {
        let key = pod.key.clone();
        let Some(waiting) = self.pods.get_mut(&key).filter(|waiting| waiting.pod.uid == pod.uid) else {
            self.remove(&key);
            self.insert(Attempt { pod, number: 0 }, now);
            return;
        };
        let changed = waiting.pod.needs != pod.needs;
        waiting.pod = pod;
        if changed {
            let backoff = match &waiting.place {
                Place::Backoff(until) => *until,
                Place::Unschedulable { backoff, .. } => *backoff,
                _ => now,
            };
            self.wake(&key, backoff, now);
        }
    }

    pub fn remove(&mut self, key: &ObjectKey) {
        self.lift(key);
        self.pods.remove(key);
    }

    /// The pod whose turn it is. It is no longer in the queue: what becomes of it is told by [`Queue::refused`] or
    /// [`Queue::failed`], or it has a node.
    pub fn pop(&mut self, now: Duration) -> Option<Attempt> {
        self.promote(now);
        let (.., key) = self.active.pop_first()?;
        let waiting = self.pods.remove(&key)?;
        Some(Attempt { pod: waiting.pod, number: waiting.attempts.saturating_add(1) })
    }

    /// No node could take the pod; `by` refused.
    pub fn refused(&mut self, attempt: Attempt, by: BTreeSet<Plugin>, now: Duration) {
        let backoff = now + backoff(attempt.number);
        let deadline = now + UNSCHEDULABLE_AT_MOST;
        self.put(attempt, Place::Unschedulable { refused_by: by, backoff, deadline });
    }

    /// Something else went wrong: the pod is tried again after its backoff.
    pub fn failed(&mut self, attempt: Attempt, now: Duration) {
        let until = now + backoff(attempt.number);
        self.put(attempt, Place::Backoff(until));
    }

    /// The cluster changed: wakes the unschedulable pods that this may help.
    pub fn happened(&mut self, event: Event, now: Duration) {
        let helped = self.pods.iter().filter_map(|(key, waiting)| match &waiting.place {
            // A pod that nobody refused found no nodes at all.
            Place::Unschedulable { refused_by, backoff, .. }
                if refused_by.iter().any(|plugin| helps(event, *plugin))
                    || (refused_by.is_empty() && event == Event::NodeAdded) =>
            {
                Some((key.clone(), *backoff))
            }
            _ => None,
        });
        let helped: Vec<_> = helped.collect();
        for (key, backoff) in helped {
            self.wake(&key, backoff, now);
        }
    }

    pub fn has_active(&self) -> bool {
        !self.active.is_empty()
    }

    /// When there is something to do that is not there yet.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn insert(&mut self, attempt: Attempt, now: Duration) {
        let place = if attempt.pod.needs.gates.is_empty() { self.turn(&attempt.pod, now) } else { Place::Gated };
        self.put(attempt, place);
    }

    fn turn(&mut self, pod: &PodInfo, now: Duration) -> Place {
        self.sequence += 1;
        Place::Active((Reverse(pod.needs.priority), now, self.sequence, pod.key.clone()))
    }

    fn put(&mut self, attempt: Attempt, place: Place) {
        let key = attempt.pod.key.clone();
        match &place {
            Place::Active(turn) => {
                self.active.insert(turn.clone());
            }
            Place::Backoff(deadline) | Place::Unschedulable { deadline, .. } => {
                self.deadlines.insert((*deadline, key.clone()));
            }
            Place::Gated | Place::Out => {}
        }
        self.pods.insert(key, Waiting { pod: attempt.pod, attempts: attempt.number, place });
    }

    /// Takes the pod out of its place.
    fn lift(&mut self, key: &ObjectKey) {
        let Some(waiting) = self.pods.get_mut(key) else { return };
        match std::mem::replace(&mut waiting.place, Place::Out) {
            Place::Active(turn) => {
                self.active.remove(&turn);
            }
            Place::Backoff(deadline) | Place::Unschedulable { deadline, .. } => {
                self.deadlines.remove(&(deadline, key.clone()));
            }
            Place::Gated | Place::Out => {}
        }
    }

    /// Makes the pod active, or has it wait for the rest of its backoff.
    fn wake(&mut self, key: &ObjectKey, backoff: Duration, now: Duration) {
        self.lift(key);
        let Some(waiting) = self.pods.remove(key) else { return };
        let attempt = Attempt { pod: waiting.pod, number: waiting.attempts };
        if backoff > now && attempt.pod.needs.gates.is_empty() {
            self.put(attempt, Place::Backoff(backoff));
        } else {
            self.insert(attempt, now);
        }
    }

    fn promote(&mut self, now: Duration) {
        while let Some((deadline, key)) = self.deadlines.first().cloned() {
            if deadline > now {
                return;
            }
            self.wake(&key, now, now);
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    exponential(FIRST_BACKOFF, LAST_BACKOFF, attempts.saturating_sub(1))
}

#[cfg(test)]
mod tests;
