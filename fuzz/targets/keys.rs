//! The datastore's keys: whatever they hold, SQLite finds, orders and pages them as the reference does.

#![no_main]

use std::cell::OnceCell;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use store::memory::MemoryStore;
use store::sqlite::SqliteStore;
use store::{Backend, Change, Expect, Range, Write};
use tokio::runtime::{Builder, Runtime};

#[derive(Arbitrary, Debug)]
struct Input {
    keys: Vec<String>,
    prefix: String,
    start: Option<String>,
    limit: u8,
}

/// One store for all inputs: each leaves it empty.
struct Store {
    runtime: Runtime,
    sqlite: SqliteStore,
    _directory: tempfile::TempDir,
}

thread_local! {
    static STORE: OnceCell<Store> = const { OnceCell::new() };
}

fn open() -> Store {
    let runtime = Builder::new_current_thread().build().expect("a runtime can be made");
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder can be made");
    let sqlite = {
        let _inside = runtime.enter();
        SqliteStore::open(directory.path().join("state.db")).expect("a new datastore opens")
    };
    Store { runtime, sqlite, _directory: directory }
}

fuzz_target!(|input: Input| {
    STORE.with(|store| {
        let store = store.get_or_init(open);
        store.runtime.block_on(check(&store.sqlite, &input));
    });
});

async fn check(sqlite: &SqliteStore, input: &Input) {
    let reference = MemoryStore::new();
    let mut keys: Vec<&str> = input.keys.iter().map(String::as_str).take(8).collect();
    for key in &keys {
        let write = write(key, Change::Put(key.as_bytes().to_vec().into()));
        let (real, expected) = (sqlite.write(write.clone()).await, reference.write(write).await);
        assert_eq!(real.is_ok(), expected.is_ok());
    }
    let range = Range { prefix: input.prefix.clone(), start: input.start.clone(), limit: usize::from(input.limit) };
    let before = sqlite.current();
    compare(sqlite, &reference, &range).await;
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let value = sqlite.get(key, None).await.expect("reads do not fail").expect("it was just written").value;
        assert_eq!(value.as_ref(), key.as_bytes());
        sqlite.write(write(key, Change::Delete)).await.expect("what is there can be deleted");
    }
    // What was there is still found where it was.
    let then = sqlite.range(range.clone(), Some(before)).await.expect("nothing was compacted");
    let expected = reference.range(range, None).await.expect("the reference reads");
    assert_eq!(names(&then.records), names(&expected.records));
    if before.get() % 64 == 0 {
        sqlite.compact(sqlite.current()).await.expect("nothing is in the way");
    }
}

async fn compare(sqlite: &SqliteStore, reference: &MemoryStore, range: &Range) {
    let real = sqlite.range(range.clone(), None).await.expect("reads do not fail");
    let expected = reference.range(range.clone(), None).await.expect("the reference reads");
    assert_eq!((names(&real.records), real.more), (names(&expected.records), expected.more), "{range:?}");
}

fn names(records: &[store::Record]) -> Vec<&str> {
    records.iter().map(|record| record.key.as_str()).collect()
}

fn write(key: &str, change: Change) -> Write {
    Write { key: key.to_owned(), expect: Expect::Anything, change }
}
