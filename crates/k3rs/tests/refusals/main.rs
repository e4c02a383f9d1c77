//! What a server says when it cannot start or go on: one line with the remedy, an exit code that is not 0, and nothing
//! lost. The server is the program itself, without a node, so none of this needs root but the full disk and the
//! missing kernel features.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so and ends")]

mod certificates;
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

/// Row 15: pages damaged within the file. After a crash the whole file is looked at; after a clean stop damage is met when
/// it is read, which at the latest is when the caches fill.
#[test]
fn fault_15_pages_damaged_inside() {
    for crash in [true, false] {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join("server/db/state.db");
        let server = Server::start(home.path(), &[]);
        if crash {
            // The stop before it has moved everything into the file.
            server.stop();
            let server = Server::start(home.path(), &[]);
            server.process.signal(9).unwrap();
            server.process.wait().unwrap();
        } else {
            server.stop();
        }
        let mut contents = fs::read(&database).unwrap();
        let pages = contents.len() / 4096;
        assert!(pages > 20, "{pages} pages");
        let damaged = (4..pages).step_by(5);
        for page in damaged.clone() {
            contents[page * 4096..][..4096].fill(0x5a);
        }
        write(&database, &contents);
        let told = refused(home.path(), &[]);
        assert_eq!(told.lines().count(), 1, "{told}");
        let expected = format!("k3rs: datastore {} is damaged (", database.display());
        assert!(told.starts_with(&expected) && told.contains("restore a snapshot"), "{told}");
        let left = fs::read(&database).unwrap();
        // A file that was opened says so in one of its pages, no more.
        assert!(!crash || left == contents, "the file was changed");
        for page in damaged {
            assert!(left[page * 4096..][..4096] == contents[page * 4096..][..4096], "page {page} was changed");
        }
    }
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
        expect!["k3rs: CONFIG: line 1: did not find expected node content: write a map of flags to values"],
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
        expect!["k3rs: --kubelet-arg feature-gates: 1.36 has no feature gate A"],
    );
    check(
        &data,
        &["--kubelet-arg", "max-pod=5"],
        expect!["k3rs: --kubelet-arg max-pod: there is no such setting of the kubelet: did you mean max-pods?"],
    );
    check(
        &data,
        &["--kubelet-arg=eviction-hard=nodefs.available<lots"],
        expect![
            "k3rs: --kubelet-arg eviction-hard: nodefs.available: lots: the amount is a quantity above 0, such as 100Mi, or a share from 0% to 100%"
        ],
    );
    assert!(!data.exists(), "something was made");
}

/// Row 1: killed at any moment under writes, it is back at once with all that was acknowledged; revisions go on, and
/// whoever watched goes on where it was.
#[tokio::test]
async fn fault_1_killed_under_writes() {
    use futures::StreamExt as _;
    use kube::api::{Api, Patch, PatchParams, WatchEvent, WatchParams};
    type Maps = Api<k8s_openapi::api::core::v1::ConfigMap>;

    let home = tempfile::tempdir().unwrap();
    let (mut newest, mut written) = (0, 0);
    for round in 0..8u32 {
        let server = Server::start(home.path(), &[]);
        let maps: Maps = Api::default_namespaced(server.client().await);
        if round > 0 {
            let found = maps.get("m").await.unwrap();
            let counted: u64 = found.data.as_ref().unwrap()["n"].parse().unwrap();
            assert!(counted >= written, "{counted} is left of {written} acknowledged");
            // To count the same again would change nothing, and mint no revision.
            written = counted;
            // What was seen last is where a watch goes on, without a list. Of this object alone: a server that was
            // killed early publishes its authority's certificate into the namespace only now. The kill may have come
            // between a commit and its acknowledgement, so there may be one more than was seen.
            let only = WatchParams::default().fields("metadata.name=m");
            let mut watch = maps.watch(&only, &newest.to_string()).await.unwrap().boxed();
            let apply = Patch::Apply(
                serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": {"round": round.to_string()}}}),
            );
            maps.patch("m", &PatchParams::apply("round"), &apply).await.unwrap();
            let mut last = newest;
            loop {
                let map = match watch.next().await {
                    Some(Ok(WatchEvent::Modified(map))) => map,
                    other => panic!("the watch cannot go on after {last}: {other:?}"),
                };
                let revision: u64 = map.metadata.resource_version.unwrap().parse().unwrap();
                assert!(revision > last, "{revision} came after {last}");
                last = revision;
                if map.metadata.labels.is_some_and(|labels| labels["round"] == round.to_string()) {
                    break;
                }
            }
            newest = last;
        }
        // One writer counts; the kill comes in the midst of it.
        let counting = maps.clone();
        let (acknowledge, mut acknowledged) = tokio::sync::mpsc::unbounded_channel();
        let mut writing = tokio::task::JoinSet::new();
        let first = written + 1;
        writing.spawn(async move {
            for n in first.. {
                let apply = Patch::Apply(
                    serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"n": n.to_string()}}),
                );
                let Ok(map) = counting.patch("m", &PatchParams::apply("count").force(), &apply).await else { return };
                let revision: u64 = map.metadata.resource_version.unwrap().parse().unwrap();
                if acknowledge.send((n, revision)).is_err() {
                    return;
                }
            }
        });
        for _ in 0..=20 + round * 7 {
            let (n, revision) = acknowledged.recv().await.unwrap();
            assert!(revision > newest, "revision {revision} was minted again after {newest}");
            (written, newest) = (n, revision);
        }
        server.process.signal(9).unwrap();
        server.process.wait().unwrap();
        while let Some((n, revision)) = acknowledged.recv().await {
            (written, newest) = (n, revision);
        }
        writing.join_all().await;
    }
}

/// A list that is read on after its revision was forgotten: the flag decides when.
#[tokio::test]
async fn history_is_forgotten_when_the_flag_says() {
    use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
    type Maps = Api<k8s_openapi::api::core::v1::ConfigMap>;

    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path(), &["--kube-apiserver-arg", "etcd-compaction-interval=1s"]);
    let maps: Maps = Api::default_namespaced(server.client().await);
    for name in ["a", "b", "c"] {
        let map = serde_json::from_value(serde_json::json!({"metadata": {"name": name}})).unwrap();
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let first = maps.list(&ListParams::default().limit(1)).await.unwrap();
    let next = |token: &str| ListParams::default().limit(1).continue_token(token);
    let mut changes = 0;
    let refused = loop {
        // Each write lets time pass; the wait is for what the server does by its clock.
        let change = serde_json::json!({"data": {"n": changes.to_string()}});
        maps.patch("c", &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
        changes += 1;
        match maps.list(&next(first.metadata.continue_.as_deref().unwrap())).await {
            Ok(_) => assert!(changes < 100_000, "nothing is ever forgotten"),
            Err(kube::Error::Api(refused)) => break refused,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!((refused.code, refused.reason.as_str()), (410, "Expired"));
    assert!(refused.message.contains("use the continue token in this response"), "{refused}");
    let token = refused.metadata.unwrap().continue_.unwrap();
    let second = maps.list(&next(&token)).await.unwrap();
    assert_eq!(second.items[0].metadata.name.as_deref(), Some("b"));
    let third = maps.list(&next(second.metadata.continue_.as_deref().unwrap())).await.unwrap();
    assert_eq!(third.items[0].data.as_ref().unwrap()["n"], (changes - 1).to_string(), "as it is now");
    server.stop();
}
