//! Events end when nothing is written to them any more.

use std::sync::Arc;
use std::time::Duration;

use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use store::memory::MemoryStore;

use crate::harness::Cluster;

const EVENTS: &str = "/api/v1/namespaces/default/events";

fn event(name: &str) -> Value {
    json!({"metadata": {"name": name}, "involvedObject": {"namespace": "default"}, "reason": "r", "type": "Normal"})
}

fn short() -> Settings {
    Settings { event_ttl: Duration::from_millis(700), ..Settings::default() }
}

#[tokio::test]
async fn watchers_see_old_events_go_and_new_words_keep_them() {
    let cluster = Cluster::start_set(short()).await;
    let request = Request::builder().uri(format!("{EVENTS}?watch=1")).body(Full::new(Bytes::new())).unwrap();
    let mut watch = cluster.call(User::component("admin", &["system:masters"]), request).await;
    cluster.send("POST", EVENTS, event("told-again")).await.expect(201);
    let modern = json!({
        "metadata": {"name": "modern"}, "regarding": {"namespace": "default"}, "reason": "r", "type": "Normal",
        "action": "a", "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i",
    });
    cluster.send("POST", "/apis/events.k8s.io/v1/namespaces/default/events", modern).await.expect(201);
    cluster.patch(&format!("{EVENTS}/told-again"), "merge-patch+json", json!({"count": 2})).await.expect(200);
    let mut told = Vec::new();
    while told.len() < 5 {
        let line = watch.line().await.unwrap();
        let name = line["object"]["metadata"]["name"].as_str().unwrap().to_owned();
        told.push(format!("{} {name}", line["type"].as_str().unwrap()));
    }
    let expected = ["ADDED told-again", "ADDED modern", "MODIFIED told-again", "DELETED modern", "DELETED told-again"];
    assert_eq!(told, expected);
    let left = cluster.send("GET", EVENTS, Value::Null).await.expect(200);
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn events_of_a_server_that_ended_go_in_their_time() {
    let store = Arc::new(MemoryStore::new());
    let forever = Settings { event_ttl: Duration::ZERO, ..Settings::default() };
    let before = Cluster::start_over(store.clone(), Vec::new(), forever).await;
    before.send("POST", EVENTS, event("e")).await.expect(201);
    before.end().await;
    let after = Cluster::start_over(store, Vec::new(), short()).await;
    while after.send("GET", &format!("{EVENTS}/e"), Value::Null).await.code != 404 {
        tokio::task::yield_now().await;
    }
}
