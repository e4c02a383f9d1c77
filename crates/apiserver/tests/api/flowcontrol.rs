//! Who is served when more is asked than can be answered at once.

use apiserver::authn::User;
use apiserver::flowcontrol::Capacity;
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SCHEMA: &str = "x-kubernetes-pf-flowschema-uid";
const LEVEL: &str = "x-kubernetes-pf-prioritylevel-uid";

/// Sends over a socket, so to say: with a token.
async fn send(cluster: &Cluster, user: &str, target: &str) -> Answer {
    let request = Request::get(target).header("authorization", "Bearer admin").header("impersonate-user", user);
    cluster.send_unknown(request.body(Full::new(Bytes::new())).unwrap()).await
}

async fn start(capacity: Capacity) -> Cluster {
    let tokens = vec![("admin".to_owned(), User::new("admin", &["system:masters"]))];
    let cluster = Cluster::start_known(tokens, Settings { capacity, ..Settings::default() }).await;
    cluster.server.extend();
    cluster
}

/// The object, once `condition` is true of it.
async fn until(cluster: &Cluster, target: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let (collection, name) = target.rsplit_once('/').unwrap();
    let target = format!("{GROUP}/{collection}?watch=1&fieldSelector=metadata.name%3D{name}");
    let admin = User::component("admin", &["system:masters"]);
    let mut watch = cluster.call(admin, Request::get(target).body(Full::new(Bytes::new())).unwrap()).await;
    loop {
        let object = watch.line().await.unwrap()["object"].take();
        if condition(&object) {
            return object;
        }
    }
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 1000, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": user}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }]},
    })
}

fn level(name: &str, response: Value) -> Value {
    let limited = json!({"nominalConcurrencyShares": 1, "limitResponse": response, "borrowingLimitPercent": 0});
    json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": limited}})
}

fn says(schema: &Value, dangling: &str) -> bool {
    schema["status"]["conditions"][0]["status"] == dangling
}

#[tokio::test]
async fn answers_name_what_classified_their_request() {
    let cluster = start(Capacity::default()).await;
    let made = cluster.send("POST", &format!("{GROUP}/flowschemas"), schema("mine", "mine", "noxu")).await.expect(201);
    until(&cluster, "flowschemas/mine", |object| says(object, "True")).await;
    let other = send(&cluster, "noxu", "/version").await;
    assert_ne!(other.headers[SCHEMA], made["metadata"]["uid"].as_str().unwrap());
    assert_ne!(other.headers[LEVEL], "");

    let queue = json!({"type": "Queue", "queuing": {"queues": 1, "handSize": 1, "queueLengthLimit": 1}});
    let level =
        cluster.send("POST", &format!("{GROUP}/prioritylevelconfigurations"), level("mine", queue)).await.expect(201);
    until(&cluster, "flowschemas/mine", |object| says(object, "False")).await;
    let own = send(&cluster, "noxu", "/version").await;
    assert_eq!(own.headers[SCHEMA], made["metadata"]["uid"].as_str().unwrap());
    assert_eq!(own.headers[LEVEL], level["metadata"]["uid"].as_str().unwrap());
    let stranger = send(&cluster, "foo", "/version").await;
    assert_ne!(stranger.headers[SCHEMA], made["metadata"]["uid"].as_str().unwrap());

    let metrics = cluster.send("GET", "/metrics", Value::Null).await;
    let text = String::from_utf8(metrics.bytes.to_vec()).unwrap();
    assert!(text.contains("apiserver_flowcontrol_nominal_limit_seats{priority_level=\"mine\"} "), "{text}");
    assert!(
        text.contains(
            "apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"mine\",priority_level=\"mine\"} 1"
        )
    );
    let dump = cluster.send("GET", "/debug/api_priority_and_fairness/dump_priority_levels", Value::Null).await;
    let text = String::from_utf8(dump.bytes.to_vec()).unwrap();
    assert!(text.lines().any(|line| line.starts_with("mine, ")), "{text}");
}

#[tokio::test]
async fn who_finds_no_seat_is_told_to_come_again() {
    let cluster = start(Capacity { reading: 1, mutating: 0, ..Capacity::default() }).await;
    let mut strict = level("none", json!({"type": "Reject"}));
    strict["spec"]["limited"]["nominalConcurrencyShares"] = json!(0);
    cluster.send("POST", &format!("{GROUP}/prioritylevelconfigurations"), strict).await.expect(201);
    cluster.send("POST", &format!("{GROUP}/flowschemas"), schema("none", "none", "bob")).await.expect(201);
    until(&cluster, "flowschemas/none", |object| says(object, "False")).await;
    let refused = send(&cluster, "bob", "/version").await;
    assert_eq!((refused.code, refused.headers["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(refused.bytes, "Too many requests, please try again later.\n");
    assert_ne!(refused.headers[SCHEMA], "");
    // The exempt are never held up.
    let admin = Request::get("/version").header("authorization", "Bearer admin").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(cluster.send_unknown(admin).await.code, 200);
}

#[tokio::test]
async fn what_every_cluster_has_comes_back() {
    let cluster = start(Capacity::default()).await;
    let settled = until(&cluster, "flowschemas/catch-all", |object| says(object, "False")).await;
    assert_eq!(settled["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"], "true");
    cluster.send("DELETE", &format!("{GROUP}/flowschemas/catch-all"), Value::Null).await.expect(200);
    let uid = settled["metadata"]["uid"].clone();
    until(&cluster, "flowschemas/catch-all", |object| object["metadata"]["uid"] != uid && says(object, "False")).await;
    let all = cluster.send("GET", &format!("{GROUP}/prioritylevelconfigurations"), Value::Null).await.expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 8);
}
