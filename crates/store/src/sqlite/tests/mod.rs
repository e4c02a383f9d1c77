//! The SQLite store as its callers see it, and what becomes of it when things go wrong.

mod compaction;
mod concurrency;
mod crash;
mod disk;
mod history;
mod model;
mod opening;
mod power;

use std::path::PathBuf;

use rusqlite::ffi;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::failpoint::{Action, Point};
use crate::{Change, Event, Expect};

struct Fixture {
    directory: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("state.db")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path()).unwrap()
    }

    fn open_with(&self, failpoints: &Failpoints, ring: usize) -> SqliteStore {
        let ring = Bounds { events: ring, ..Bounds::default() };
        SqliteStore::open_with(&self.path(), Options { ring, failpoints: failpoints.clone() }).unwrap()
    }
}

async fn put(store: &SqliteStore, key: &str, value: &str) -> Revision {
    write(store, key, Expect::Anything, Some(value)).await.unwrap().revision
}

async fn write(store: &SqliteStore, key: &str, expect: Expect, value: Option<&str>) -> Result<Written, Error> {
    let change = value.map_or(Change::Delete, |value| Change::Put(value.to_owned().into()));
    store.write(Write { key: key.to_owned(), expect, change }).await
}

async fn value(store: &SqliteStore, key: &str) -> Option<String> {
    let record = store.get(key, None).await.unwrap()?;
    Some(String::from_utf8(record.value.to_vec()).unwrap())
}

type Watch = mpsc::Receiver<Result<Notice, Error>>;

/// The events up to a notice of progress at `upto` or later.
async fn events_upto(watch: &mut Watch, upto: Revision) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        match watch.recv().await.unwrap().unwrap() {
            Notice::Events(events) => all.extend(events),
            Notice::Progress(revision) => assert!(all.last().is_none_or(|event: &Event| event.revision <= revision)),
        }
        let last = all.last().map_or(Revision::ZERO, |event| event.revision);
        if last >= upto {
            return all;
        }
    }
}

#[tokio::test]
async fn writes_are_read_back_now_and_then() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let first = put(&store, "/a", "1").await;
    let second = put(&store, "/a", "2").await;
    assert_eq!((first.get(), second.get()), (1, 2));
    let record = store.get("/a", Some(first)).await.unwrap().unwrap();
    assert_eq!((record.value.as_ref(), record.created), (&b"1"[..], first));
    let record = store.get("/a", None).await.unwrap().unwrap();
    assert_eq!((record.value.as_ref(), record.revision, record.created), (&b"2"[..], second, first));
    write(&store, "/a", Expect::Revision(second), None).await.unwrap();
    assert_eq!(value(&store, "/a").await, None);
    assert_eq!(store.range(Range::default(), Some(second)).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn a_watch_sees_the_past_then_the_present_then_progress() {
    let fixture = Fixture::new();
    let failpoints = Failpoints::default();
    // The ring holds two events: the first ones come from the database.
    let store = fixture.open_with(&failpoints, 2);
    for n in 0..10 {
        put(&store, &format!("/a/{n}"), "x").await;
    }
    let mut watch = store.watch("/a/", Revision(3));
    let revisions: Vec<u64> = events_upto(&mut watch, Revision(10)).await.iter().map(|e| e.revision.get()).collect();
    assert_eq!(revisions, (4..=10).collect::<Vec<_>>());
    assert!(matches!(watch.recv().await, Some(Ok(Notice::Progress(Revision(10))))));
    let other = put(&store, "/b", "x").await;
    let Some(Ok(Notice::Progress(progress))) = watch.recv().await else { panic!("no progress") };
    assert_eq!(progress, other);
}

#[tokio::test]
async fn a_reopened_store_goes_on() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, "/a", "1").await;
    let last = write(&store, "/a", Expect::Anything, None).await.unwrap().revision;
    store.compact(last).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(write(&store, "/a", Expect::Anything, Some("2")).await, Err(Error::Closed)));
    let store = fixture.open();
    assert_eq!(store.current(), last);
    assert_eq!(put(&store, "/a", "2").await.get(), last.get() + 1);
}

#[tokio::test]
async fn fault_12_a_full_disk_takes_deletions_and_heals() {
    let fixture = Fixture::new();
    let failpoints = Failpoints::default();
    let store = fixture.open_with(&failpoints, 10);
    put(&store, "/a", "1").await;
    let last = put(&store, "/b", "1").await;
    failpoints.arm(Point::BeforeCommit, Action::Fail { code: ffi::SQLITE_FULL });
    let refused = write(&store, "/a", Expect::Anything, Some("2")).await;
    assert!(matches!(refused, Err(Error::Unavailable(reason)) if reason.contains("no space left")));
    assert!(!open::beside(&fixture.path(), "reserve").exists());
    failpoints.disarm();

    // A directory in its place: the reserve cannot be taken back, as if the disk were still full.
    std::fs::create_dir(open::beside(&fixture.path(), "reserve")).unwrap();
    assert!(matches!(write(&store, "/a", Expect::Anything, Some("2")).await, Err(Error::Unavailable(_))));
    assert_eq!(value(&store, "/a").await.unwrap(), "1");
    let deleted = write(&store, "/b", Expect::Anything, None).await.unwrap().revision;
    assert_eq!(deleted.get(), last.get() + 1, "a refused write burns no revision");

    std::fs::remove_dir(open::beside(&fixture.path(), "reserve")).unwrap();
    assert_eq!(put(&store, "/a", "2").await.get(), deleted.get() + 1);
    assert!(open::beside(&fixture.path(), "reserve").exists());
}

/// Whoever waits for the disk waits alone: what is committed can be read meanwhile.
#[tokio::test]
async fn fault_17_reads_go_on_while_a_commit_hangs() {
    let fixture = Fixture::new();
    let failpoints = Failpoints::default();
    let store = Arc::new(fixture.open_with(&failpoints, 10));
    let last = put(&store, "/a", "1").await;
    let meeting = Arc::new(std::sync::Barrier::new(2));
    failpoints.arm(Point::BeforeCommit, Action::Meet(meeting.clone()));
    let writer = Arc::clone(&store);
    let mut hanging = tokio::task::JoinSet::new();
    hanging.spawn(async move { put(&writer, "/a", "2").await });
    let arrived = meeting.clone();
    tokio::task::spawn_blocking(move || arrived.wait()).await.unwrap();
    failpoints.disarm();
    for _ in 0..100 {
        assert_eq!((value(&store, "/a").await.unwrap().as_str(), store.current()), ("1", last));
    }
    let mut watch = store.watch("", Revision::ZERO);
    assert_eq!(events_upto(&mut watch, last).await.len(), 1);
    tokio::task::spawn_blocking(move || meeting.wait()).await.unwrap();
    let written = hanging.join_next().await.unwrap().unwrap();
    assert_eq!((written.get(), value(&store, "/a").await.unwrap().as_str()), (last.get() + 1, "2"));
}

#[tokio::test]
async fn fault_14_a_failed_fsync_stops_writes_but_not_reads() {
    let fixture = Fixture::new();
    let failpoints = Failpoints::default();
    let store = fixture.open_with(&failpoints, 10);
    let last = put(&store, "/a", "1").await;
    failpoints.arm(Point::BeforeCommit, Action::Fail { code: ffi::SQLITE_IOERR_FSYNC });
    assert!(matches!(write(&store, "/a", Expect::Anything, Some("2")).await, Err(Error::Unavailable(_))));
    failpoints.disarm();
    let Err(Error::Unavailable(reason)) = write(&store, "/a", Expect::Anything, Some("2")).await else { panic!() };
    assert!(reason.contains("state.db"), "{reason}");
    assert_eq!((value(&store, "/a").await.unwrap().as_str(), store.current()), ("1", last));
    assert!(store.close().await.is_err());
    drop(store);
    let store = fixture.open();
    assert_eq!(put(&store, "/a", "2").await.get(), last.get() + 1);
}
