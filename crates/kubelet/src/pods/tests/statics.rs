//! Lives of pods that files describe, and of what the API server shows of them.

use api::object::ObjectKey;
use client::typed::resource_of;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use crate::testing::TestNode;

fn spec(image: &str) -> Value {
    let container = json!({"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"});
    json!({"containers": [container], "terminationGracePeriodSeconds": 7})
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn shows(node: &TestNode, phase: &str) -> bool {
    node.pod("web-n1").is_some_and(|it| it["status"]["phase"] == phase)
}

#[tokio::test]
async fn a_file_is_a_pod_whose_mirror_tells_how_it_is() {
    let node = TestNode::start().await;
    node.write_static("web", spec("app"));
    node.until_ready("web-n1", true).await;
    assert_eq!(node.runtime.journal(), ["run web-n1", "start web-n1/c#0"]);
    let mirror = node.pod("web-n1").unwrap();
    let annotations = &mirror["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations["kubernetes.io/config.hash"]);
    assert_eq!(annotations["kubernetes.io/config.source"], "file");
    assert_ne!(mirror["metadata"]["uid"], annotations["kubernetes.io/config.hash"]);
    let owner = node.cluster.get(&resource_of::<Node>(), &ObjectKey::new("", "n1")).unwrap();
    let expected = json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid(&owner), "controller": true}]);
    assert_eq!(mirror["metadata"]["ownerReferences"], expected);
    assert_eq!(mirror["status"]["podIP"], "10.42.0.1");
    node.runtime.exit("c", 1);
    node.until("told", |node| node.pod("web-n1").unwrap()["status"]["containerStatuses"][0]["restartCount"] == 1).await;
}

#[tokio::test]
async fn a_static_pod_waits_for_no_api_server() {
    let mut node = TestNode::start().await;
    node.stop_agent().await;
    node.cluster.fail_requests(true);
    node.write_static("web", spec("app"));
    node.start_agent().await;
    node.until("runs", |node| node.runtime.containers() == "c#0 Running").await;
    node.runtime.exit("c", 1);
    node.until("restarted", |node| node.runtime.containers() == "c#0 Exited, c#1 Running").await;
    assert!(node.pod("web-n1").is_none());
    node.cluster.fail_requests(false);
    node.until("mirrored", |node| {
        node.advance(1);
        shows(node, "Running")
    })
    .await;
}

#[tokio::test]
async fn who_deletes_the_mirror_ends_nothing_and_it_comes_again() {
    let node = TestNode::start().await;
    node.write_static("web", spec("app"));
    node.until_ready("web-n1", true).await;
    node.runtime.journal();
    let first = uid(&node.pod("web-n1").unwrap());
    node.delete("web-n1", 30);
    let again = |node: &TestNode| node.pod("web-n1").is_some_and(|it| uid(&it) != first);
    node.until("made anew", again).await;
    node.until_ready("web-n1", true).await;
    let second = uid(&node.pod("web-n1").unwrap());
    node.cluster.remove(&resource_of::<Pod>(), &ObjectKey::new("shop", "web-n1"));
    node.until("and again", |node| node.pod("web-n1").is_some_and(|it| uid(&it) != second)).await;
    node.until_ready("web-n1", true).await;
    assert_eq!(node.runtime.containers(), "c#0 Running");
    assert_eq!(node.runtime.journal(), Vec::<String>::new());
}

#[tokio::test]
async fn a_changed_file_ends_its_pod_before_the_next_begins() {
    let node = TestNode::start().await;
    node.write_static("web", spec("stubborn"));
    node.until_ready("web-n1", true).await;
    node.runtime.journal();
    let first = node.pod("web-n1").unwrap();
    node.write_static("web", spec("app"));
    let mut journal = Vec::new();
    node.until("told", |node| {
        journal.extend(node.runtime.journal());
        !journal.is_empty()
    })
    .await;
    node.advance(6);
    node.until("nothing else", |node| node.runtime.containers() == "c#0 Running").await;
    node.advance(1);
    node.until("followed", |node| {
        journal.extend(node.runtime.journal());
        journal.len() == 3
    })
    .await;
    assert_eq!(journal, ["stop web-n1/c#0 7", "run web-n1", "start web-n1/c#0"]);
    let hash = |pod: &Value| pod["metadata"]["annotations"]["kubernetes.io/config.hash"].clone();
    node.until("mirrored", |node| node.pod("web-n1").is_some_and(|it| hash(&it) != hash(&first))).await;
    node.until_ready("web-n1", true).await;
    assert_eq!(node.pod("web-n1").unwrap()["spec"]["containers"][0]["image"], "app");
}

#[tokio::test]
async fn a_pod_goes_with_its_file() {
    let mut node = TestNode::start().await;
    node.write_static("web", spec("app"));
    node.until_ready("web-n1", true).await;
    node.runtime.journal();
    std::fs::remove_file(node.static_pods().join("web.json")).unwrap();
    node.until("gone", |node| node.pod("web-n1").is_none() && node.runtime.is_empty()).await;
    assert_eq!(node.runtime.journal(), ["stop web-n1/c#0 7"]);

    node.write_static("web", spec("app"));
    node.until_ready("web-n1", true).await;
    node.stop_agent().await;
    std::fs::remove_file(node.static_pods().join("web.json")).unwrap();
    node.start_agent().await;
    node.until("gone though nobody looked", |node| node.pod("web-n1").is_none() && node.runtime.is_empty()).await;
}

#[tokio::test]
async fn the_agents_restart_is_not_seen_by_static_pods() {
    let mut node = TestNode::start().await;
    node.write_static("web", spec("app"));
    node.until_ready("web-n1", true).await;
    node.runtime.journal();
    let before = node.pod("web-n1").unwrap();
    node.stop_agent().await;
    node.advance(100);
    node.start_agent().await;
    node.create("other", spec("app"));
    node.until_ready("other", true).await;
    let after = node.pod("web-n1").unwrap();
    assert_eq!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(before["status"]["startTime"], after["status"]["startTime"]);
    assert_eq!(node.runtime.journal(), ["run other", "start other/c#0"]);
}

#[tokio::test]
async fn a_slip_in_a_file_ends_nothing_and_starts_nothing() {
    let node = TestNode::start().await;
    node.write_static("web", spec("app"));
    node.until_ready("web-n1", true).await;
    node.write_static_file("web.json", "{");
    node.write_static_file("bad.yaml", "kind: [");
    node.write_static("next", spec("app"));
    node.until_ready("next-n1", true).await;
    assert_eq!(node.runtime.containers(), "c#0 Running, c#0 Running");
}

#[tokio::test]
async fn a_mirror_of_nothing_is_deleted_and_never_run() {
    let node = TestNode::start().await;
    let mut pod = node.create("ghost", spec("app"));
    assert!(node.pod("ghost").is_some());
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "h"});
    pod["metadata"]["name"] = json!("ghost2");
    pod["metadata"]["uid"] = json!("uid-ghost2");
    node.cluster.put(&resource_of::<Pod>(), pod);
    node.until("gone", |node| node.pod("ghost2").is_none()).await;
    node.until_ready("ghost", true).await;
    assert_eq!(node.runtime.containers(), "c#0 Running");
}

#[tokio::test]
async fn a_pod_of_the_api_server_is_no_static_pod_by_saying_so() {
    let node = TestNode::start().await;
    let mut pod = node.create("web", spec("app"));
    pod["metadata"]["annotations"] = json!({"kubernetes.io/config.source": "file"});
    node.cluster.put(&resource_of::<Pod>(), pod);
    node.until_ready("web", true).await;
    let source = |pod: &Pod| pod.metadata.annotations.as_ref().unwrap()["kubernetes.io/config.source"].clone();
    node.until("as it is", |node| node.handle().pods().iter().any(|pod| source(pod) == "api")).await;
    node.delete("web", 3);
    node.until("gone", |node| node.pod("web").is_none() && node.runtime.is_empty()).await;
}
