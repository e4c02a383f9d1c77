//! Lists of much, and readers who do not take them.

use std::sync::Arc;
use std::time::Duration;

use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::client::TlsStream;

use super::listener::Listening;
use crate::harness::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const OBJECTS: usize = 64;
const SIZE: usize = 1 << 20;
/// Those who read as fast as they can, and as many who do not read.
const CLIENTS: usize = 10;
/// What all answers under way may hold together, and what other tests take meanwhile; whole, they would hold 1.25 GiB.
const MOST: usize = 256 << 20;
const FORMS: [&str; 5] = [
    "Accept: application/json",
    "Accept: application/json\r\nAccept-Encoding: gzip",
    "Accept: application/vnd.kubernetes.protobuf",
    "Accept: application/json;as=Table;v=v1;g=meta.k8s.io",
    "Accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
];

async fn with_much() -> Cluster {
    let tokens = vec![("admin".to_owned(), User::new("admin", &["system:masters"]))];
    let cluster = Cluster::start_over(Arc::new(MemoryStore::new()), tokens, Settings::default()).await;
    let text = "x".repeat(SIZE);
    for at in 0..OBJECTS {
        let object = json!({"metadata": {"name": format!("m{at}")}, "data": {"text": text}});
        cluster.send("POST", MAPS, object).await.expect(201);
    }
    cluster
        .send("POST", "/api/v1/namespaces/default/secrets", json!({"metadata": {"name": "other"}}))
        .await
        .expect(201);
    cluster.server.registry.caches.reach_current().await;
    cluster
}

async fn ask(server: &Listening, form: &str) -> TlsStream<TcpStream> {
    let mut stream = server.connect(b"http/1.1").await;
    let head =
        format!("GET {MAPS} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer admin\r\nConnection: close\r\n{form}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut code = [0; 12];
    stream.read_exact(&mut code).await.unwrap();
    assert_eq!(&code, b"HTTP/1.1 200", "{form}");
    stream
}

/// A list is never there as a whole, whoever reads it and however, and others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_39_lists_of_much_by_fast_and_slow() {
    let _turn = super::turn().await;
    let server = Listening::over(with_much().await).await;
    let before = super::resident();
    let (mut stuck, mut readers) = (Vec::new(), JoinSet::new());
    for at in 0..CLIENTS {
        stuck.push(ask(&server, FORMS[at % FORMS.len()]).await);
        let mut stream = ask(&server, FORMS[at % FORMS.len()]).await;
        readers.spawn(async move {
            let (mut buffer, mut size) = (vec![0; 64 << 10], 0);
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                size += read;
            }
            size
        });
    }
    let (mut slowest, mut most, mut sizes) = (Duration::ZERO, 0, Vec::new());
    while !readers.is_empty() {
        let begun = Instant::now();
        cluster_get(&server.cluster, "/api/v1/namespaces/default/secrets/other").await;
        slowest = slowest.max(begun.elapsed());
        most = most.max(super::resident().saturating_sub(before));
        tokio::select! {
            Some(size) = readers.join_next() => sizes.push(size.unwrap()),
            () = sleep_until(begun + Duration::from_millis(20)) => {}
        }
    }
    assert!(most < MOST, "{} MiB for {} lists", most >> 20, 2 * CLIENTS);
    assert!(slowest < Duration::from_secs(1), "another waited for {slowest:?}");
    let whole = sizes.iter().filter(|size| **size > OBJECTS * SIZE).count();
    assert_eq!(whole, CLIENTS / FORMS.len() * 2, "of JSON and protobuf: {sizes:?}");
    // Those who were stuck go on where they were.
    let mut rest = Vec::new();
    stuck.swap_remove(0).read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > OBJECTS * SIZE && rest.ends_with(b"]}\n"));
}

async fn cluster_get(cluster: &Cluster, path: &str) {
    cluster.send("GET", path, Value::Null).await.expect(200);
}

/// Who takes too long over a list does not keep what has long been replaced.
#[tokio::test]
async fn fault_39_lists_that_nobody_reads_are_given_up() {
    let cluster = with_much().await;
    let request = Request::get(format!("{MAPS}?timeout=300ms")).body(Full::new(Bytes::new())).unwrap();
    let mut list = cluster.call(User::component("admin", &["system:masters"]), request).await;
    assert!(list.piece().await.unwrap().unwrap().starts_with(b"{"));
    sleep_until(Instant::now() + Duration::from_millis(600)).await;
    let why = list.piece().await.unwrap().unwrap_err();
    assert_eq!(why, "the list was not read in the time that a request has");
}
