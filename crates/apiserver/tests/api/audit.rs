//! What the audit log tells, by which policy.

use std::path::Path;

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::audit::{Batch, Format, Mode, Options, WebhookOptions};
use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::harness::Cluster;
use crate::played::{Here, TlsServer};

fn write(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

/// A folder with a policy, and what a server is told of it.
fn policy(rules: &str) -> (Options, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    write(&policy, &format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}"));
    (Options { policy_file: Some(policy), ..Options::default() }, dir)
}

/// A cluster that records as `rules` say.
async fn start(rules: &str) -> (Cluster, TempDir) {
    let (options, dir) = policy(rules);
    let audit = Options { log_path: Some(dir.path().join("audit.log")), ..options };
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

#[tokio::test]
async fn a_log_in_few_words_has_no_objects() {
    let (options, dir) = policy(&format!("{OTHERS}- {{level: RequestResponse}}\n"));
    let audit = Options { log_path: Some(dir.path().join("audit.log")), log_format: Format::Legacy, ..options };
    let cluster = Cluster::start_set(Settings { audit, ..Settings::default() }).await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    cluster.send("POST", "/api/v1/namespaces/default/configmaps", map).await.expect(201);
    cluster.end().await;
    let text = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let said = "method=\"create\" user=\"admin\" groups=\"\\\"system:masters\\\",\\\"system:authenticated\\\"\" \
                as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"test/1.0\" namespace=\"default\" \
                uri=\"/api/v1/namespaces/default/configmaps\" response=";
    for (line, stage, code) in [(lines[0], "RequestReceived", "<deferred>"), (lines[1], "ResponseComplete", "201")] {
        assert!(line.contains(" AUDIT: id=\"") && line.contains(&format!(" stage=\"{stage}\" ip=")), "{line}");
        assert!(line.ends_with(&format!("{said}\"{code}\"")), "{line}");
    }
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

#[tokio::test]
async fn long_answers_are_recorded_whole() {
    let resource = "resources: [{resources: [configmaps]}], omitStages: [RequestReceived]";
    let (cluster, dir) = start(&format!("{OTHERS}- {{level: RequestResponse, verbs: [list], {resource}}}\n")).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let text = "x".repeat(1_000_000);
    for at in 0..12 {
        let map = json!({"metadata": {"name": format!("m{at}")}, "data": {"k": text}});
        cluster.send("POST", maps, map).await.expect(201);
    }
    for limit in [8, 12] {
        let answer = cluster.send("GET", &format!("{maps}?limit={limit}"), Value::Null).await.expect(200);
        assert_eq!(answer["items"].as_array().unwrap().len(), limit);
        assert_eq!(answer["items"][limit - 1]["data"]["k"], text.as_str());
    }
    let events = events(&cluster, dir.path()).await;
    assert_eq!(events[0]["responseObject"]["items"].as_array().unwrap().len(), 8);
    assert_eq!(events[1]["responseObject"]["items"].as_array().unwrap().len(), 12);
    assert!(events.iter().all(|event| event["annotations"]["audit.k8s.io/truncated"].is_null()));
}

/// A server that hands on what it is told, and answers with this code.
async fn listener(code: u16) -> (TlsServer, mpsc::UnboundedReceiver<Value>) {
    let (told, heard) = mpsc::unbounded_channel();
    let serve = move |request: Request<hyper::body::Incoming>| {
        let told = told.clone();
        let answer = async move {
            assert_eq!(request.headers()["authorization"], "Bearer ours");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            told.send(serde_json::from_slice(&body).unwrap()).unwrap();
            Response::builder().status(code).body(Full::new(Bytes::new())).unwrap()
        };
        Box::pin(answer) as futures::future::BoxFuture<'static, _>
    };
    (TlsServer::start(&["127.0.0.1"], Arc::new(serve)).await, heard)
}

/// A cluster that tells `server` of everything that is not its own.
async fn telling(server: &TlsServer, webhook: WebhookOptions) -> (Cluster, TempDir) {
    let (options, dir) = policy(&format!("{OTHERS}- {{level: Metadata, omitStages: [RequestReceived]}}\n"));
    let path = dir.path().join("config");
    write(&path, &server.kubeconfig("ours"));
    let webhook = WebhookOptions { config_file: Some(path), backoff: Duration::from_millis(1), ..webhook };
    let settings = Settings { audit: Options { webhook, ..options }, ..Settings::default() };
    (Cluster::start_calling(Here, settings).await, dir)
}

#[tokio::test]
async fn another_server_is_told_in_batches() {
    let (server, mut heard) = listener(204).await;
    let batch = Batch { size: 3, wait: Duration::from_secs(600), ..WebhookOptions::default().batch };
    let (cluster, _dir) = telling(&server, WebhookOptions { batch, ..WebhookOptions::default() }).await;
    for at in 0..4 {
        cluster.send("GET", &format!("/api/v1/namespaces/default/pods/{at}"), Value::Null).await.expect(404);
    }
    let first = heard.recv().await.unwrap();
    assert_eq!((&first["kind"], &first["apiVersion"]), (&json!("EventList"), &json!("audit.k8s.io/v1")));
    let names = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|event| event["objectRef"]["name"].clone()).collect()
    };
    assert_eq!(names(&first), ["0", "1", "2"]);
    // What is no batch yet does not hold up the end of the server, and is told before it.
    cluster.end().await;
    assert_eq!(names(&heard.try_recv().unwrap()), ["3"]);
}

#[tokio::test]
async fn who_does_not_answer_holds_up_the_end_of_the_server_for_a_while() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let serve = move |request: Request<hyper::body::Incoming>| {
        let told = told.clone();
        let silent = async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            told.send(serde_json::from_slice::<Value>(&body).unwrap()).unwrap();
            std::future::pending().await
        };
        Box::pin(silent) as futures::future::BoxFuture<'static, Response<Full<Bytes>>>
    };
    let server = TlsServer::start(&["127.0.0.1"], Arc::new(serve)).await;
    let flush = Duration::from_millis(300);
    let (cluster, _dir) = telling(&server, WebhookOptions { flush, ..WebhookOptions::default() }).await;
    cluster.send("GET", "/version", Value::Null).await.expect(200);
    let begun = Instant::now();
    cluster.end().await;
    assert_eq!(heard.try_recv().unwrap()["items"].as_array().unwrap().len(), 1);
    let took = begun.elapsed();
    assert!(took >= flush && took < flush + Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn who_must_be_heard_holds_up_what_is_told() {
    let rule = "- {level: Metadata}\n";
    for (mode, code, expected) in
        [(Mode::Blocking, 200, 200), (Mode::BlockingStrict, 200, 200), (Mode::Blocking, 500, 200)]
    {
        let (server, mut heard) = listener(code).await;
        let (cluster, _dir) = telling(&server, WebhookOptions { mode, ..WebhookOptions::default() }).await;
        cluster.send("GET", "/version", Value::Null).await.expect(expected);
        assert_eq!(heard.try_recv().unwrap()["items"].as_array().unwrap().len(), 1, "{mode:?} {code}");
    }
    // A log that cannot be written refuses what must be in it, and nothing else.
    for (mode, expected) in [(Mode::BlockingStrict, 500), (Mode::Blocking, 200)] {
        let (options, _dir) = policy(&format!("{OTHERS}{rule}"));
        let audit = Options { log_path: Some("/dev/full".into()), log_mode: mode, ..options };
        let cluster = Cluster::start_set(Settings { audit, ..Settings::default() }).await;
        let answer = cluster.send("GET", "/version", Value::Null).await.expect(expected);
        assert_eq!(answer["message"] == "Internal error occurred: failed to store audit event", expected == 500);
    }
}

#[tokio::test]
async fn deprecated_versions_are_told() {
    let (cluster, dir) = start(&format!("{OTHERS}- {{level: Metadata, omitStages: [RequestReceived]}}\n")).await;
    for resource in ["endpoints", "configmaps"] {
        cluster.send("GET", &format!("/api/v1/namespaces/default/{resource}"), Value::Null).await.expect(200);
    }
    let events = events(&cluster, dir.path()).await;
    let said = |at: usize| {
        (&events[at]["annotations"]["k8s.io/deprecated"], &events[at]["annotations"]["k8s.io/removed-release"])
    };
    // Endpoints go nowhere.
    assert_eq!(said(0), (&json!("true"), &Value::Null));
    assert_eq!(said(1), (&Value::Null, &Value::Null));
}
