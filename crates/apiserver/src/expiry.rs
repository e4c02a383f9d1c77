//! Events end by themselves: each is removed when nothing has been written to it for a time.
//!
//! Upstream writes them under a lease of etcd (`--event-ttl`). Here one task follows their cache, holds the writes in
//! their order, and waits for the first of them to be over: it costs nothing while there are no events. What is removed
//! is removed at the revision that was seen, so a write in between, or another server, is no harm. The time of a write
//! is not stored: after a restart it is read from the object, where the server itself puts it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::object::Entry;
use futures::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::cache::{EventKind, Filter, Lagged, ResourceCache, Start, WatchNotice, Watcher};
use crate::document::Document;
use crate::server::ApiServer;

/// Removals at once: the store commits them together.
const TOGETHER: usize = 64;
/// What could not be removed, as with a full disk, is tried again after this.
const AGAIN: Duration = Duration::from_secs(60);

/// Removes events to which nothing has been written for `ttl`, until `stop`. A time of 0 keeps them for ever.
pub(crate) async fn run(server: Arc<ApiServer>, events: Arc<ResourceCache>, ttl: Duration, stop: CancellationToken) {
    if ttl.is_zero() {
        return;
    }
    while let Some(watcher) = events.watch(Filter::default(), Start::Objects) {
        match stop.run_until_cancelled(follow(&server, &events, watcher, ttl)).await {
            Some(Err(Lagged)) => {}
            Some(Ok(())) | None => return,
        }
    }
}

async fn follow(
    server: &ApiServer,
    events: &Arc<ResourceCache>,
    mut watcher: Watcher,
    ttl: Duration,
) -> Result<(), Lagged> {
    let mut writes = Writes::default();
    loop {
        let due = writes.first();
        tokio::select! {
            biased;
            notice = watcher.next() => match notice? {
                None => return Ok(()),
                Some(WatchNotice::Initial(entry)) => {
                    let until = Instant::now() + ttl.saturating_sub(age(&entry.to_value(), Timestamp::now()));
                    writes.insert(entry, until);
                }
                Some(WatchNotice::InitialDone(_)) => writes.order(),
                Some(WatchNotice::Event(kind, event)) => {
                    if let Some(old) = &event.old {
                        writes.remove(old);
                    }
                    if kind != EventKind::Deleted {
                        writes.insert(event.object.clone(), Instant::now() + ttl);
                    }
                }
            },
            () = sleep_until(due.unwrap_or_else(Instant::now) + slack(ttl)), if due.is_some() => {
                while let Some(over) = writes.take(Instant::now(), TOGETHER) {
                    for entry in remove(server, events, over).await {
                        writes.insert(entry, Instant::now() + AGAIN);
                    }
                }
            }
        }
    }
}

/// How much longer the first of several may stay, so that they go together: as with the leases that upstream's events
/// share.
fn slack(ttl: Duration) -> Duration {
    (ttl / 20).min(Duration::from_secs(60))
}

/// Removes these as they are; returns those of which the store could not say that they are gone or otherwise.
async fn remove(server: &ApiServer, events: &ResourceCache, over: Vec<Arc<Entry>>) -> Vec<Arc<Entry>> {
    let removals = over.into_iter().map(|entry| async move {
        match server.registry.remove(events, &entry).await {
            Ok(_) => None,
            Err(why) => {
                warn!(%why, event = %entry.key, "an old event could not be removed");
                Some(entry)
            }
        }
    });
    join_all(removals).await.into_iter().flatten().collect()
}

/// The latest write of each event, and until when it stays.
#[derive(Default)]
struct Writes {
    by_revision: BTreeMap<u64, (Instant, Arc<Entry>)>,
}

impl Writes {
    fn insert(&mut self, entry: Arc<Entry>, until: Instant) {
        self.by_revision.insert(entry.revision, (until, entry));
    }

    fn remove(&mut self, entry: &Entry) {
        self.by_revision.remove(&entry.revision);
    }

    /// Lets nothing be over before what was written earlier: a later revision is a later write, whatever objects say.
    fn order(&mut self) {
        let mut latest = None;
        for (until, _) in self.by_revision.values_mut() {
            *until = latest.map_or(*until, |latest| (*until).max(latest));
            latest = Some(*until);
        }
    }

    /// When the first is over.
    fn first(&self) -> Option<Instant> {
        self.by_revision.first_key_value().map(|(_, (until, _))| *until)
    }

    /// Up to `limit` of those that are over; `None` when there are none.
    fn take(&mut self, now: Instant, limit: usize) -> Option<Vec<Arc<Entry>>> {
        let mut over = Vec::new();
        while let Some(first) = self.by_revision.first_entry()
            && first.get().0 <= now
            && over.len() < limit
        {
            over.push(first.remove().1);
        }
        (!over.is_empty()).then_some(over)
    }
}

/// How long ago an object was written last, by the times that the server puts into it and, where those are taken out, by
/// what reporters say of repetitions.
fn age(object: &Value, now: Timestamp) -> Duration {
    let managed = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let said = [object.meta("creationTimestamp")]
        .into_iter()
        .chain(managed.filter_map(|manager| manager["time"].as_str()))
        .chain(object["lastTimestamp"].as_str())
        .chain(object["series"]["lastObservedTime"].as_str());
    let written = said.filter_map(|text| text.parse::<Timestamp>().ok()).max();
    // What says nothing, or lies in the future, counts as written now.
    written.and_then(|written| now.duration_since(written).try_into().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_write_counts_and_the_future_is_now() {
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let check = |object: Value, seconds: u64| assert_eq!(age(&object, now).as_secs(), seconds, "{object}");
        check(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}), 3600);
        let managed = json!([{"time": "2026-01-01T00:59:00Z"}, {"time": "2026-01-01T00:30:00Z"}]);
        check(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": managed}}), 60);
        check(json!({"metadata": {}, "series": {"lastObservedTime": "2026-01-01T00:59:30.000000Z"}}), 30);
        check(json!({"metadata": {}, "lastTimestamp": "2027-01-01T00:00:00Z"}), 0);
        check(json!({"metadata": {}}), 0);
    }

    #[tokio::test]
    async fn earlier_writes_are_over_first() {
        let start = Instant::now();
        let entry = |name: &str, revision| {
            Arc::new(Entry::from_value(json!({"metadata": {"name": name}}), revision, &[]).unwrap())
        };
        let later = |seconds| start + Duration::from_secs(seconds);
        let mut writes = Writes::default();
        // That the second ends before the first is a mistake of what its object says.
        for (name, revision, seconds) in [("b", 2, 5), ("a", 1, 10), ("c", 3, 20)] {
            writes.insert(entry(name, revision), later(seconds));
        }
        writes.order();
        assert_eq!(writes.first(), Some(later(10)));
        assert!(writes.take(later(9), 9).is_none());
        writes.remove(&entry("a", 1));
        let over = writes.take(later(10), 9).unwrap();
        assert_eq!(over.iter().map(|entry| entry.key.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(writes.first(), Some(later(20)));
    }
}
