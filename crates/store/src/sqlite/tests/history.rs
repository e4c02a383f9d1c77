//! Random concurrent histories, held to the invariants of watches (W1 to W12) and reads (R1 to R6) of our table, which are
//! those that etcd's robustness tests hold etcd to, and Kubernetes's own. W13 and R3 are promises of the cache above.
//!
//! Clients write, read and watch at once, and note when each operation began and ended. What one watch of everything saw
//! is the log that all else must agree with; it is itself held to what was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch as watch_channel;
use tokio::task::JoinSet;

use super::*;
use crate::Range;

const WRITERS: u64 = 4;
const READERS: u64 = 3;
const WATCHERS: u64 = 6;
const OPERATIONS: u64 = 120;
const PREFIXES: [&str; 5] = ["", "/", "/pods/", "/pods/a", "/nothing/"];
const KEYS: [&str; 7] = ["/pods/a", "/pods/a/b", "/pods/b", "/pods/c", "/nodes/a", "/nodes/b", "/nodes"];

/// Numbers that look random, the same for a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// When an operation began and ended, by a clock that only counts.
#[derive(Clone, Copy, Debug)]
struct Span {
    begun: u64,
    ended: u64,
}

#[derive(Debug)]
struct WriteSeen {
    span: Span,
    key: String,
    value: Option<String>,
    revision: Revision,
}

#[derive(Debug)]
struct ReadSeen {
    span: Span,
    prefix: &'static str,
    at: Option<Revision>,
    revision: Revision,
    records: Vec<Record>,
}

#[derive(Debug)]
struct WatchSeen {
    prefix: &'static str,
    after: Revision,
    notices: Vec<Notice>,
    /// Why it ended early.
    refused: Option<Error>,
}

#[derive(Default)]
struct Seen {
    writes: Vec<WriteSeen>,
    reads: Vec<ReadSeen>,
    watches: Vec<WatchSeen>,
}

struct Scene {
    store: SqliteStore,
    clock: AtomicU64,
    /// The log has been read up to here: what lies before may be forgotten.
    logged: AtomicU64,
    end: watch_channel::Sender<Option<Revision>>,
}

impl Scene {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_histories_keep_every_promise() {
    for seed in 1..=8 {
        let fixture = Fixture::new();
        // A ring of few events, so that watches fall behind it.
        let store = fixture.open_with(&Failpoints::default(), 8);
        let (log, seen) = run(store, seed).await;
        check_log(&log, &seen.writes);
        seen.reads.iter().for_each(|read| check_read(read, &log, &seen.writes));
        let told: usize = seen.watches.iter().map(|watch| check_watch(watch, &log)).sum();
        assert!(told > 100, "seed {seed}: the watches hardly saw anything");
    }
}

async fn run(store: SqliteStore, seed: u64) -> (Vec<Event>, Seen) {
    let (end, _) = watch_channel::channel(None);
    let scene = Arc::new(Scene { store, clock: AtomicU64::new(0), logged: AtomicU64::new(0), end });
    let mut log = JoinSet::new();
    log.spawn(keep_log(Arc::clone(&scene)));
    let dice = |role: u64, at: u64| Dice(seed * 1_000_003 + role * 1_009 + at + 1);
    let mut clients = JoinSet::new();
    (0..WRITERS).for_each(|at| drop(clients.spawn(write_at_random(Arc::clone(&scene), dice(1, at), at))));
    (0..READERS).for_each(|at| drop(clients.spawn(read_at_random(Arc::clone(&scene), dice(2, at)))));
    let mut watchers = JoinSet::new();
    (0..WATCHERS).for_each(|at| drop(watchers.spawn(watch_at_random(Arc::clone(&scene), dice(3, at)))));

    let mut seen = Seen::default();
    for part in clients.join_all().await {
        seen.writes.extend(part.writes);
        seen.reads.extend(part.reads);
    }
    let last = put(&scene.store, "/end", "x").await;
    scene.end.send_replace(Some(last));
    seen.watches = watchers.join_all().await.into_iter().flatten().collect();
    let log = log.join_all().await.remove(0);
    (log, seen)
}

async fn keep_log(scene: Arc<Scene>) -> Vec<Event> {
    let mut watch = scene.store.watch("", Revision::ZERO);
    let mut log: Vec<Event> = Vec::new();
    let mut end = scene.end.subscribe();
    loop {
        let reached = log.last().map_or(Revision::ZERO, |event| event.revision);
        scene.logged.store(reached.get(), Ordering::SeqCst);
        if end.borrow_and_update().is_some_and(|end| reached >= end) {
            return log;
        }
        tokio::select! {
            notice = watch.recv() => match notice.unwrap().unwrap() {
                Notice::Events(events) => log.extend(events),
                Notice::Progress(_) => {}
            },
            _ = end.changed() => {}
        }
    }
}

async fn write_at_random(scene: Arc<Scene>, mut dice: Dice, writer: u64) -> Seen {
    let mut seen = Seen::default();
    for n in 0..OPERATIONS {
        let key = dice.one_of(&KEYS);
        let value = (dice.below(100) >= 10).then(|| format!("{writer}.{n}"));
        let expect = match dice.below(10) {
            0 => Expect::Absent,
            1..=4 => match scene.store.get(key, None).await.unwrap() {
                Some(record) => Expect::Revision(record.revision),
                None => Expect::Absent,
            },
            _ => Expect::Anything,
        };
        let begun = scene.now();
        match write(&scene.store, key, expect, value.as_deref()).await {
            Ok(written) => {
                let span = Span { begun, ended: scene.now() };
                seen.writes.push(WriteSeen { span, key: key.to_owned(), value, revision: written.revision });
            }
            Err(Error::Precondition { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        if dice.below(20) == 0 {
            let before = dice.below(scene.logged.load(Ordering::SeqCst) + 1);
            scene.store.compact(Revision(before)).await.unwrap();
        }
    }
    seen
}

async fn read_at_random(scene: Arc<Scene>, mut dice: Dice) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..OPERATIONS {
        let prefix = dice.one_of(&PREFIXES);
        let at = (dice.below(3) == 0).then(|| Revision(dice.below(scene.store.current().get() + 1)));
        let begun = scene.now();
        match pages(&scene.store, prefix, at, dice.below(4) as usize).await {
            Ok((revision, records)) => {
                let span = Span { begun, ended: scene.now() };
                seen.reads.push(ReadSeen { span, prefix, at, revision, records });
            }
            Err(Error::Compacted { asked, oldest }) => assert!(asked < oldest, "{asked} is not before {oldest}"),
            Err(error) => panic!("{error}"),
        }
        // What is yet to come can neither be read nor watched.
        let future = Revision(scene.store.current().get() + 100_000);
        assert!(matches!(scene.store.get("/pods/a", Some(future)).await, Err(Error::Future { .. })), "W10");
    }
    seen
}

/// A whole list, in pages of so many where that is not 0: all at the first one's revision.
async fn pages(
    store: &SqliteStore,
    prefix: &str,
    at: Option<Revision>,
    limit: usize,
) -> Result<(Revision, Vec<Record>), Error> {
    let range = |start: Option<String>| Range { prefix: prefix.to_owned(), start, limit };
    let first = store.range(range(None), at).await?;
    let (revision, mut records, mut more) = (first.revision, first.records, first.more);
    while more {
        let next = records.last().map(|last| format!("{}\0", last.key));
        let page = store.range(range(next), Some(revision)).await?;
        assert_eq!(page.revision, revision, "R4: a page of another revision");
        records.extend(page.records);
        more = page.more;
    }
    Ok((revision, records))
}

async fn watch_at_random(scene: Arc<Scene>, mut dice: Dice) -> Vec<WatchSeen> {
    let mut seen = Vec::new();
    let mut end = scene.end.subscribe();
    let mut resume = None;
    loop {
        let ended = *end.borrow_and_update();
        let (prefix, after) = resume.take().unwrap_or_else(|| {
            let current = scene.store.current().get();
            (dice.one_of(&PREFIXES), Revision(current.saturating_sub(dice.below(40))))
        });
        let mut watch = scene.store.watch(prefix, after);
        let mut told = WatchSeen { prefix, after, notices: Vec::new(), refused: None };
        let mut reached = after;
        // Given up at any time, to be taken up again where it was.
        let patience = if ended.is_some() { u64::MAX } else { 1 + dice.below(30) };
        while (told.notices.len() as u64) < patience && ended.is_none_or(|end| reached < end) {
            let notice = tokio::select! {
                notice = watch.recv() => notice,
                _ = end.changed(), if ended.is_none() => break,
            };
            match notice {
                Some(Ok(notice)) => {
                    reached = match &notice {
                        Notice::Events(events) => events.last().unwrap().revision,
                        Notice::Progress(revision) => *revision,
                    };
                    told.notices.push(notice);
                }
                Some(Err(error)) => {
                    told.refused = Some(error);
                    break;
                }
                None => panic!("a watch ended without a word"),
            }
        }
        resume = (told.refused.is_none() && dice.below(2) == 0).then_some((prefix, reached));
        let through = told.refused.is_none() && ended.is_some();
        seen.push(told);
        if through {
            return seen;
        }
    }
}

/// The log is one history: no revision twice or left out (R5, R6, W3, W5), each event naming the one it replaced (W8), all
/// that was acknowledged in it as it was written, in an order that agrees with time (R1).
fn check_log(log: &[Event], writes: &[WriteSeen]) {
    let mut latest: BTreeMap<&str, &Event> = BTreeMap::new();
    for (at, event) in log.iter().enumerate() {
        assert_eq!(event.revision.get(), at as u64 + 1, "R6: a revision is missing or came twice");
        let before = latest.insert(&event.key, event).filter(|before| before.value.is_some());
        assert_eq!(event.previous, before.map(|before| before.revision), "W8: {event:?}");
        assert!(event.value.is_some() || before.is_some(), "W9: what was not there was deleted: {event:?}");
    }
    for write in writes {
        let event = &log[write.revision.get() as usize - 1];
        let value = event.value.as_deref().map(|value| String::from_utf8(value.to_vec()).unwrap());
        assert_eq!((&event.key, &value), (&write.key, &write.value), "W9: the log differs from what was acknowledged");
    }
    let mut by_begin: Vec<&WriteSeen> = writes.iter().collect();
    by_begin.sort_by_key(|write| write.span.begun);
    for later in &by_begin {
        let overtaken = writes.iter().find(|it| it.span.ended < later.span.begun && it.revision >= later.revision);
        assert!(overtaken.is_none(), "R1: {later:?} came before {overtaken:?}, which had ended");
    }
}

/// What the log says that there was at a revision.
fn replayed<'l>(log: &'l [Event], at: Revision, prefix: &str) -> BTreeMap<&'l str, &'l Event> {
    let mut state = BTreeMap::new();
    for event in log.iter().take_while(|event| event.revision <= at).filter(|event| event.key.starts_with(prefix)) {
        match event.value {
            Some(_) => state.insert(event.key.as_str(), event),
            None => state.remove(event.key.as_str()),
        };
    }
    state
}

/// A read sees one snapshot: the one that it asked for (R2), or one not older than anything acknowledged before (R1).
fn check_read(read: &ReadSeen, log: &[Event], writes: &[WriteSeen]) {
    match read.at {
        Some(at) => assert_eq!(read.revision, at, "R2"),
        None => {
            let stale = writes.iter().find(|it| it.span.ended < read.span.begun && it.revision > read.revision);
            assert!(stale.is_none(), "R1: a read at {} does not know {stale:?}", read.revision);
        }
    }
    let early = writes.iter().find(|it| it.span.begun > read.span.ended && it.revision <= read.revision);
    assert!(early.is_none(), "R1: a read at {} knows what had not begun: {early:?}", read.revision);
    let expected: Vec<_> = replayed(log, read.revision, read.prefix)
        .into_iter()
        .map(|(key, event)| (key, event.revision, event.value.clone().unwrap_or_default()))
        .collect();
    let found: Vec<_> =
        read.records.iter().map(|record| (record.key.as_str(), record.revision, record.value.clone())).collect();
    assert_eq!(found, expected, "R2: {:?} at {}", read.prefix, read.revision);
}

/// A watch tells what the log has, from where it began and of what it is about: filtered (W1), in order (W2), each once
/// (W3), whole (W4), without a hole (W5), also where it was resumed (W6), with progress that covers what came before (W7),
/// previous versions and deletions as they were (W8, W9), to everybody the same (W12). Where history is gone, it says so
/// (W11). Returns how many events it told.
fn check_watch(watch: &WatchSeen, log: &[Event]) -> usize {
    let mut expected = log.iter().filter(|it| it.revision > watch.after && it.key.starts_with(watch.prefix)).peekable();
    let mut told = 0;
    for notice in &watch.notices {
        match notice {
            Notice::Events(events) => {
                for event in events {
                    let next = expected.next();
                    assert_eq!(format!("{:?}", Some(event)), format!("{next:?}"), "after {}", watch.after);
                    told += 1;
                }
            }
            Notice::Progress(revision) => {
                let left = expected.peek();
                assert!(left.is_none_or(|event| event.revision > *revision), "W7: {revision} covers {left:?}");
            }
        }
    }
    match &watch.refused {
        None => {}
        Some(Error::Compacted { asked, oldest }) => assert!(asked < oldest, "W11"),
        Some(error) => panic!("{error}"),
    }
    told
}
