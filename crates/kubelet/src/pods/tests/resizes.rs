//! Pods that are given more or less while they run.

use client::typed::resource_of;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::testing::TestNode;

/// Asks for shares of the node's CPU in thousandths, whatever the machine has.
fn spec(node: &TestNode, share: u32, memory: &str) -> Value {
    let cpu = format!("{}m", cores(node) * share);
    let resources = json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}});
    json!({"containers": [{"name": "c", "image": "app", "resources": resources}]})
}

fn cores(_: &TestNode) -> u32 {
    u32::try_from(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)).unwrap()
}

/// What a client does by the subresource `resize`, a while later: of one moment the fake cluster keeps one event.
fn resize(node: &TestNode, name: &str, spec: &Value) {
    node.advance(1);
    let mut pod = node.pod(name).unwrap();
    pod["spec"]["containers"][0]["resources"] = spec["containers"][0]["resources"].clone();
    pod["metadata"]["generation"] = json!(pod["metadata"]["generation"].as_i64().unwrap() + 1);
    node.cluster.put(&resource_of::<Pod>(), pod);
}

fn of(node: &TestNode, kind: &str) -> Value {
    let pod = node.pod("web").unwrap();
    let all = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|it| it["type"] == kind).unwrap_or_default()
}

fn allocated(node: &TestNode) -> String {
    let status = &node.pod("web").unwrap()["status"]["containerStatuses"][0];
    status["allocatedResources"]["cpu"].as_str().unwrap_or_default().to_owned()
}

fn told(node: &TestNode, reason: &str) -> Vec<String> {
    node.events().into_iter().filter(|it| it.split(' ').nth(1) == Some(reason)).collect()
}

async fn ready(node: &TestNode, name: &str, spec: Value) {
    node.create(name, spec);
    node.until_ready(name, true).await;
    node.runtime.journal();
}

#[tokio::test]
async fn what_there_is_room_for_is_given_at_once_and_told() {
    let node = TestNode::start().await;
    ready(&node, "web", spec(&node, 100, "64Mi")).await;
    let more = spec(&node, 200, "128Mi");
    resize(&node, "web", &more);
    let wanted = &more["containers"][0]["resources"];
    node.until("given", |node| node.pod("web").unwrap()["status"]["containerStatuses"][0]["resources"] == *wanted)
        .await;
    let status = node.pod("web").unwrap()["status"].clone();
    assert_eq!(status["containerStatuses"][0]["allocatedResources"], wanted["requests"]);
    assert_eq!(
        (&status["observedGeneration"], &status["containerStatuses"][0]["restartCount"]),
        (&json!(2), &json!(0))
    );
    let shares = |share: u32| cores(&node) * share * 1024 / 1000;
    let (less, full) = (shares(100), shares(200));
    let expected = [
        format!("update web/c#0 {less}/67108864"),
        format!("update pod {full}/134217728"),
        format!("update web/c#0 {full}/134217728"),
    ];
    assert_eq!(node.runtime.journal(), expected, "the pod grows before what is in it");
    node.until("told", |node| told(node, "ResizeStarted").len() == 1).await;
    let summary = format!(
        r#"{{"containers":[{{"name":"c","resources":{{"limits":{},"requests":{}}}}}],"generation":2}}"#,
        wanted["limits"], wanted["requests"]
    );
    assert_eq!(told(&node, "ResizeStarted"), [format!("Normal ResizeStarted Pod resize started: {summary}")]);
    assert_eq!(of(&node, "PodResizeInProgress"), Value::Null);
}

#[tokio::test]
async fn what_there_is_no_room_for_waits_until_there_is() {
    let node = TestNode::start().await;
    ready(&node, "web", spec(&node, 300, "64Mi")).await;
    ready(&node, "other", spec(&node, 500, "64Mi")).await;
    let before = allocated(&node);
    resize(&node, "web", &spec(&node, 800, "64Mi"));
    node.until("told", |node| of(node, "PodResizePending")["status"] == "True").await;
    let pending = of(&node, "PodResizePending");
    assert_eq!((&pending["reason"], &pending["observedGeneration"]), (&json!("Deferred"), &json!(2)));
    let why = pending["message"].as_str().unwrap().to_owned();
    assert!(why.starts_with("Node didn't have enough resource: cpu, requested: "), "{why}");
    assert_eq!(allocated(&node), before, "it has what it had");
    assert_eq!(node.runtime.journal(), Vec::<String>::new());
    node.until("an event", |node| told(node, "ResizeDeferred").len() == 1).await;
    assert!(told(&node, "ResizeDeferred")[0].starts_with("Warning ResizeDeferred Pod resize Deferred: {"));
    assert!(told(&node, "ResizeStarted").is_empty());

    node.advance(1);
    node.delete("other", 0);
    node.until("given", |node| of(node, "PodResizePending") == Value::Null && allocated(node) != before).await;
    node.until("an event", |node| told(node, "ResizeStarted").len() == 1).await;
}

#[tokio::test]
async fn a_wish_that_is_taken_back_waits_no_more() {
    let node = TestNode::start().await;
    ready(&node, "web", spec(&node, 300, "64Mi")).await;
    ready(&node, "other", spec(&node, 500, "64Mi")).await;
    resize(&node, "web", &spec(&node, 800, "64Mi"));
    node.until("told", |node| of(node, "PodResizePending")["status"] == "True").await;
    resize(&node, "web", &spec(&node, 300, "64Mi"));
    node.until("forgotten", |node| of(node, "PodResizePending") == Value::Null).await;
    assert_eq!(node.runtime.journal(), Vec::<String>::new());
}

#[tokio::test]
async fn the_agents_restart_gives_nobody_more() {
    let mut node = TestNode::start().await;
    ready(&node, "web", spec(&node, 300, "64Mi")).await;
    ready(&node, "other", spec(&node, 500, "64Mi")).await;
    let before = allocated(&node);
    node.stop_agent().await;
    resize(&node, "web", &spec(&node, 800, "64Mi"));
    node.start_agent().await;
    node.until("told", |node| of(node, "PodResizePending")["reason"] == "Deferred").await;
    assert_eq!(allocated(&node), before);
    assert_eq!(node.runtime.containers(), "c#0 Running, c#0 Running");
    assert_eq!(node.runtime.journal(), Vec::<String>::new());
}

#[tokio::test]
async fn memory_that_is_in_use_is_not_taken_away() {
    let node = TestNode::start().await;
    ready(&node, "web", spec(&node, 100, "64Mi")).await;
    node.runtime.use_memory(40 << 20);
    resize(&node, "web", &spec(&node, 100, "32Mi"));
    node.until("told", |node| of(node, "PodResizeInProgress")["reason"] == "Error").await;
    let why = "cannot decrease memory limits: [attempting to set pod memory limit (33554432) below current usage \
               (41943040), attempting to set container \"c\" memory limit (33554432) below current usage (41943040)]";
    assert_eq!(of(&node, "PodResizeInProgress")["message"], why);
    node.runtime.use_memory(41 << 20);
    node.until("an event", |node| {
        node.advance(1);
        told(node, "ResizeError").iter().any(|it| it.contains("below current usage (42991616)"))
    })
    .await;
    assert_eq!(node.runtime.journal(), Vec::<String>::new());
    node.runtime.use_memory(20 << 20);
    node.until("done", |node| {
        node.advance(1);
        of(node, "PodResizeInProgress") == Value::Null
    })
    .await;
    assert_eq!(node.runtime.containers(), "c#0 Running");
    node.until("an event", |node| told(node, "ResizeCompleted").len() == 1).await;
    assert!(told(&node, "ResizeCompleted")[0].starts_with("Normal ResizeCompleted Pod resize completed: {"));
}
