//! The recent events of one resource, shared by all its watchers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use api::forms::FormName;
use api::object::{Entry, ObjectKey};
use bytes::{BufMut, Bytes, BytesMut};

/// Events kept for watchers that are behind, at most. Who needs more reads the datastore's history.
pub(super) const MAX_EVENTS: usize = 4096;
/// What they alone keep alive, at most, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// How long events are kept for them, longer than it is between two bookmarks; so an idle server, which writes leases all
/// day, holds no more of them tomorrow than now.
const MAX_AGE: Duration = Duration::from_secs(75);
/// Events that are let go at once because of their age: what they leave is packed then, which takes its time.
const FORGOTTEN: usize = 512;
/// What an object takes beside its JSON, about: its labels, selectable fields and names are kept apart.
const BESIDE: usize = 1 << 10;

/// What a write did to one object.
#[derive(Debug)]
pub struct CacheEvent {
    pub revision: u64,
    /// The object before; `None` when it was created.
    pub old: Option<Arc<Entry>>,
    /// The object after, or its last state at the deletion's revision.
    pub object: Arc<Entry>,
    pub deleted: bool,
    since: Instant,
    added_json: OnceLock<Bytes>,
    modified_json: OnceLock<Bytes>,
    deleted_json: OnceLock<Bytes>,
    /// In protobuf, as most who read that see it.
    frame: OnceLock<(EventKind, FormName, Bytes)>,
}

/// A bounded queue in which every event has a sequence number.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<CacheEvent>>,
    /// The sequence number of the first event held.
    first: u64,
    bytes: usize,
    /// What events were about that have been let go.
    left: Vec<Arc<Entry>>,
    /// Every event after this revision is held.
    complete_since: u64,
}

impl CacheEvent {
    pub fn new(revision: u64, old: Option<Arc<Entry>>, object: Arc<Entry>, deleted: bool) -> Self {
        Self {
            revision,
            old,
            object,
            deleted,
            since: Instant::now(),
            added_json: OnceLock::new(),
            modified_json: OnceLock::new(),
            deleted_json: OnceLock::new(),
            frame: OnceLock::new(),
        }
    }

    /// The event as a line of a JSON watch, encoded once for all watchers that see it as a `kind` event.
    pub fn json_line(&self, kind: EventKind) -> Bytes {
        let cell = match kind {
            EventKind::Added => &self.added_json,
            EventKind::Modified => &self.modified_json,
            EventKind::Deleted => &self.deleted_json,
        };
        cell.get_or_init(|| json_line(kind.as_str(), &self.object)).clone()
    }

    /// The event as one of a protobuf watch, encoded once for all watchers that see it as a `kind` event and in this form.
    /// Those who see it as the first of them did not `make` their own.
    pub fn frame(&self, kind: EventKind, form: FormName, make: impl Fn() -> Bytes) -> Bytes {
        let (first, its_form, frame) = self.frame.get_or_init(|| (kind, form, make()));
        if (*first, *its_form) == (kind, form) { frame.clone() } else { make() }
    }

    /// What this alone keeps alive: the object before. The object after is in the cache, or the one before the next
    /// event; that of a deletion shares its JSON with the one before.
    fn size(&self) -> usize {
        size_of::<Self>() + self.old.as_ref().map_or(0, |old| old.stored_length() + BESIDE)
    }
}

/// What a watcher is told; by its selector an update may be any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One line of a JSON watch.
pub fn json_line(kind: &str, object: &Entry) -> Bytes {
    let mut out = BytesMut::with_capacity(object.stored_length() + 96);
    out.put_slice(b"{\"type\":\"");
    out.put_slice(kind.as_bytes());
    out.put_slice(b"\",\"object\":");
    object.write_json(&mut out);
    out.put_slice(b"}\n");
    out.freeze()
}

impl Ring {
    pub(super) fn new(complete_since: u64) -> Self {
        Self { events: VecDeque::new(), first: 0, bytes: 0, left: Vec::new(), complete_since }
    }

    pub(super) fn push(&mut self, event: Arc<CacheEvent>) {
        let now = event.since;
        self.bytes += event.size();
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            self.drop_first();
        }
        self.forget(now);
    }

    /// Lets go of what is too old.
    pub(super) fn forget(&mut self, now: Instant) {
        let is_old = |event: &Arc<CacheEvent>| now.saturating_duration_since(event.since) > MAX_AGE;
        for _ in 0..FORGOTTEN {
            if !self.events.front().is_some_and(is_old) {
                break;
            }
            self.drop_first();
        }
        // What a burst left is given back.
        if self.events.capacity() > 64 && self.events.len() < self.events.capacity() / 4 {
            self.events.shrink_to(self.events.len() * 2);
        }
    }

    fn drop_first(&mut self) {
        if let Some(dropped) = self.events.pop_front() {
            self.bytes -= dropped.size();
            self.first += 1;
            self.complete_since = dropped.revision;
            if !dropped.deleted {
                self.left.push(dropped.object.clone());
            }
        }
    }

    /// What events were about that have been let go since this was asked. Later events may be about the same.
    pub(super) fn take_left(&mut self) -> Vec<Arc<Entry>> {
        std::mem::take(&mut self.left)
    }

    /// Every event after this revision is held.
    pub(super) fn complete_since(&self) -> u64 {
        self.complete_since
    }

    /// The sequence number that the next event will have.
    pub(super) fn end(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The sequence number of the first event after `revision`; `None` when some of those are gone.
    pub(super) fn position_after(&self, revision: u64) -> Option<u64> {
        if revision < self.complete_since {
            return None;
        }
        Some(self.first + self.events.partition_point(|event| event.revision <= revision) as u64)
    }

    /// What the objects that have changed since `revision` were then, nothing for those that were not there; `None` when
    /// some of the changes are gone.
    pub(super) fn before(&self, revision: u64) -> Option<BTreeMap<&ObjectKey, Option<&Arc<Entry>>>> {
        let skip = usize::try_from(self.position_after(revision)? - self.first).ok()?;
        // Backwards, so that of several changes of an object the first has the last word.
        Some(self.events.iter().skip(skip).rev().map(|event| (&event.object.key, event.old.as_ref())).collect())
    }

    /// Up to `limit` events from the sequence number `position` on; `None` when it is gone.
    pub(super) fn read(&self, position: u64, limit: usize) -> Option<Vec<Arc<CacheEvent>>> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        Some(self.events.iter().skip(skip).take(limit).cloned().collect())
    }

    /// What `seen` makes of the first event that it makes anything of, of up to `limit` from the sequence number `position`
    /// on, and the number of the next one to look at; `None` when it is gone.
    pub(super) fn find<T>(
        &self,
        position: u64,
        limit: usize,
        mut seen: impl FnMut(&Arc<CacheEvent>) -> Option<T>,
    ) -> Option<(u64, Option<T>)> {
        let skip = usize::try_from(position.checked_sub(self.first)?).ok()?;
        let mut next = position;
        for event in self.events.iter().skip(skip).take(limit) {
            next += 1;
            if let Some(found) = seen(event) {
                return Some((next, Some(found)));
            }
        }
        Some((next, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(revision: u64) -> Arc<CacheEvent> {
        let object = Entry::from_value(json!({"metadata": {"name": "a"}}), revision, &[]).unwrap();
        Arc::new(CacheEvent::new(revision, None, Arc::new(object), false))
    }

    #[test]
    fn positions_follow_revisions_and_old_ones_are_gone() {
        let mut ring = Ring::new(10);
        assert_eq!(ring.position_after(9), None);
        assert_eq!(ring.position_after(10), Some(0));
        for revision in [12, 15, 16] {
            ring.push(event(revision));
        }
        assert_eq!(ring.position_after(10), Some(0));
        assert_eq!(ring.position_after(12), Some(1));
        assert_eq!(ring.position_after(14), Some(1));
        assert_eq!(ring.position_after(99), Some(3));
        assert_eq!(ring.read(1, 9).unwrap().len(), 2);

        for revision in 17..17 + MAX_EVENTS as u64 {
            ring.push(event(revision));
        }
        assert!(ring.read(2, 1).is_none());
        assert_eq!(ring.position_after(15), None);
        assert_eq!(ring.position_after(16), Some(3));
        assert_eq!(ring.end(), 3 + MAX_EVENTS as u64);
    }

    #[test]
    fn what_is_old_goes() {
        let mut ring = Ring::new(10);
        let later = |revision, seconds| {
            let mut event = Arc::into_inner(event(revision)).unwrap();
            event.since += Duration::from_secs(seconds);
            Arc::new(event)
        };
        for (revision, seconds) in [(11, 0), (12, 60), (13, 100)] {
            ring.push(later(revision, seconds));
        }
        assert_eq!((ring.complete_since(), ring.position_after(11)), (11, Some(1)));
        ring.push(later(14, 300));
        assert_eq!((ring.complete_since(), ring.end()), (13, 4));
        ring.forget(ring.events[0].since + Duration::from_secs(76));
        assert_eq!((ring.complete_since(), ring.end(), ring.bytes), (14, 4, 0));
    }
}
