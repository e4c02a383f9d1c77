//! Which files are opened, and what is said of the others.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use rusqlite::Connection;

use super::schema::Meta;
use super::*;

impl Fixture {
    /// The line that opening ends with.
    fn refusal(&self) -> String {
        match SqliteStore::open(self.path()) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error.to_string(),
        }
    }
}

#[track_caller]
fn check_refused(make: &str, expected: &str) {
    let fixture = Fixture::new();
    let stranger = Connection::open(fixture.path()).unwrap();
    stranger.execute_batch(make).unwrap();
    drop(stranger);
    let before = fs::read(fixture.path()).unwrap();
    let refusal = fixture.refusal();
    assert!(refusal.contains(expected), "{refusal}");
    assert!(refusal.contains("state.db"), "{refusal}");
    assert_eq!(fs::read(fixture.path()).unwrap(), before, "the file was changed");
}

#[test]
fn foreign_databases_are_refused() {
    check_refused("CREATE TABLE kine (id INTEGER PRIMARY KEY)", "belongs to k3s");
    check_refused("PRAGMA journal_mode = WAL; CREATE TABLE kine (id INTEGER PRIMARY KEY)", "belongs to k3s");
    check_refused("CREATE TABLE accounts (id INTEGER)", "belongs to another program");
    check_refused("PRAGMA application_id = 7; CREATE TABLE t (id INTEGER)", "belongs to another program");
}

/// What a process leaves that dies while it makes the file.
#[test]
fn a_file_without_tables_is_made_complete() {
    let fixture = Fixture::new();
    let begun = Connection::open(fixture.path()).unwrap();
    open::configure(&begun).unwrap();
    drop(begun);
    assert!(fs::metadata(fixture.path()).unwrap().len() > 0);
    fixture.open();
}

#[test]
fn a_newer_format_is_refused() {
    let newer = format!("PRAGMA application_id = {}; PRAGMA user_version = 99;", schema::APPLICATION_ID);
    check_refused(&format!("{newer} CREATE TABLE t (id)"), "has format 99");
}

#[test]
fn what_is_no_database_is_refused() {
    let fixture = Fixture::new();
    let text = "not a database ".repeat(1000);
    fs::File::create(fixture.path()).unwrap().write_all_at(text.as_bytes(), 0).unwrap();
    assert!(fixture.refusal().contains("is damaged"));
    assert_eq!(fs::read_to_string(fixture.path()).unwrap(), text);
}

#[tokio::test]
async fn a_second_owner_is_refused_by_pid() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let refusal = fixture.refusal();
    assert!(refusal.contains(&format!("in use by process {}", std::process::id())), "{refusal}");
    store.close().await.unwrap();
    fixture.open();
}

#[tokio::test]
async fn files_are_private() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, "/a", "1").await;
    for file in fs::read_dir(fixture.directory.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn fault_15_damage_is_found_after_an_unclean_stop_and_the_file_is_kept() {
    let fixture = Fixture::new();
    let store = fixture.open();
    for n in 0..200 {
        put(&store, &format!("/{n}"), &"x".repeat(1000)).await;
    }
    store.close().await.unwrap();
    drop(store);
    let marked = Connection::open(fixture.path()).unwrap();
    Meta::Clean.set(&marked, 0).unwrap();
    drop(marked);
    overwrite_page(&fixture.path(), 20);
    let before = fs::read(fixture.path()).unwrap();
    assert!(fixture.refusal().contains("is damaged"), "{}", fixture.refusal());
    assert_eq!(fs::read(fixture.path()).unwrap(), before);
}

#[tokio::test]
async fn fault_15_a_flipped_bit_in_a_value_is_named() {
    let fixture = Fixture::new();
    let store = fixture.open();
    put(&store, "/a", &"needle".repeat(100)).await;
    put(&store, "/b", "1").await;
    store.close().await.unwrap();
    drop(store);
    let file = fs::read(fixture.path()).unwrap();
    let at = file.windows(12).position(|window| window == b"needleneedle").unwrap();
    let database = fs::OpenOptions::new().write(true).open(fixture.path()).unwrap();
    database.write_all_at(b"N", at as u64).unwrap();
    let store = fixture.open();
    let Err(Error::Corrupt(what)) = store.get("/a", None).await else { panic!("damage was served") };
    assert_eq!(what, "revision 1 of /a does not match its checksum");
    assert_eq!(value(&store, "/b").await.unwrap(), "1");
}

fn overwrite_page(path: &std::path::Path, page: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[0x5A; 4096], page * 4096).unwrap();
}

#[tokio::test]
async fn fault_16_a_file_replaced_under_the_store_stops_writes() {
    let replacements: [fn(&std::path::Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::copy(path, path.with_extension("old")).unwrap();
            fs::rename(path.with_extension("old"), path).unwrap();
        },
        |path| fs::File::options().append(true).open(path).unwrap().set_len(1 << 20).unwrap(),
    ];
    for replace in replacements {
        let fixture = Fixture::new();
        let store = fixture.open();
        put(&store, "/a", "1").await;
        replace(&fixture.path());
        let Err(Error::Unavailable(reason)) = write(&store, "/a", Expect::Anything, Some("2")).await else {
            panic!("it went on writing")
        };
        assert!(reason.contains("restart on the file you mean"), "{reason}");
    }
}
