//! A disk that is really full: a small tmpfs. Needs root.

use std::fs::{self, File};
use std::io;
use std::io::Read as _;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

/// A fixture on a file system of its own.
struct SmallDisk(Fixture);

impl SmallDisk {
    /// `None`, said aloud, where mounting is not allowed; that is a failure where root is required.
    fn mount() -> Option<Self> {
        let fixture = Fixture::new();
        match mount("tmpfs", fixture.directory.path(), "tmpfs", MountFlags::empty(), Some(c"size=32m")) {
            Ok(()) => Some(Self(fixture)),
            Err(error) => {
                #[expect(clippy::disallowed_methods, reason = "how the tests are told what must not be skipped")]
                let required = std::env::var("K3RS_TEST_REQUIRE").unwrap_or_default();
                assert!(!required.contains("root"), "cannot mount a tmpfs: {error}");
                eprintln!("SKIPPED: cannot mount a tmpfs ({error}): needs root");
                None
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.0.directory.path().join("ballast")
    }

    /// Takes all the space that is left.
    fn fill(&self) {
        let mut file = File::create(self.ballast()).unwrap();
        let error = io::copy(&mut io::repeat(1).take(1 << 30), &mut file).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    fn free(&self) {
        // Emptied first: a child of another test's may have it open until its exec.
        File::create(self.ballast()).unwrap();
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached: a store that a failed test has left open keeps its files until it is dropped.
        unmount(self.0.directory.path(), UnmountFlags::DETACH).unwrap();
    }
}

/// Writes until the disk takes no more; returns the last write that it took.
async fn write_until_full(store: &SqliteStore) -> Revision {
    let mut last = store.current();
    for n in 0..2_000 {
        let value = "x".repeat(5_000);
        match write(store, &format!("/{}", n % 100), Expect::Anything, Some(&value)).await {
            Ok(written) => last = written.revision,
            Err(Error::Unavailable(reason)) => {
                assert!(reason.contains("no space left"), "{reason}");
                return last;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk takes everything");
}

#[tokio::test]
async fn fault_12_writes_stop_and_heal_and_lose_nothing() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = disk.0.open();
    put(&store, "/kept", "1").await;
    disk.fill();
    let last = write_until_full(&store).await;
    assert_eq!(store.current(), last);
    assert_eq!(value(&store, "/kept").await.unwrap(), "1");
    let mut watch = store.watch("/kept", last);
    let deleted = write(&store, "/kept", Expect::Anything, None).await.unwrap().revision;
    assert_eq!(events_upto(&mut watch, deleted).await.len(), 1);
    assert_eq!(deleted.get(), last.get() + 1);
    store.compact(deleted).await.unwrap();
    disk.free();
    assert_eq!(put(&store, "/kept", "2").await.get(), deleted.get() + 1);
    store.close().await.unwrap();
}

#[tokio::test]
async fn fault_12_a_store_on_a_full_disk_opens_for_reads_and_deletions() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = disk.0.open();
    put(&store, "/kept", "1").await;
    store.close().await.unwrap();
    drop(store);
    disk.fill();
    let store = disk.0.open();
    assert_eq!(value(&store, "/kept").await.unwrap(), "1");
    assert!(matches!(write(&store, "/kept", Expect::Anything, Some("2")).await, Err(Error::Unavailable(_))));
    let deleted = write(&store, "/kept", Expect::Anything, None).await.unwrap().revision;
    disk.free();
    assert!(put(&store, "/kept", "2").await > deleted);
    assert!(open::beside(&disk.0.path(), "reserve").exists());
}

#[tokio::test]
async fn fault_12_the_reserve_frees_its_space_though_it_is_still_open_elsewhere() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = disk.0.open();
    put(&store, "/kept", "1").await;
    let _held = File::open(open::beside(&disk.0.path(), "reserve")).unwrap();
    disk.fill();
    write_until_full(&store).await;
    write(&store, "/kept", Expect::Anything, None).await.unwrap();
}

/// The WAL has grown before the disk is full: commits go on finding space in it, and it is a checkpoint that finds none
/// for the database.
#[tokio::test]
async fn fault_12_a_checkpoint_without_space_stops_nothing_for_good() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = disk.0.open();
    let mut keys = 0..;
    let mut fill_wal = async |store: &SqliteStore| {
        for key in keys.by_ref().take(600) {
            let value = "x".repeat(3_000);
            write(store, &format!("/{key}"), Expect::Absent, Some(&value)).await?;
        }
        Ok::<_, Error>(())
    };
    fill_wal(&store).await.unwrap();
    for _ in 0..2 {
        disk.fill();
        let refused = fill_wal(&store).await.unwrap_err();
        assert!(matches!(&refused, Error::Unavailable(why) if why.contains("no space left")), "{refused}");
        disk.free();
        put(&store, "/after", "1").await;
    }
    store.close().await.unwrap();
}
