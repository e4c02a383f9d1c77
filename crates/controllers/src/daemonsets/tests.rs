use client::testing::FakeCluster;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn set(image: &str, strategy: Value) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "agent", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "agent"}}, "spec": {
                "nodeSelector": {"pool": "a"}, "containers": [{"name": "c", "image": image}]}},
        },
    })
}

fn put_node(cluster: &FakeCluster, name: &str, pool: &str, taints: Value) {
    cluster.put(
        &resource_of::<Node>(),
        json!({"metadata": {"name": name, "labels": {"pool": pool}}, "spec": {"taints": taints}}),
    );
}

/// `node image` of each pod. Plays scheduler and kubelet: pods are bound and ready.
fn pods(cluster: &FakeCluster) -> Vec<String> {
    let mut lines = Vec::new();
    for mut pod in cluster.list(&resource_of::<Pod>()) {
        if pod["status"]["phase"].is_null() {
            let terms = &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
            pod["spec"]["nodeName"] = terms["nodeSelectorTerms"][0]["matchFields"][0]["values"][0].clone();
            pod["status"] = json!({"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            pod = cluster.put(&resource_of::<Pod>(), pod);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.push(format!("{} {}", text(&pod["spec"]["nodeName"]), text(&pod["spec"]["containers"][0]["image"])));
    }
    lines.sort();
    lines
}

fn status(cluster: &FakeCluster) -> Value {
    cluster.get(&resource_of::<DaemonSet>(), &ObjectKey::new("shop", "agent")).unwrap()["status"].clone()
}

#[tokio::test]
async fn each_node_that_fits_has_one_pod() {
    let cluster = FakeCluster::new();
    put_node(&cluster, "n1", "a", json!([]));
    put_node(&cluster, "n2", "b", json!([]));
    put_node(&cluster, "n3", "a", json!([{"key": "x", "effect": "NoSchedule"}]));
    put_node(&cluster, "n4", "a", json!([{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]));
    cluster.put(&resource_of::<DaemonSet>(), set("v1", json!({"type": "RollingUpdate"})));
    let harness = Harness::start(&cluster, run);
    eventually(|| pods(&cluster) == ["n1 v1", "n4 v1"]).await;
    eventually(|| status(&cluster)["numberAvailable"] == 2).await;
    put_node(&cluster, "n5", "a", json!([]));
    eventually(|| pods(&cluster) == ["n1 v1", "n4 v1", "n5 v1"]).await;
    put_node(&cluster, "n1", "b", json!([]));
    eventually(|| pods(&cluster) == ["n4 v1", "n5 v1"]).await;
    eventually(|| status(&cluster)["desiredNumberScheduled"] == 2).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_rolling_update_replaces_one_pod_at_a_time_and_is_remembered() {
    let cluster = FakeCluster::new();
    for name in ["n1", "n2", "n3"] {
        put_node(&cluster, name, "a", json!([]));
    }
    let sets = resource_of::<DaemonSet>();
    cluster.put(&sets, set("v1", json!({"type": "RollingUpdate"})));
    let harness = Harness::start(&cluster, run);
    eventually(|| {
        pods(&cluster);
        status(&cluster)["numberAvailable"] == 3
    })
    .await;
    cluster.put(&sets, set("v2", json!({"type": "RollingUpdate"})));
    eventually(|| {
        let lines = pods(&cluster);
        assert!(lines.len() >= 2, "more than one pod is missing: {lines:?}");
        lines == ["n1 v2", "n2 v2", "n3 v2"]
    })
    .await;
    let revisions = cluster.list(&resource_of::<ControllerRevision>());
    let mut numbers: Vec<i64> = revisions.iter().filter_map(|revision| revision["revision"].as_i64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    // Back to the first: its revision becomes the newest.
    cluster.put(&sets, set("v1", json!({"type": "RollingUpdate"})));
    eventually(|| pods(&cluster) == ["n1 v1", "n2 v1", "n3 v1"]).await;
    assert_eq!(cluster.list(&resource_of::<ControllerRevision>()).len(), 2);
    harness.stop().await;
}
