//! A process that dies at each failpoint loses nothing that it acknowledged, and mints no revision twice.
//!
//! The test runs its own binary again as the victim, which writes and reports each acknowledgement until it
//! dies. The same file then serves the next victim, and so on, and is compared with all reports in the end.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

const VICTIM: &str = "sqlite::tests::crash::victim";
const DATABASE: &str = "STORE_CRASH_DATABASE";
const POINT: &str = "STORE_CRASH_POINT";
const NTH: &str = "STORE_CRASH_NTH";

const WRITERS: u64 = 8;

const POINTS: [Point; 6] =
    [Point::Begin, Point::AfterWrite, Point::BeforeCommit, Point::BeforeAck, Point::Compaction, Point::Checkpoint];

#[test]
fn fault_2_a_dying_process_loses_nothing_acknowledged() {
    let fixture = Fixture::new();
    let mut acknowledged = BTreeMap::new();
    for (round, nth) in [1, 2, 7, 23].into_iter().enumerate() {
        for (index, point) in POINTS.into_iter().enumerate() {
            // Checkpoints are rare: each victim meets one, not 23.
            let nth = if point == Point::Checkpoint { 1 } else { nth };
            for (revision, key) in run_victim(&fixture.path(), index, nth) {
                let previous = acknowledged.insert(revision, key.clone());
                assert_eq!(previous, None, "round {round}: revision {revision} was minted again for {key}");
            }
        }
    }
    assert!(acknowledged.len() > 100, "the victims hardly wrote: {}", acknowledged.len());
    verify(&fixture, &acknowledged);
}

#[tokio::main(flavor = "current_thread")]
async fn verify(fixture: &Fixture, acknowledged: &BTreeMap<u64, String>) {
    let store = fixture.open();
    let newest = *acknowledged.keys().last().unwrap();
    assert!(store.current().get() >= newest);
    let page = store.range(Range::default(), None).await.unwrap();
    let live: BTreeMap<&str, &Record> = page.records.iter().map(|record| (record.key.as_str(), record)).collect();
    for (revision, key) in acknowledged {
        let record = live[key.as_str()];
        assert!(record.revision.get() >= *revision, "{key} of {revision} went back to {}", record.revision);
        assert!(record.value.starts_with(key.as_bytes()));
    }
    check_history(&store, acknowledged).await;
    assert!(put(&store, "/next", "x").await.get() > newest);
}

/// What is left of the history is whole, and holds what was acknowledged as it was written.
async fn check_history(store: &SqliteStore, acknowledged: &BTreeMap<u64, String>) {
    let Some(Err(Error::Compacted { oldest, .. })) = store.watch("", Revision::ZERO).recv().await else {
        panic!("the victims compacted nothing")
    };
    let mut watch = store.watch("", oldest);
    let history = events_upto(&mut watch, store.current()).await;
    let mut latest: BTreeMap<&str, Revision> = BTreeMap::new();
    for (at, event) in history.iter().enumerate() {
        assert_eq!(event.revision.get(), oldest.get() + at as u64 + 1, "R6, W5: a revision is missing or came twice");
        let before = latest.insert(&event.key, event.revision);
        assert!(before.is_none() || event.previous == before, "W8: {} replaced {before:?}: {event:?}", event.revision);
        if let Some(key) = acknowledged.get(&event.revision.get()) {
            assert_eq!(&event.key, key, "revision {} was acknowledged for another key", event.revision);
        }
    }
}

/// Runs a victim to its end; returns what it acknowledged.
fn run_victim(database: &Path, point: usize, nth: u32) -> Vec<(u64, String)> {
    #[expect(clippy::disallowed_methods, reason = "only a process of its own can die")]
    let victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", VICTIM, "--nocapture", "--test-threads=1"])
        .envs([(DATABASE, database.as_os_str()), (POINT, point.to_string().as_ref()), (NTH, nth.to_string().as_ref())])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(victim.status.code(), None, "the victim outlived {:?}: {:?}", POINTS[point], victim.status);
    let report = String::from_utf8(victim.stdout).unwrap();
    let acknowledgement = |line: &str| {
        let (revision, key) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
        Some((revision.parse().unwrap(), key.to_owned()))
    };
    report.lines().filter_map(acknowledgement).collect()
}

/// Not a test of its own: does nothing unless [`run_victim`] has set the scene.
#[tokio::test]
async fn victim() {
    #[expect(clippy::disallowed_methods, reason = "the test harness takes no arguments for a test")]
    let scene = |name| std::env::var(name).ok();
    let Some(database) = scene(DATABASE) else { return };
    let point = POINTS[scene(POINT).unwrap().parse::<usize>().unwrap()];
    let failpoints = Failpoints::default();
    let options = Options { ring: Bounds::default(), failpoints: failpoints.clone() };
    let store = Arc::new(SqliteStore::open_with(Path::new(&database), options).unwrap());
    failpoints.arm(point, Action::Die { nth: scene(NTH).unwrap().parse().unwrap() });
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_until_death(Arc::clone(&store), writer));
    }
    writers.join_all().await;
}

async fn write_until_death(store: Arc<SqliteStore>, writer: u64) {
    // Enough for a checkpoint even if every commit has one member.
    for n in 0..4_000 {
        let key = format!("/{writer}/{}", n % 20);
        let value = format!("{key} {}", "x".repeat(2_000));
        let revision = put(&store, &key, &value).await;
        writeln!(std::io::stdout().lock(), "\nacknowledged {revision} {key}").unwrap();
        if n % 10 == 9 {
            store.compact(revision).await.unwrap();
        }
    }
}
