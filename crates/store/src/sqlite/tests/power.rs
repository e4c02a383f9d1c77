//! A power cut leaves some part of the WAL on the disk. Whatever part that is, the store opens with the commits
//! that are whole in it, and goes on from there.

use std::fs;
use std::path::Path;

use super::*;
use crate::memory::MemoryStore;

/// A WAL is a header and then frames: a header and a page each.
const WAL_HEADER: usize = 32;
const FRAME: usize = 24 + 4096;

/// What the disk holds after the place where the writing stopped.
#[derive(Clone, Copy, Debug)]
enum Rest {
    Nothing,
    Zeros,
    /// What a disk that reorders may have written already.
    Later,
}

#[tokio::test]
async fn fault_9_every_part_of_the_wal_is_a_whole_store() {
    let fixture = Fixture::new();
    let (reference, database, wal) = scene(&fixture).await;
    let frames = (wal.len() - WAL_HEADER) / FRAME;
    assert!(frames > 100, "{frames} frames");
    let mut newest = Revision::ZERO;
    for frame in (0..frames).step_by(3) {
        for (within, rest) in [(0, Rest::Nothing), (FRAME / 2, Rest::Zeros), (0, Rest::Later)] {
            let cut = WAL_HEADER + frame * FRAME + within;
            let reached = check_cut(&database, &wal, cut, rest, &reference).await;
            assert!(reached >= newest, "{cut} {rest:?}: more of the WAL, and {reached} after {newest}");
            newest = reached;
        }
    }
    assert!(newest.get() > 50, "the cuts hardly reached any commit: {newest}");
}

/// A history, and the files as they are without a checkpoint: every commit is in the WAL.
async fn scene(fixture: &Fixture) -> (MemoryStore, Vec<u8>, Vec<u8>) {
    let reference = MemoryStore::new();
    let store = fixture.open();
    for n in 0..80u64 {
        let change = if n % 7 == 6 { Change::Delete } else { Change::Put(vec![b'x'; (n * 97 % 6000) as usize].into()) };
        let write = Write { key: format!("/{}", n % 11), expect: Expect::Anything, change };
        let (got, expected) = (store.write(write.clone()).await, reference.write(write).await);
        assert_eq!(got.is_ok(), expected.is_ok());
    }
    let wal = fs::read(fixture.directory.path().join("state.db-wal")).unwrap();
    let database = fs::read(fixture.path()).unwrap();
    (reference, database, wal)
}

/// Opens the store that a cut at this byte of the WAL leaves; returns where it stands.
async fn check_cut(database: &[u8], wal: &[u8], cut: usize, rest: Rest, reference: &MemoryStore) -> Revision {
    let fixture = Fixture::new();
    let mut left = wal[..cut].to_vec();
    match rest {
        Rest::Nothing => {}
        Rest::Zeros => left.resize(wal.len(), 0),
        Rest::Later => {
            // The frame that was being written is not there; those after it are.
            left.resize(cut + FRAME, 0);
            left.extend_from_slice(&wal[left.len()..]);
        }
    }
    lay(&fixture.path(), database);
    lay(&fixture.directory.path().join("state.db-wal"), &left);
    let store = fixture.open();
    let reached = store.current();
    let expected = reference.range(Range::default(), Some(reached)).await.unwrap();
    let found = store.range(Range::default(), None).await.unwrap();
    assert_eq!(found.records, expected.records, "{cut} {rest:?} at {reached}");
    assert_eq!(put(&store, "/next", "x").await.get(), reached.get() + 1);
    reached
}

fn lay(path: &Path, bytes: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "half a file is what this test is about")]
    fs::write(path, bytes).unwrap();
}
