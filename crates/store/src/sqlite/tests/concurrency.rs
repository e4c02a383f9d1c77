//! Many writers, watchers, readers and a compaction at once: every increment counts, every watch sees one history.

use std::collections::HashMap;

use tokio::task::JoinSet;

use super::*;

const WRITERS: usize = 16;
const INCREMENTS: usize = 100;
const COUNTERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn increments_are_counted_and_watches_agree() {
    let fixture = Fixture::new();
    // A ring of few events: watchers fall behind it all the time.
    let store = Arc::new(fixture.open_with(&Failpoints::default(), 20));
    let total = (WRITERS * INCREMENTS) as u64;
    let mut watches = JoinSet::new();
    for prefix in ["", "", "/counter/1", "/counter/"] {
        let mut watch = store.watch(prefix, Revision::ZERO);
        watches.spawn(async move { (prefix, history(&mut watch, total).await) });
    }
    let mut workers = JoinSet::new();
    for worker in 0..WRITERS {
        workers.spawn(increment(Arc::clone(&store), worker));
    }
    workers.spawn(list_and_watch(Arc::clone(&store)));
    workers.join_all().await;

    let page = store.range(Range::default(), None).await.unwrap();
    let counts = page.records.iter().map(|record| number(&record.value));
    assert_eq!(counts.sum::<u64>(), total);
    assert_eq!(store.current().get(), total, "each increment mints one revision");
    let mut whole = None;
    for (prefix, history) in watches.join_all().await {
        check_history(&history);
        if prefix.is_empty() {
            assert_eq!(history.len() as u64, total);
            let seen: Vec<Revision> = history.iter().map(|event| event.revision).collect();
            assert_eq!(*whole.get_or_insert_with(|| seen.clone()), seen);
        }
    }
}

/// Adds one to a counter, again and again, on the condition that nobody else has.
async fn increment(store: Arc<SqliteStore>, worker: usize) {
    for n in 0..INCREMENTS {
        let key = format!("/counter/{}", (worker + n) % COUNTERS);
        let mut current = store.get(&key, None).await.unwrap();
        loop {
            let (expect, count) = match &current {
                Some(record) => (Expect::Revision(record.revision), number(&record.value)),
                None => (Expect::Absent, 0),
            };
            match write(&store, &key, expect, Some(&(count + 1).to_string())).await {
                Ok(_) => break,
                Err(Error::Precondition { current: found }) => current = found,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// What informers do: a list's revision is always one that a watch can start from.
async fn list_and_watch(store: Arc<SqliteStore>) {
    for _ in 0..200 {
        let page = store.range(Range::default(), None).await.unwrap();
        assert!(page.records.iter().all(|record| record.revision <= page.revision));
        let first = store.watch("/none", page.revision).recv().await.unwrap();
        assert!(matches!(first, Ok(Notice::Progress(revision)) if revision >= page.revision), "{first:?}");
    }
}

/// Everything that a watch delivers up to `upto`.
async fn history(watch: &mut Watch, upto: u64) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let reached = match watch.recv().await.unwrap().unwrap() {
            Notice::Events(events) => {
                all.extend(events);
                all.last().unwrap().revision
            }
            Notice::Progress(revision) => revision,
        };
        if reached.get() >= upto {
            return all;
        }
    }
}

/// In order, each once, and each naming the one that it replaced.
fn check_history(history: &[Event]) {
    let mut latest: HashMap<&str, &Event> = HashMap::new();
    assert!(history.is_sorted_by(|a, b| a.revision < b.revision));
    for event in history {
        let before = latest.insert(&event.key, event);
        assert_eq!(event.previous, before.map(|event| event.revision));
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}
