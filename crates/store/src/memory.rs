//! The contract in the fewest words: a log in memory, replayed to answer. Tests compare other backends with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;

use crate::{Backend, BoxFuture, Change, Error, Event, Expect, Notice, Page, Range, Record, Revision, Write, Written};

/// Notices that a watcher may lag before its task waits for it.
const CHANNEL: usize = 16;

/// A store whose every answer is derived from the log of all events. It forgets when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    history: Arc<Mutex<History>>,
    /// Wakes the watchers, and ends them when it is dropped; the value is the newest revision.
    newest: watch::Sender<Revision>,
    watchers: TaskTracker,
}

#[derive(Debug, Default)]
struct History {
    /// The event of revision `n` is at `n - 1`: each revision is one event.
    log: Vec<Event>,
    /// The log replayed to its end.
    live: BTreeMap<String, Record>,
    compacted: Revision,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }
}

impl Backend for MemoryStore {
    fn current(&self) -> Revision {
        self.history.lock().current()
    }

    fn get(&self, key: &str, at: Option<Revision>) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        let key = key.to_owned();
        Box::pin(async move {
            let history = self.history.lock();
            let at = at.unwrap_or(history.current());
            Ok(history.state(at)?.remove(&key))
        })
    }

    fn range(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<Page, Error>> {
        Box::pin(async move {
            let history = self.history.lock();
            let revision = at.unwrap_or(history.current());
            let start = range.start.unwrap_or_default();
            let mut records: Vec<Record> = history
                .state(revision)?
                .into_values()
                .filter(|record| record.key.starts_with(&range.prefix) && record.key >= start)
                .collect();
            let more = range.limit > 0 && records.len() > range.limit;
            if more {
                records.truncate(range.limit);
            }
            Ok(Page { records, revision, more })
        })
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, Error>> {
        Box::pin(async move {
            let written = self.history.lock().write(write)?;
            self.newest.send_if_modified(|newest| {
                let moved = *newest < written.revision;
                *newest = written.revision.max(*newest);
                moved
            });
            Ok(written)
        })
    }

    fn watch(&self, prefix: &str, after: Revision) -> mpsc::Receiver<Result<Notice, Error>> {
        let (notices, receiver) = mpsc::channel(CHANNEL);
        if let Err(error) = self.history.lock().kept(after) {
            // There is room: nothing has been sent yet.
            drop(notices.try_send(Err(error)));
            return receiver;
        }
        let (history, newest) = (Arc::clone(&self.history), self.newest.subscribe());
        let prefix = prefix.to_owned();
        self.watchers.spawn(async move { follow(&history, newest, &prefix, after, &notices).await });
        receiver
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let mut history = self.history.lock();
            history.minted(before)?;
            history.compacted = history.compacted.max(before);
            Ok(())
        })
    }
}

impl History {
    fn current(&self) -> Revision {
        Revision(self.log.len() as u64)
    }

    fn minted(&self, asked: Revision) -> Result<(), Error> {
        let current = self.current();
        if asked > current { Err(Error::Future { asked, current }) } else { Ok(()) }
    }

    fn kept(&self, asked: Revision) -> Result<(), Error> {
        self.minted(asked)?;
        let oldest = self.compacted;
        if asked < oldest { Err(Error::Compacted { asked, oldest }) } else { Ok(()) }
    }

    /// What each key held at `at`.
    fn state(&self, at: Revision) -> Result<BTreeMap<String, Record>, Error> {
        self.kept(at)?;
        if at == self.current() {
            return Ok(self.live.clone());
        }
        let mut state = BTreeMap::new();
        for event in &self.log[..at.0 as usize] {
            apply(&mut state, event);
        }
        Ok(state)
    }

    fn write(&mut self, write: Write) -> Result<Written, Error> {
        let previous = self.live.get(&write.key).cloned();
        let held = match write.expect {
            Expect::Anything => true,
            Expect::Absent => previous.is_none(),
            Expect::Revision(revision) => previous.as_ref().is_some_and(|record| record.revision == revision),
        };
        let value = match write.change {
            Change::Put(value) => Some(value),
            Change::Delete => None,
        };
        if !held || (value.is_none() && previous.is_none()) {
            return Err(Error::Precondition { current: previous });
        }
        let revision = Revision(self.current().0 + 1);
        let event = Event { key: write.key, revision, value, previous: previous.map(|record| record.revision) };
        apply(&mut self.live, &event);
        self.log.push(event);
        Ok(Written { revision })
    }

    fn events(&self, prefix: &str, after: Revision) -> Vec<Event> {
        self.log[after.0 as usize..].iter().filter(|event| event.key.starts_with(prefix)).cloned().collect()
    }
}

/// What `event` makes of the state before it.
fn apply(state: &mut BTreeMap<String, Record>, event: &Event) {
    match &event.value {
        Some(value) => {
            let created = state.get(&event.key).map_or(event.revision, |record| record.created);
            let record = Record { key: event.key.clone(), value: value.clone(), revision: event.revision, created };
            state.insert(event.key.clone(), record);
        }
        None => {
            state.remove(&event.key);
        }
    }
}

/// Feeds a watcher until it, or the store, is gone.
async fn follow(
    history: &Mutex<History>,
    mut newest: watch::Receiver<Revision>,
    prefix: &str,
    after: Revision,
    notices: &mpsc::Sender<Result<Notice, Error>>,
) -> Option<()> {
    let mut cursor = after;
    let mut caught_up = false;
    loop {
        newest.borrow_and_update();
        let (events, upto) = {
            let history = history.lock();
            (history.events(prefix, cursor), history.current())
        };
        if let Some(last) = events.last() {
            cursor = last.revision;
            notices.send(Ok(Notice::Events(events))).await.ok()?;
        }
        if !caught_up || cursor < upto {
            notices.send(Ok(Notice::Progress(upto))).await.ok()?;
        }
        (cursor, caught_up) = (upto, true);
        tokio::select! {
            changed = newest.changed() => changed.ok()?,
            () = notices.closed() => return None,
        }
    }
}
