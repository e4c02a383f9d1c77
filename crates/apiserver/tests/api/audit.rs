//! What the audit log tells, by which policy.

use std::path::Path;

use apiserver::audit::Options;
use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::Cluster;

/// A cluster that records as `rules` say.
async fn start(rules: &str) -> (Cluster, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
    std::io::Write::write_all(&mut std::fs::File::create(&policy).unwrap(), text.as_bytes()).unwrap();
    let audit =
        Options { policy_file: Some(policy), log_path: Some(dir.path().join("audit.log")), ..Options::default() };
    (Cluster::start_set(Settings { audit, ..Settings::default() }).await, dir)
}

/// What was recorded, once the server has ended.
async fn events(cluster: &Cluster, dir: &Path) -> Vec<Value> {
    cluster.end().await;
    let text = std::fs::read_to_string(dir.join("audit.log")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["stage"].as_str().unwrap()).collect()
}

const OTHERS: &str = "- {level: None, users: ['system:apiserver']}\n";

#[tokio::test]
async fn a_write_is_told_with_what_was_sent_and_answered() {
    let (cluster, dir) = start(&format!("{OTHERS}- {{level: RequestResponse, omitManagedFields: true}}\n")).await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    cluster.send("POST", "/api/v1/namespaces/default/configmaps?fieldManager=me", map).await.expect(201);
    let events = events(&cluster, dir.path()).await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let (first, last) = (&events[0], &events[1]);
    assert_eq!(first["auditID"], last["auditID"]);
    assert_eq!((&first["objectRef"]["name"], &first["requestObject"]), (&Value::Null, &Value::Null));
    assert_eq!(last["kind"], "Event");
    assert_eq!(last["apiVersion"], "audit.k8s.io/v1");
    assert_eq!(last["level"], "RequestResponse");
    assert_eq!(last["verb"], "create");
    assert_eq!(last["requestURI"], "/api/v1/namespaces/default/configmaps?fieldManager=me");
    assert_eq!(last["user"], json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]}));
    assert_eq!(last["userAgent"], "test/1.0");
    let reference = json!({"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"});
    assert_eq!(last["objectRef"], reference);
    assert_eq!(last["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(last["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(last["responseObject"]["metadata"]["namespace"], "default");
    assert_eq!(last["responseObject"]["metadata"]["managedFields"], Value::Null);
    assert_eq!(last["annotations"]["authorization.k8s.io/decision"], "allow");
    assert_eq!(last["annotations"]["authorization.k8s.io/reason"], "");
    let moment = last["stageTimestamp"].as_str().unwrap();
    assert_eq!(moment.len(), "2026-01-31T10:00:00.000000Z".len());
    assert_eq!(first["requestReceivedTimestamp"], first["stageTimestamp"]);
}

#[tokio::test]
async fn a_refusal_is_told_with_its_reason_and_who_was_meant() {
    let (cluster, dir) = start(&format!("{OTHERS}- {{level: Metadata, omitStages: [RequestReceived]}}\n")).await;
    let request = Request::get("/api/v1/secrets").header("impersonate-user", "bob").header("audit-id", "mine");
    let admin = User::component("admin", &["system:masters"]);
    let answer = cluster.call(admin, request.body(Full::new(Bytes::new())).unwrap()).await.read().await;
    assert_eq!((answer.code, &answer.headers["audit-id"]), (403, &http::HeaderValue::from_static("mine")));
    let events = events(&cluster, dir.path()).await;
    assert_eq!(stages(&events), ["ResponseComplete"]);
    let event = &events[0];
    assert_eq!(event["auditID"], "mine");
    assert_eq!(event["user"]["username"], "admin");
    assert_eq!(event["impersonatedUser"], json!({"username": "bob", "groups": ["system:authenticated"]}));
    assert_eq!(event["annotations"]["authorization.k8s.io/decision"], "forbid");
    let status = &event["responseStatus"];
    assert_eq!(
        (&status["status"], &status["reason"], &status["code"]),
        (&json!("Failure"), &json!("Forbidden"), &json!(403))
    );
    assert_eq!(event["responseObject"], Value::Null);
}

#[tokio::test]
async fn a_watch_begins_and_ends() {
    let (cluster, dir) = start(&format!("{OTHERS}- {{level: RequestResponse, verbs: [watch]}}\n")).await;
    let admin = User::component("admin", &["system:masters"]);
    let request = Request::get("/api/v1/namespaces?watch=1").body(Full::new(Bytes::new())).unwrap();
    let mut watch = cluster.call(admin, request).await;
    assert_eq!(watch.line().await.unwrap()["type"], "ADDED");
    drop(watch);
    // No rule is about this: nothing is told.
    cluster.send("GET", "/api/v1/namespaces", Value::Null).await.expect(200);
    let events = events(&cluster, dir.path()).await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[2]["responseStatus"], json!({"metadata": {}, "code": 200}));
    assert_eq!(events[2]["responseObject"], Value::Null);
}

#[tokio::test]
async fn who_is_not_known_leaves_one_event() {
    let (cluster, dir) = start(&format!("{OTHERS}- {{level: Metadata}}\n")).await;
    let request = Request::get("/api/v1/pods").header("authorization", "Bearer nonsense");
    let answer = cluster.send_unknown(request.body(Full::new(Bytes::new())).unwrap()).await;
    assert_eq!(answer.code, 401);
    let id = answer.headers["audit-id"].to_str().unwrap().to_owned();
    let events = events(&cluster, dir.path()).await;
    assert_eq!(stages(&events), ["ResponseStarted"]);
    assert_eq!(events[0]["auditID"], id);
    assert_eq!(events[0]["user"], json!({}));
    assert_eq!(events[0]["responseStatus"]["code"], 401);
}

#[tokio::test]
async fn patches_and_deletions_are_told() {
    let rules = format!(
        "{OTHERS}- {{level: Request, resources: [{{resources: [configmaps]}}], omitStages: [RequestReceived]}}\n"
    );
    let (cluster, dir) = start(&rules).await;
    let target = "/api/v1/namespaces/default/configmaps/a";
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    cluster.patch(&format!("{target}?fieldManager=me"), "apply-patch+yaml", map.clone()).await.expect(201);
    cluster.send("DELETE", target, Value::Null).await.expect(200);
    let events = events(&cluster, dir.path()).await;
    assert_eq!((&events[0]["verb"], &events[0]["requestObject"]), (&json!("patch"), &map));
    assert_eq!(events[1]["verb"], "delete");
    assert_eq!(events[1]["responseStatus"]["status"], "Success");
    assert_eq!(events[1]["responseStatus"]["details"]["name"], "a");
}
