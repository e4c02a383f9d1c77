//! Watchers that do not read, and very many that do.

use std::time::Duration;

use apiserver::authn::User;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::harness::{Cluster, Open};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// Those that never read.
const STUCK: usize = 10_000;
/// What each of them may hold, its answer and its place in this test included.
const MOST: usize = 20 << 10;
/// More than a resource's recent history holds.
const CHANGES: usize = 5_000;

/// Those that read what 100 writes a second bring them.
const READING: usize = 2_000;
const WRITES: usize = 100;
const BETWEEN: Duration = Duration::from_millis(10);

async fn watch(cluster: &Cluster) -> Open {
    let target = format!("{MAPS}?watch=true&resourceVersion=0");
    let request = Request::builder().uri(target).body(Full::new(Bytes::new())).unwrap();
    cluster.call(User::component("admin", &["system:masters"]), request).await
}

/// A watcher is a place in the history that all share: stuck, it holds nothing up and nothing back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_37_watchers_that_never_read() {
    let _turn = super::turn().await;
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, json!({"metadata": {"name": "a"}})).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let before = super::resident();
    let mut stuck = Vec::with_capacity(STUCK);
    for _ in 0..STUCK {
        stuck.push(watch(&cluster).await);
    }
    let each = super::resident().saturating_sub(before) / STUCK;
    assert!(each <= MOST, "{each} bytes for a watcher");

    let mut reader = watch(&cluster).await;
    assert_eq!(reader.line().await.unwrap()["type"], "ADDED");
    let writing = super::resident();
    for n in 0..CHANGES {
        let change = json!({"metadata": {"name": "a"}, "data": {"n": n.to_string()}});
        cluster.send("PUT", &format!("{MAPS}/a"), change).await.expect(200);
        let seen = reader.line().await.unwrap();
        assert_eq!(seen["object"]["data"]["n"], n.to_string(), "whoever reads misses nothing");
    }
    let grown = super::resident().saturating_sub(writing);
    assert!(grown < 256 << 20, "{CHANGES} changes left {} MiB", grown >> 20);

    // Some begin to read: what they have not seen is in the datastore's history, from the first of it on.
    for stuck in stuck.iter_mut().step_by(500) {
        assert_eq!(stuck.line().await.unwrap()["type"], "ADDED");
        for n in 0..3 {
            let missed = stuck.line().await.unwrap();
            assert_eq!((&missed["type"], &missed["object"]["data"]["n"]), (&json!("MODIFIED"), &json!(n.to_string())));
        }
    }
    // Once that is gone too, they are told to list anew, as upstream tells those that it drops.
    let store = &cluster.server.registry.store;
    store.compact(store.current()).await.unwrap();
    for stuck in stuck.iter_mut().skip(1).step_by(500) {
        assert_eq!(stuck.line().await.unwrap()["type"], "ADDED");
        let end = stuck.line().await.unwrap();
        assert_eq!((&end["type"], &end["object"]["code"]), (&json!("ERROR"), &json!(410)));
        assert_eq!(stuck.line().await, None);
    }
}

/// Every watcher sees every write, in the order in which they were made, and takes no more than its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_38_very_many_watchers() {
    let _turn = super::turn().await;
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, json!({"metadata": {"name": "a"}})).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let before = super::resident();
    let mut watchers = JoinSet::new();
    for _ in 0..READING {
        let mut watch = watch(&cluster).await;
        watchers.spawn(async move {
            assert_eq!(watch.line().await.unwrap()["type"], "ADDED");
            let mut revision = 0;
            for n in 0..WRITES {
                let event = watch.line().await.unwrap();
                assert_eq!(
                    (&event["type"], &event["object"]["data"]["n"]),
                    (&json!("MODIFIED"), &json!(n.to_string()))
                );
                let next: u64 = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                assert!(next > revision);
                revision = next;
            }
        });
    }
    let each = super::resident().saturating_sub(before) / READING;
    assert!(each <= MOST, "{each} bytes for a watcher");
    let begun = Instant::now();
    for (at, n) in (1..).zip(0..WRITES) {
        let change = json!({"metadata": {"name": "a"}, "data": {"n": n.to_string()}});
        cluster.send("PUT", &format!("{MAPS}/a"), change).await.expect(200);
        sleep_until(begun + BETWEEN * at).await;
    }
    while let Some(watcher) = watchers.join_next().await {
        watcher.unwrap();
    }
}
