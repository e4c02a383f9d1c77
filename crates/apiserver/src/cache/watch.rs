//! A watcher: a cursor into a resource's ring, seen through a selector.
//!
//! It holds no queue of its own, so a watcher that is slow or stuck costs nothing until the ring has passed it; then it
//! goes on out of the datastore's history if it has that ([`Replay`]), else it is [`Lagged`] and its client lists anew.

use std::collections::VecDeque;
use std::sync::Arc;

use api::object::Entry;
use api::resource::Selectable;
use api::selector::field::FieldSelector;
use api::selector::label::LabelSelector;
use tokio::sync::watch as watch_channel;

use super::history::{History, Replay, Told};
use super::resource::ResourceCache;
use super::ring::{CacheEvent, EventKind};

/// Events taken from the ring under one lock.
const BATCH: usize = 64;

/// Which objects a list or watch is about.
#[derive(Clone, Debug)]
pub struct Filter {
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    /// Terms over [`Entry::fields`], by the position of the field there.
    pub fields: Vec<FieldTerm>,
}

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub position: usize,
    /// What an object that lacks the field has instead.
    pub absent: &'static str,
    pub value: String,
    /// `!=` instead of `=`.
    pub differs: bool,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first event after this revision.
    After(u64),
    /// With what happens from now on.
    Now,
    /// With all current objects, then what happens.
    Objects,
}

/// The ring no longer holds what the watcher has not yet seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version")]
pub struct Lagged;

/// One thing that a watcher is told.
#[derive(Clone, Debug)]
pub enum Notice {
    /// An object that was there when the watch began.
    Initial(Arc<Entry>),
    /// All initial objects have been delivered; they are as of this revision.
    InitialDone(u64),
    /// A change, as the watcher's selector makes it out.
    Event(EventKind, Arc<CacheEvent>),
}

/// A place in the history of a resource.
pub struct Watcher {
    cache: Arc<ResourceCache>,
    filter: Filter,
    pending: VecDeque<Notice>,
    position: u64,
    /// Everything up to here has been delivered.
    revision: u64,
    end: watch_channel::Receiver<u64>,
    /// Where to read on when the ring has passed the watcher.
    history: Option<Arc<History>>,
    /// Instead of the ring, until that has what is next.
    replay: Option<Box<Replay>>,
}

/// Everything.
impl Default for Filter {
    fn default() -> Self {
        Self { namespace: None, labels: LabelSelector::EVERYTHING, fields: Vec::new() }
    }
}

impl Filter {
    /// Resolves the terms of `fields` against the names of a resource's selectable fields. The error is the
    /// name of a field that cannot be selected by.
    pub fn new(
        namespace: Option<String>,
        labels: LabelSelector,
        fields: &FieldSelector,
        selectable: &[Selectable],
    ) -> Result<Self, String> {
        let fields = fields
            .terms()
            .iter()
            .map(|term| {
                let known = selectable.iter().position(|known| known.label == term.field);
                let position = known.ok_or_else(|| term.field.clone())?;
                let absent = selectable[position].absent;
                Ok(FieldTerm { position, absent, value: term.value.clone(), differs: term.negated })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { namespace, labels, fields })
    }

    /// True when the filter lets all objects of its namespace through.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// True when the filter is about this object, its namespace apart.
    pub(super) fn selects(&self, entry: &Entry) -> bool {
        self.labels.matches(&entry.labels)
            && self.fields.iter().all(|term| {
                let held = entry.fields.get(term.position).map_or("", String::as_str);
                let value = if held.is_empty() { term.absent } else { held };
                (value == term.value) != term.differs
            })
    }

    /// True when the filter is about this object.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == entry.key.namespace) && self.selects(entry)
    }

    /// What an event is to a watcher with this filter: leaving the selection is a deletion, entering it a creation.
    fn kind(&self, event: &CacheEvent) -> Option<EventKind> {
        let before = event.old.as_ref().is_some_and(|old| self.matches(old));
        let after = !event.deleted && self.matches(&event.object);
        match (before, after) {
            (false, true) => Some(EventKind::Added),
            (true, true) => Some(EventKind::Modified),
            (true, false) => Some(EventKind::Deleted),
            (false, false) => None,
        }
    }
}

impl Watcher {
    pub(super) fn new(
        cache: Arc<ResourceCache>,
        filter: Filter,
        initial: Vec<Arc<Entry>>,
        position: u64,
        revision: u64,
        end: watch_channel::Receiver<u64>,
    ) -> Self {
        let pending = initial.into_iter().map(Notice::Initial).chain([Notice::InitialDone(revision)]).collect();
        Self { cache, filter, pending, position, revision, end, history: None, replay: None }
    }

    pub(super) fn with_history(self, history: Arc<History>) -> Self {
        Self { history: Some(history), ..self }
    }

    pub(super) fn replaying(self, replay: Replay) -> Self {
        Self { replay: Some(Box::new(replay)), ..self }
    }

    /// The next notice. `Ok(None)`: the resource is no longer served. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Notice>, Lagged> {
        loop {
            if let Some(notice) = self.pending.pop_front() {
                if let Notice::Event(_, event) = &notice {
                    self.revision = event.revision;
                }
                return Ok(Some(notice));
            }
            if self.replay.is_some() {
                self.read_on().await?;
                continue;
            }
            // Seen before reading, so that an event between the read and the wait ends the wait.
            self.end.borrow_and_update();
            let taken = match (self.take_batch(), &self.history) {
                (Err(Lagged), Some(history)) => {
                    self.replay = Some(Box::new(self.cache.replay(self.revision, history).ok_or(Lagged)?));
                    continue;
                }
                (taken, _) => taken?,
            };
            if !taken && self.end.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Moves events from the ring to `pending`; false when the cursor is at the ring's end.
    fn take_batch(&mut self) -> Result<bool, Lagged> {
        let events = self.cache.events_from(self.position, BATCH).ok_or(Lagged)?;
        self.position += events.len() as u64;
        let taken = !events.is_empty();
        for event in events {
            self.take(event);
        }
        Ok(taken)
    }

    fn take(&mut self, event: Arc<CacheEvent>) {
        // A watch from a revision that is yet to come shows nothing older.
        if event.revision <= self.revision {
            return;
        }
        match self.filter.kind(&event) {
            Some(kind) => self.pending.push_back(Notice::Event(kind, event)),
            None if self.pending.is_empty() => self.revision = event.revision,
            None => {}
        }
    }

    /// Goes back to the ring if that has what is next, else reads one event more out of the history. Called when nothing
    /// is pending; cancel safe.
    async fn read_on(&mut self) -> Result<(), Lagged> {
        if let Some(position) = self.cache.position_after(self.revision) {
            self.position = position;
            self.replay = None;
            return Ok(());
        }
        let Some(replay) = &mut self.replay else { return Ok(()) };
        match replay.next(&self.cache).await? {
            Told::Event(event) => self.take(event),
            Told::UpTo(heard) => self.revision = self.revision.max(heard),
        }
        Ok(())
    }

    /// A revision up to which everything has been delivered: what a bookmark says. `reached` is the revision of
    /// the caches, read before this is called.
    pub fn delivered(&self, reached: u64) -> u64 {
        let (end, _) = self.cache.ring_end();
        let caught_up = self.pending.is_empty() && self.replay.is_none() && self.position == end;
        if caught_up { self.revision.max(reached) } else { self.revision }
    }
}

impl CacheEvent {
    /// What is told of this event as `kind`: an object that left the selection is shown as it was before, at
    /// the revision of the change.
    pub fn shown(&self, kind: EventKind) -> Arc<Entry> {
        match (kind, &self.old) {
            (EventKind::Deleted, Some(old)) if !self.deleted => Arc::new(old.at_revision(self.revision)),
            _ => self.object.clone(),
        }
    }
}
