//! A node that goes down, on a fake runtime and in a fake cluster.

use futures::FutureExt as _;
use serde_json::{Value, json};

use crate::testing::{TestNode, condition};

fn spec(image: &str, priority: i32) -> Value {
    json!({"containers": [{"name": "c", "image": image}], "priority": priority, "terminationGracePeriodSeconds": 30})
}

const TERMINATED: &str = "Pod was terminated in response to imminent node shutdown.";

fn is_ended(node: &TestNode, name: &str) -> bool {
    let pod = node.pod(name).unwrap();
    pod["status"]["phase"] == "Failed"
}

/// Collects what the runtime is asked until it is this.
async fn asked(node: &TestNode, expected: &[&str]) {
    let mut journal = Vec::new();
    node.until("asked", |node| {
        journal.extend(node.runtime.journal());
        journal == expected
    })
    .await;
}

#[tokio::test]
async fn fault_30_the_machine_goes_down_and_stays_up_after_all() {
    let node = TestNode::start().await;
    node.create("app", spec("stubborn", 0));
    node.create("dns", spec("app", 2_000_000_000));
    node.until_ready("app", true).await;
    node.until_ready("dns", true).await;
    node.runtime.journal();

    node.power.goes_down();
    asked(&node, &["stop app/c#0 20"]).await;
    let told = ("KubeletNotReady".to_owned(), "node is shutting down".to_owned());
    node.until("told", |node| node.unready().as_ref() == Some(&told)).await;
    node.create("late", spec("app", 0));
    node.until_phase("late", "Failed").await;
    let late = node.pod("late").unwrap();
    assert_eq!(late["status"]["reason"], "NodeShutdown");
    assert_eq!(late["status"]["message"], "Pod was rejected as the node is shutting down.");
    assert_eq!(condition(&node.pod("dns").unwrap(), "Ready"), "True", "critical pods are not ended yet");
    assert!(node.power.let_go().now_or_never().is_none(), "what is not ended holds up the machine");

    node.advance(20);
    asked(&node, &["stop dns/c#0 10"]).await;
    node.until("ended", |node| is_ended(node, "dns")).await;
    tokio::time::timeout(std::time::Duration::from_secs(10), node.power.let_go()).await.unwrap();
    for name in ["app", "dns"] {
        let pod = node.pod(name).unwrap();
        let status = &pod["status"];
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Terminated")), "{name}");
        assert_eq!(status["message"], TERMINATED);
        let all = status["conditions"].as_array().unwrap();
        let target = all.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
        assert_eq!(target["status"], "True");
        assert_eq!((&target["reason"], &target["message"]), (&json!("TerminationByKubelet"), &json!(TERMINATED)));
    }

    node.power.stays_up();
    node.until("Ready again", |node| node.unready().is_none()).await;
    node.create("new", spec("app", 0));
    node.until_ready("new", true).await;
    assert!(is_ended(&node, "app") && is_ended(&node, "dns"), "what has ended stays so");
    assert!(node.power.let_go().now_or_never().is_none());
}

#[tokio::test]
async fn a_shutdown_that_is_taken_back_ends_no_more_pods() {
    let node = TestNode::start().await;
    node.create("app", spec("stubborn", 0));
    node.create("dns", spec("app", 2_000_000_000));
    node.until_ready("app", true).await;
    node.until_ready("dns", true).await;
    node.runtime.journal();
    node.power.goes_down();
    asked(&node, &["stop app/c#0 20"]).await;
    node.power.stays_up();
    node.until("Ready again", |node| node.unready().is_none()).await;
    node.advance(20);
    node.until("ended", |node| is_ended(node, "app")).await;
    assert_eq!(condition(&node.pod("dns").unwrap(), "Ready"), "True");
    assert_eq!(node.runtime.journal(), Vec::<String>::new());
}

#[tokio::test]
async fn a_pod_that_does_not_end_in_its_time_holds_up_no_others() {
    let mut node = TestNode::start().await;
    node.create("app", spec("app", 0));
    node.create("dns", spec("app", 2_000_000_000));
    node.until_ready("app", true).await;
    node.until_ready("dns", true).await;
    node.runtime.journal();
    node.cluster.fail_requests(true);
    node.power.goes_down();
    asked(&node, &["stop app/c#0 20"]).await;
    node.until("in its time", |node| {
        node.advance(1);
        node.runtime.journal() == ["stop dns/c#0 10"]
    })
    .await;
    node.until("in its time", |node| {
        node.advance(1);
        node.power.let_go().now_or_never().is_some()
    })
    .await;
    node.stop_agent().await;
}

#[tokio::test]
async fn without_a_grace_period_pods_go_on_and_hold_up_nothing() {
    let mut node = TestNode::start().await;
    node.stop_agent().await;
    node.shutdown_grace = std::time::Duration::ZERO;
    node.start_agent().await;
    node.create("app", spec("app", 0));
    node.until_ready("app", true).await;
    node.runtime.journal();
    node.power.goes_down();
    tokio::time::timeout(std::time::Duration::from_secs(10), node.power.let_go()).await.unwrap();
    node.create("late", spec("app", 0));
    node.until_ready("late", true).await;
    assert_eq!(node.runtime.journal(), ["run late", "start late/c#0"]);
    assert_eq!(node.unready(), None);
}

#[tokio::test]
async fn a_static_pod_that_went_down_with_the_machine_begins_with_it_again() {
    let mut node = TestNode::start().await;
    let container = json!({"name": "c", "image": "app", "imagePullPolicy": "IfNotPresent"});
    node.write_static("web", json!({"containers": [container], "priorityClassName": "system-node-critical"}));
    node.until_ready("web-n1", true).await;
    node.create("app", spec("app", 0));
    node.until_ready("app", true).await;
    node.runtime.journal();
    node.power.goes_down();
    asked(&node, &["stop app/c#0 20", "stop web-n1/c#0 10"]).await;
    tokio::time::timeout(std::time::Duration::from_secs(10), node.power.let_go()).await.unwrap();
    assert!(is_ended(&node, "web-n1"));
    node.stop_agent().await;
    node.power = crate::Power::default();
    node.start_agent().await;
    node.until_ready("web-n1", true).await;
    let pod = node.pod("web-n1").unwrap();
    assert_eq!((&pod["status"]["reason"], condition(&pod, "DisruptionTarget").as_str()), (&Value::Null, ""));
}
