//! Watches.

use apiserver::authn::User;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Cluster, Open};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn watch(cluster: &Cluster, query: &str) -> Open {
    let uri = format!("{MAPS}?watch=true&{query}");
    let request = Request::builder().uri(uri).body(Full::new(Bytes::new())).unwrap();
    cluster.call(User::component("admin", &["system:masters"]), request).await
}

fn map(name: &str, tier: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"tier": tier}}})
}

fn told(line: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&line["type"]), text(&line["object"]["metadata"]["name"]))
}

#[tokio::test]
async fn a_watch_resumes_where_a_list_ended() {
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, map("a", "x")).await.expect(201);
    let list = cluster.send("GET", MAPS, Value::Null).await.expect(200);
    cluster.send("POST", MAPS, map("b", "x")).await.expect(201);
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();

    let mut watch = watch(&cluster, &format!("resourceVersion={revision}")).await;
    assert_eq!(told(&watch.line().await.unwrap()), ("ADDED".to_owned(), "b".to_owned()));
    cluster.send("DELETE", &format!("{MAPS}/a"), Value::Null).await.expect(200);
    let deleted = watch.line().await.unwrap();
    assert_eq!(told(&deleted), ("DELETED".to_owned(), "a".to_owned()));
    let at = deleted["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    assert!(at > revision.parse().unwrap(), "a deletion carries its own revision");
}

#[tokio::test]
async fn leaving_a_selection_is_a_deletion_and_entering_it_a_creation() {
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, map("a", "front")).await.expect(201);
    let mut watch = watch(&cluster, "labelSelector=tier%3Dfront").await;
    assert_eq!(told(&watch.line().await.unwrap()).0, "ADDED");
    cluster.send("PUT", &format!("{MAPS}/a"), map("a", "back")).await.expect(200);
    let left = watch.line().await.unwrap();
    assert_eq!(told(&left).0, "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"]["tier"], "front");
    cluster.send("PUT", &format!("{MAPS}/a"), map("a", "front")).await.expect(200);
    assert_eq!(told(&watch.line().await.unwrap()).0, "ADDED");
}

#[tokio::test]
async fn a_watch_list_ends_its_first_part_with_a_bookmark() {
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, map("a", "x")).await.expect(201);
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = watch(&cluster, query).await;
    assert_eq!(told(&watch.line().await.unwrap()).0, "ADDED");
    let bookmark = watch.line().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[tokio::test]
async fn a_watch_ends_when_its_client_said() {
    let cluster = Cluster::start().await;
    let mut watch = watch(&cluster, "resourceVersion=0&timeoutSeconds=1").await;
    assert!(watch.line().await.is_none());
}

#[tokio::test]
async fn a_watch_for_longer_than_clocks_count_begins() {
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, map("a", "x")).await.expect(201);
    let mut watch = watch(&cluster, &format!("timeoutSeconds={}", i64::MAX)).await;
    assert_eq!(told(&watch.line().await.unwrap()), ("ADDED".to_owned(), "a".to_owned()));
}

#[tokio::test]
async fn a_watch_from_before_the_ring_goes_on_unless_the_store_has_forgotten() {
    let cluster = Cluster::start().await;
    let made = cluster.send("POST", MAPS, map("a", "x")).await.expect(201);
    for at in 0..4200 {
        cluster.send("PUT", &format!("{MAPS}/a"), map("a", &at.to_string())).await.expect(200);
    }
    let query = format!("resourceVersion={}", made["metadata"]["resourceVersion"].as_str().unwrap());
    let mut again = watch(&cluster, &query).await;
    for at in 0..4200 {
        let line = again.line().await.unwrap();
        assert_eq!(
            (&line["type"], &line["object"]["metadata"]["labels"]["tier"]),
            (&json!("MODIFIED"), &json!(at.to_string()))
        );
    }
    let registry = &cluster.server.registry;
    registry.store.compact(registry.store.current()).await.unwrap();
    let mut late = watch(&cluster, &query).await;
    let error = late.line().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(late.line().await.is_none());
}
