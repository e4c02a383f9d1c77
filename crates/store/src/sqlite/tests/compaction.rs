//! Compaction forgets exactly what nobody can ask for any more, gives its space back, and survives interruptions.

use std::fs;

use rusqlite::Connection;

use super::*;

/// Rows of `versions`, seen by a stranger.
fn versions(fixture: &Fixture) -> u64 {
    let stranger = Connection::open(fixture.path()).unwrap();
    stranger.query_row("SELECT count(*) FROM versions", [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned()
}

/// Writes until `done`, which is given how often: each write lets the writer take another step.
async fn keep_writing(store: &SqliteStore, done: impl Fn(u64) -> bool) {
    for n in 1..5_000 {
        put(store, "/tick", "").await;
        if done(n) {
            return;
        }
    }
    panic!("the compaction does not come to an end");
}

#[tokio::test]
async fn superseded_versions_go_and_the_rest_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for n in 0..2_000 {
        put(&store, &format!("/{}", n % 10), &n.to_string()).await;
    }
    write(&store, "/0", Expect::Anything, None).await.unwrap();
    let before = put(&store, "/1", "last").await;
    put(&store, "/1", "later").await;
    store.compact(before).await.unwrap();
    assert!(matches!(store.get("/1", Some(Revision(before.get() - 1))).await, Err(Error::Compacted { .. })));
    // Nine keys, the later version of one, and the ticks: no more, and no less.
    keep_writing(&store, |ticks| versions(&fixture) <= 9 + 1 + ticks).await;
    let then = store.range(Range::default(), Some(before)).await.unwrap();
    assert_eq!(then.records.len(), 9);
    assert_eq!(store.get("/1", Some(before)).await.unwrap().unwrap().value.as_ref(), b"last");
    assert_eq!(value(&store, "/1").await.unwrap(), "later");
}

#[tokio::test]
async fn the_file_shrinks() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for _ in 0..1_000 {
        put(&store, "/a", &"x".repeat(10_000)).await;
    }
    store.compact(store.current()).await.unwrap();
    let free_pages = || {
        let stranger = Connection::open(fixture.path()).unwrap();
        stranger.query_row("PRAGMA freelist_count", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    keep_writing(&store, |ticks| versions(&fixture) <= 1 + ticks && free_pages() < 1_000).await;
    store.close().await.unwrap();
    let size = fs::metadata(fixture.path()).unwrap().len();
    assert!(size < 4 << 20, "{size} bytes for one key");
}

#[tokio::test]
async fn an_interrupted_sweep_is_taken_up_again() {
    let fixture = Fixture::new();
    let failpoints = Failpoints::default();
    let store = fixture.open_with(&failpoints, 10);
    for n in 0..600 {
        put(&store, "/a", &n.to_string()).await;
    }
    failpoints.arm(Point::Compaction, Action::Fail { code: ffi::SQLITE_BUSY });
    store.compact(store.current()).await.unwrap();
    put(&store, "/b", "writes go on").await;
    assert!(versions(&fixture) >= 600);
    failpoints.disarm();
    keep_writing(&store, |_| versions(&fixture) < 600).await;
}

#[tokio::test]
async fn a_sweep_is_taken_up_by_the_next_process() {
    let fixture = Fixture::new();
    let failpoints = Failpoints::default();
    let store = fixture.open_with(&failpoints, 10);
    for n in 0..600 {
        put(&store, "/a", &n.to_string()).await;
    }
    failpoints.arm(Point::Compaction, Action::Fail { code: ffi::SQLITE_BUSY });
    store.compact(store.current()).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    assert_eq!(versions(&fixture), 600);
    let store = fixture.open();
    keep_writing(&store, |_| versions(&fixture) < 600).await;
}

#[tokio::test]
async fn a_watch_that_is_overtaken_is_told() {
    let fixture = Fixture::new();
    let store = fixture.open_with(&Failpoints::default(), 10);
    put(&store, "/a", "1").await;
    let mut late = store.watch("", Revision::ZERO);
    let mut future = store.watch("", Revision(1_000));
    assert!(matches!(future.recv().await, Some(Err(Error::Future { .. }))));
    assert!(future.recv().await.is_none());
    // More than its channel, the ring and a stretch hold; nobody reads the watch meanwhile.
    for n in 0..3_000 {
        put(&store, "/a", &n.to_string()).await;
    }
    store.compact(store.current()).await.unwrap();
    let mut last = 0;
    loop {
        match late.recv().await.unwrap() {
            Ok(Notice::Events(events)) => {
                for event in events {
                    assert_eq!(event.revision.get(), last + 1, "a hole");
                    last += 1;
                }
            }
            Ok(Notice::Progress(_)) => {}
            Err(Error::Compacted { oldest, .. }) => {
                assert!(last < oldest.get());
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    let mut start = store.watch("", Revision(5));
    assert!(matches!(start.recv().await, Some(Err(Error::Compacted { .. }))));
}

/// Reads at a revision walk along the index and stop at their limit.
#[tokio::test]
async fn old_reads_need_no_sorting() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, "/a", "1").await;
    let stranger = Connection::open(fixture.path()).unwrap();
    for sql in [reads::LIVE, reads::AT] {
        let mut plan = stranger.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let bind = [1, 2, 3].map(|n| n.to_string());
        let steps = plan
            .query_map(rusqlite::params_from_iter(&bind[..plan.parameter_count()]), |row| row.get::<_, String>(3))
            .unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(steps.iter().all(|step| !step.contains("TEMP B-TREE") && !step.contains("MATERIALIZE")), "{steps:#?}");
    }
}
