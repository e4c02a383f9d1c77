//! The SQLite store answers as the reference does, whatever it is asked, and goes on doing so when it is reopened.

use futures::future::join_all;
use proptest::prelude::*;
use tokio::runtime;

use super::*;
use crate::memory::MemoryStore;

/// Keys whose prefixes are keys, too, and the last code point of all, which has no successor.
const KEYS: [&str; 8] = ["/a", "/a/1", "/a/2", "/a/\u{10FFFF}", "/b", "/b/1", "\u{10FFFF}", "\u{10FFFF}/1"];
const PREFIXES: [&str; 6] = ["", "/a", "/a/", "/a/\u{10FFFF}", "\u{10FFFF}", "/none"];

/// A revision, relative to what the store has when it is asked.
#[derive(Clone, Copy, Debug)]
enum When {
    Now,
    /// In thousandths of all revisions minted so far.
    Past(u64),
    Future,
}

#[derive(Clone, Debug)]
enum Step {
    /// Writes that are queued at once: key, what is expected, put or delete.
    Writes(Vec<(usize, Expectation, bool)>),
    Get(usize, When),
    Range {
        prefix: usize,
        start: Option<usize>,
        limit: usize,
        at: When,
    },
    Watch(usize, When),
    Compact(When),
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum Expectation {
    Anything,
    Absent,
    /// What the key holds when the writes are queued.
    Live,
    Some(When),
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![3 => Just(When::Now), 5 => (0..=1000u64).prop_map(When::Past), 1 => Just(When::Future)]
}

fn step() -> impl Strategy<Value = Step> {
    let expectation = prop_oneof![
        4 => Just(Expectation::Anything),
        2 => Just(Expectation::Absent),
        3 => Just(Expectation::Live),
        1 => when().prop_map(Expectation::Some),
    ];
    let write = (0..KEYS.len(), expectation, prop::bool::weighted(0.7));
    prop_oneof![
        8 => prop::collection::vec(write, 1..12).prop_map(Step::Writes),
        2 => (0..KEYS.len(), when()).prop_map(|(key, at)| Step::Get(key, at)),
        4 => (0..PREFIXES.len(), prop::option::of(0..KEYS.len()), 0..4usize, when())
            .prop_map(|(prefix, start, limit, at)| Step::Range { prefix, start, limit, at }),
        3 => (0..PREFIXES.len(), when()).prop_map(|(prefix, after)| Step::Watch(prefix, after)),
        1 => when().prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_answers_as_the_reference_does(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let fixture = Fixture::new();
            let mut pair = Pair::new(&fixture);
            for step in steps {
                pair.take(&step).await;
            }
            pair.finish_watches().await;
        });
    }
}

struct Pair<'f> {
    fixture: &'f Fixture,
    store: SqliteStore,
    reference: MemoryStore,
    /// Watches of the same thing on both.
    watches: Vec<(Watch, Watch)>,
}

impl<'f> Pair<'f> {
    fn new(fixture: &'f Fixture) -> Self {
        let store = Self::open(fixture);
        Self { fixture, store, reference: MemoryStore::new(), watches: Vec::new() }
    }

    fn open(fixture: &Fixture) -> SqliteStore {
        // A ring of few events, so that watches often read the database.
        fixture.open_with(&Failpoints::default(), 5)
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Writes(writes) => self.write(writes).await,
            Step::Get(key, at) => {
                let at = self.revision(*at);
                let (got, expected) = (self.store.get(KEYS[*key], at).await, self.reference.get(KEYS[*key], at).await);
                same(&got, &expected);
            }
            Step::Range { prefix, start, limit, at } => {
                let start = start.map(|key| KEYS[key].to_owned());
                let range = Range { prefix: PREFIXES[*prefix].to_owned(), start, limit: *limit };
                let at = self.revision(*at);
                same(&self.store.count(range.clone(), at).await, &self.reference.count(range.clone(), at).await);
                same(&self.store.range(range.clone(), at).await, &self.reference.range(range, at).await);
            }
            Step::Watch(prefix, after) => {
                let after = self.revision(*after).unwrap_or(self.reference.current());
                let watch = |backend: &dyn Backend| backend.watch(PREFIXES[*prefix], after);
                self.watches.push((watch(&self.store), watch(&self.reference)));
            }
            Step::Compact(before) => {
                let before = self.revision(*before).unwrap_or(self.reference.current());
                // An open watch that is behind may be cut off from here on, in the store: it is looked at before.
                self.finish_watches().await;
                same(&self.store.compact(before).await, &self.reference.compact(before).await);
            }
            Step::Reopen => {
                self.finish_watches().await;
                self.store.close().await.unwrap();
                self.store = Self::open(self.fixture);
            }
        }
        assert_eq!(self.store.current(), self.reference.current());
    }

    async fn write(&self, writes: &[(usize, Expectation, bool)]) {
        let mut batch = Vec::new();
        for (n, (key, expectation, put)) in writes.iter().enumerate() {
            let key = KEYS[*key];
            let expect = match expectation {
                Expectation::Anything => Expect::Anything,
                Expectation::Absent => Expect::Absent,
                Expectation::Live => {
                    let live = self.reference.get(key, None).await.unwrap();
                    live.map_or(Expect::Absent, |record| Expect::Revision(record.revision))
                }
                Expectation::Some(when) => Expect::Revision(self.revision(*when).unwrap_or(Revision::ZERO)),
            };
            let value = format!("{key} {n} after {}", self.reference.current());
            let change = if *put { Change::Put(value.into()) } else { Change::Delete };
            batch.push(Write { key: key.to_owned(), expect, change });
        }
        let got = join_all(batch.iter().map(|write| self.store.write(write.clone()))).await;
        for (got, write) in got.iter().zip(batch) {
            same(got, &self.reference.write(write).await);
        }
    }

    fn revision(&self, when: When) -> Option<Revision> {
        let current = self.reference.current().get();
        match when {
            When::Now => None,
            When::Past(thousandths) => Some(Revision(current * thousandths / 1000)),
            When::Future => Some(Revision(current + 1)),
        }
    }

    async fn finish_watches(&mut self) {
        let current = self.reference.current();
        for (mut got, mut expected) in std::mem::take(&mut self.watches) {
            same(&drain(&mut got, current).await, &drain(&mut expected, current).await);
        }
    }
}

/// What a watch delivers until it has reached `upto`.
async fn drain(watch: &mut Watch, upto: Revision) -> Result<Vec<Event>, Error> {
    let mut all: Vec<Event> = Vec::new();
    while let Some(notice) = watch.recv().await {
        let reached = match notice? {
            Notice::Events(events) => {
                all.extend(events);
                all.last().unwrap().revision
            }
            Notice::Progress(revision) => {
                assert!(all.last().is_none_or(|event| event.revision <= revision), "progress went back to {revision}");
                revision
            }
        };
        if reached >= upto {
            break;
        }
    }
    Ok(all)
}

/// Errors and events are compared as text: they hold everything that they say.
#[track_caller]
fn same<T: std::fmt::Debug>(got: &T, expected: &T) {
    assert_eq!(format!("{got:?}"), format!("{expected:?}"));
}
