//! What a server says when it cannot start or go on: one line with the remedy, an exit code that is not 0, and nothing
//! lost. The server is the program itself, without a node, so none of this needs root but the full disk and the
//! missing kernel features.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so and ends")]

mod disk;
mod kernel;
mod server;

use std::fs;
use std::path::Path;

use expect_test::{Expect, expect};

use server::{Server, refused};

/// The program's last line, with the data directory as `D`.
fn check(data: &Path, more: &[&str], wanted: Expect) {
    let told = refused(data, more);
    wanted.assert_eq(&told.replace(data.to_str().unwrap(), "D"));
}

/// Whether this test can go on; where root is required it may not be missing.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
    let required = std::env::var("K3RS_TEST_REQUIRE").is_ok_and(|it| it.contains("root"));
    assert!(root || !required, "this test needs root, and K3RS_TEST_REQUIRE says it must run");
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

fn write(path: &Path, contents: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    linux::files::write_atomic(path, contents, 0o600).unwrap();
}

#[test]
fn what_belongs_to_k3s_is_left_to_it() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("etcd");
    fs::create_dir_all(data.join("server/db/etcd/member")).unwrap();
    check(
        &data,
        &[],
        expect![
            "k3rs: data directory D: it belongs to k3s, whose etcd is in server/db/etcd: k3rs cannot take it over; name another with --data-dir, or move it away"
        ],
    );

    let data = home.path().join("containerd");
    fs::create_dir_all(data.join("agent/containerd")).unwrap();
    check(
        &data,
        &[],
        expect![
            "k3rs: data directory D: it belongs to k3s, whose containerd is in agent/containerd: k3rs cannot take it over; name another with --data-dir, or move it away"
        ],
    );

    let data = home.path().join("kine");
    fs::create_dir_all(data.join("server/db")).unwrap();
    let database = rusqlite::Connection::open(data.join("server/db/state.db")).unwrap();
    database.execute("CREATE TABLE kine (id INTEGER PRIMARY KEY, name INTEGER)", []).unwrap();
    drop(database);
    let before = fs::read(data.join("server/db/state.db")).unwrap();
    check(
        &data,
        &[],
        expect![
            "k3rs: D/server/db/state.db belongs to k3s (its kine table is there): k3rs cannot take it over; choose another data directory, or move the file away"
        ],
    );
    assert_eq!(fs::read(data.join("server/db/state.db")).unwrap(), before);
}

#[test]
fn a_damaged_database_is_kept_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let database = home.path().join("server/db/state.db");
    Server::start(home.path(), &[]).stop();
    let mut contents = fs::read(&database).unwrap();
    contents[..100].fill(0x5a);
    write(&database, &contents);
    check(
        home.path(),
        &[],
        expect![
            "k3rs: datastore D/server/db/state.db is damaged (file is not a database): it was left as it is; restore a snapshot, or move it away to start empty"
        ],
    );
    assert!(fs::read(&database).unwrap() == contents);
}

#[test]
fn a_second_server_is_told_who_has_the_data() {
    let home = tempfile::tempdir().unwrap();
    let first = Server::start(home.path(), &[]);
    let told = refused(home.path(), &[]);
    assert!(told.contains(&format!("is in use by process {}: stop it first", first.process.pid)), "{told}");
    first.stop();
}

#[test]
fn a_clock_before_the_authoritys_time_is_said() {
    let home = tempfile::tempdir().unwrap();
    let tls = home.path().join("server/tls");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2100, 1, 1), rcgen::date_time_ymd(2110, 1, 1));
    write(&tls.join("server-ca.crt"), params.self_signed(&key).unwrap().pem().as_bytes());
    write(&tls.join("server-ca.key"), key.serialize_pem().as_bytes());
    let told = refused(home.path(), &[]).replace(home.path().to_str().unwrap(), "D");
    let (before, after) = told.split_once(", but").unwrap();
    assert!(before.starts_with("k3rs: the clock says 20"), "{told}");
    expect![" the authority of this cluster, D/server/tls/server-ca.crt, is valid from 2100-01-01T00:00:00Z to 2110-01-01T00:00:00Z: set the clock"].assert_eq(after);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("config.yaml");
    let data = home.path().join("data");
    let file = config.to_str().unwrap();
    let check = |text: &str, wanted: Expect| {
        write(&config, text.as_bytes());
        wanted.assert_eq(&refused(&data, &["--config", file]).replace(file, "CONFIG"));
        assert!(!data.exists(), "something was made");
        assert_eq!(fs::read_to_string(&config).unwrap(), text);
    };
    check(
        "tls-san: [",
        expect!["k3rs: CONFIG: error: line 1 column 10: unclosed bracket '[': write a map of flags to values"],
    );
    check("just words", expect!["k3rs: CONFIG: it is not a map: write a map of flags to values"]);
    check(
        "https-listen-port: many",
        expect![[r#"
        error: invalid value 'many' for '--https-listen-port <HTTPS_LISTEN_PORT>': invalid digit found in string

        For more information, try '--help'."#]],
    );
}

#[test]
fn a_token_of_another_cluster_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let token = format!("K10{}::server:secret", "0".repeat(64));
    let told = refused(home.path(), &["--token", &token]);
    assert!(told.contains("the token is for another cluster"), "{told}");
}

#[test]
fn a_port_in_use_is_named() {
    let home = tempfile::tempdir().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port().to_string();
    let told = refused(home.path(), &["--https-listen-port", &port]).replace(&port, "PORT");
    let me = format!("process {} (", std::process::id());
    let (before, holder) = told.split_once(&me).unwrap();
    expect!["k3rs: the API's port: 127.0.0.1:PORT is in use by "].assert_eq(before);
    let remedy = holder.split_once("): ").unwrap().1;
    expect!["stop that, or take another with --bind-address and --https-listen-port"].assert_eq(remedy);
}

#[test]
fn arguments_for_the_kubelet_that_mean_nothing_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    check(
        &data,
        &["--kubelet-arg", "feature-gates=A=true"],
        expect![
            "k3rs: --kubelet-arg feature-gates: there is no such setting here: known are eviction-hard and max-pods"
        ],
    );
    check(
        &data,
        &["--kubelet-arg=eviction-hard=nodefs.available<lots"],
        expect![
            "k3rs: --kubelet-arg eviction-hard: nodefs.available<lots: the amount is a quantity above 0, such as 100Mi, or a share from 0% to 100%"
        ],
    );
    assert!(!data.exists(), "something was made");
}
