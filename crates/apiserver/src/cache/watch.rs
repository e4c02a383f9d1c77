//! A watcher: a cursor into a resource's ring, seen through a selector.
//!
//! It holds no queue of its own, so a watcher that is slow or stuck costs nothing until the ring has passed it; then it
//! goes on out of the datastore's history if it has that ([`Replay`]), else it is [`Lagged`] and its client lists anew.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use api::object::Entry;
use api::resource::Selectable;
use api::selector::field::FieldSelector;
use api::selector::label::LabelSelector;
use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::bell::{Closed, Seat};
use super::history::{History, Replay, Told};
use super::resource::ResourceCache;
use super::ring::{CacheEvent, EventKind};

/// Events looked at under one lock.
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
    /// What was there when the watch began, as far as it is to be told.
    pending: VecDeque<Notice>,
    position: u64,
    /// Everything up to here has been delivered.
    revision: u64,
    seat: Seat,
    /// Where to read on when the ring has passed the watcher.
    history: Option<Arc<History>>,
    /// Instead of the ring, until that has what is next.
    replay: Option<Reading>,
}

/// A replay, or what is being read of it.
enum Reading {
    Resting(Box<Replay>),
    Underway(BoxFuture<'static, (Box<Replay>, Result<Told, Lagged>)>),
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
                let held = entry.fields.get(term.position).unwrap_or_default();
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
        if self.namespace.as_ref().is_some_and(|namespace| *namespace != event.object.key.namespace) {
            return None;
        }
        let before = event.old.as_ref().is_some_and(|old| self.selects(old));
        let after = !event.deleted && self.selects(&event.object);
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
        seat: Seat,
    ) -> Self {
        let pending = initial.into_iter().map(Notice::Initial).chain([Notice::InitialDone(revision)]).collect();
        Self { cache, filter, pending, position, revision, seat, history: None, replay: None }
    }

    pub(super) fn with_history(self, history: Arc<History>) -> Self {
        Self { history: Some(history), ..self }
    }

    pub(super) fn replaying(self, replay: Replay) -> Self {
        Self { replay: Some(Reading::Resting(Box::new(replay))), ..self }
    }

    /// The next notice. `Ok(None)`: the resource is no longer served. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Notice>, Lagged> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Watcher::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Notice>, Lagged>> {
        loop {
            if let Some(notice) = self.pending.pop_front() {
                return Poll::Ready(Ok(Some(notice)));
            }
            if self.replay.is_some() {
                match ready!(self.poll_replay(cx))? {
                    Some(notice) => return Poll::Ready(Ok(Some(notice))),
                    None => continue,
                }
            }
            // What is behind the end is rung for, so nothing is missed by not looking.
            if self.position >= self.seat.end() {
                match ready!(self.seat.poll(self.position, cx)) {
                    Ok(()) => {}
                    Err(Closed) => return Poll::Ready(Ok(None)),
                }
            }
            match (self.take(), &self.history) {
                (Ok(Some(notice)), _) => return Poll::Ready(Ok(Some(notice))),
                (Ok(None), _) => {}
                (Err(Lagged), Some(history)) => {
                    let replay = self.cache.replay(self.revision, history).ok_or(Lagged)?;
                    self.replay = Some(Reading::Resting(Box::new(replay)));
                }
                (Err(Lagged), None) => return Poll::Ready(Err(Lagged)),
            }
        }
    }

    /// The next event of the ring that the filter lets through, of some.
    fn take(&mut self) -> Result<Option<Notice>, Lagged> {
        let Self { cache, filter, position, revision, .. } = self;
        let seen = |event: &Arc<CacheEvent>| seen(filter, revision, event);
        let (next, notice) = cache.find_event(*position, BATCH, seen).ok_or(Lagged)?;
        *position = next;
        Ok(notice)
    }

    /// Goes back to the ring if that has what is next, else reads one event more out of the history.
    fn poll_replay(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Notice>, Lagged>> {
        let mut reading = match self.replay.take() {
            None => return Poll::Ready(Ok(None)),
            Some(Reading::Underway(reading)) => reading,
            Some(Reading::Resting(mut replay)) => {
                if let Some(position) = self.cache.position_after(self.revision) {
                    self.position = position;
                    return Poll::Ready(Ok(None));
                }
                let cache = self.cache.clone();
                Box::pin(async move {
                    let told = replay.next(&cache).await;
                    (replay, told)
                })
            }
        };
        let Poll::Ready((replay, told)) = reading.poll_unpin(cx) else {
            self.replay = Some(Reading::Underway(reading));
            return Poll::Pending;
        };
        self.replay = Some(Reading::Resting(replay));
        Poll::Ready(Ok(match told? {
            Told::Event(event) => seen(&self.filter, &mut self.revision, &event),
            Told::UpTo(heard) => {
                self.revision = self.revision.max(heard);
                None
            }
        }))
    }

    /// A revision up to which everything has been delivered: what a bookmark says. `reached` is the revision of
    /// the caches, read before this is called.
    pub fn delivered(&self, reached: u64) -> u64 {
        let (end, _) = self.cache.ring_end();
        let caught_up = self.pending.is_empty() && self.replay.is_none() && self.position == end;
        if caught_up { self.revision.max(reached) } else { self.revision }
    }
}

/// What an event is to a watcher with this filter that knows everything up to `revision`.
fn seen(filter: &Filter, revision: &mut u64, event: &Arc<CacheEvent>) -> Option<Notice> {
    // A watch from a revision that is yet to come shows nothing older.
    if event.revision <= *revision {
        return None;
    }
    *revision = event.revision;
    Some(Notice::Event(filter.kind(event)?, event.clone()))
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
