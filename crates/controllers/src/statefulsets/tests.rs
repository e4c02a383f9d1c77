use client::testing::FakeCluster;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn set(replicas: i32, image: &str, more: Value) -> Value {
    let mut set = json!({
        "metadata": {"namespace": "shop", "name": "db", "generation": 1},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
        },
    });
    client::patch::merge(&mut set["spec"], &more);
    set
}

/// Changes the spec as a user does, keeping what the controller wrote.
fn update(cluster: &FakeCluster, spec: Value) {
    let mut set = current(cluster);
    client::patch::merge(&mut set["spec"], &spec);
    cluster.put(&resource_of::<StatefulSet>(), set);
}

fn current(cluster: &FakeCluster) -> Value {
    cluster.get(&resource_of::<StatefulSet>(), &ObjectKey::new("shop", "db")).unwrap()
}

fn new_image(image: &str) -> Value {
    json!({"template": {"spec": {"containers": [{"name": "c", "image": image}]}}})
}

/// `name image` of each pod.
fn pods(cluster: &FakeCluster) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line =
        |pod: &Value| format!("{} {}", text(&pod["metadata"]["name"]), text(&pod["spec"]["containers"][0]["image"]));
    cluster.list(&resource_of::<Pod>()).iter().map(line).collect()
}

/// Plays kubelet: pods are ready.
fn make_ready(cluster: &FakeCluster) {
    for mut pod in cluster.list(&resource_of::<Pod>()) {
        if pod["status"]["phase"].is_null() {
            pod["status"] = json!({"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
            cluster.put(&resource_of::<Pod>(), pod);
        }
    }
}

#[tokio::test]
async fn pods_come_in_order_and_go_in_reverse_and_claims_stay() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<StatefulSet>(), set(3, "v1", json!({})));
    let harness = Harness::start(&cluster, run);
    for expected in 1..=3 {
        eventually(|| pods(&cluster).len() == expected).await;
        make_ready(&cluster);
    }
    assert_eq!(pods(&cluster), ["db-0 v1", "db-1 v1", "db-2 v1"]);
    let pod = cluster.get(&resource_of::<Pod>(), &ObjectKey::new("shop", "db-1")).unwrap();
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}}]));
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("db-1"), &json!("db")));
    eventually(|| current(&cluster)["status"]["readyReplicas"] == 3).await;
    update(&cluster, json!({"replicas": 1}));
    eventually(|| pods(&cluster) == ["db-0 v1"]).await;
    // A second deletion by the same uid, on a view that is behind, does nothing.
    let mut deletes: Vec<String> =
        cluster.take_writes().into_iter().filter(|line| line.starts_with("DELETE")).collect();
    deletes.dedup();
    assert_eq!(deletes, ["DELETE /api/v1/namespaces/shop/pods/db-2", "DELETE /api/v1/namespaces/shop/pods/db-1"]);
    assert_eq!(cluster.list(&resource_of::<PersistentVolumeClaim>()).len(), 3);
    harness.stop().await;
}

#[tokio::test]
async fn going_in_reverse_waits_for_pods_that_are_not_ready() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<StatefulSet>(), set(3, "v1", json!({})));
    let harness = Harness::start(&cluster, run);
    for expected in 1..=3 {
        eventually(|| pods(&cluster).len() == expected).await;
        make_ready(&cluster);
    }
    let turn = |name: &str, ready: &str| {
        let mut pod = cluster.get(&resource_of::<Pod>(), &ObjectKey::new("shop", name)).unwrap();
        pod["status"]["conditions"][0]["status"] = json!(ready);
        cluster.put(&resource_of::<Pod>(), pod);
    };
    ["db-0", "db-1", "db-2"].iter().for_each(|name| turn(name, "False"));
    eventually(|| current(&cluster)["status"]["readyReplicas"].is_null()).await;
    update(&cluster, json!({"replicas": 0}));
    turn("db-2", "True");
    eventually(|| pods(&cluster) == ["db-0 v1", "db-1 v1"]).await;
    turn("db-0", "True");
    // What goes last is ready, so the other is the first that is not.
    eventually(|| pods(&cluster).is_empty()).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_rolling_update_goes_down_to_the_partition_one_by_one() {
    let cluster = FakeCluster::new();
    let parallel = json!({"podManagementPolicy": "Parallel", "updateStrategy": {"type": "RollingUpdate"}});
    cluster.put(&resource_of::<StatefulSet>(), set(3, "v1", parallel));
    let harness = Harness::start(&cluster, run);
    eventually(|| pods(&cluster).len() == 3).await;
    make_ready(&cluster);
    eventually(|| current(&cluster)["status"]["currentReplicas"] == 3).await;
    let mut change = new_image("v2");
    change["updateStrategy"] = json!({"rollingUpdate": {"partition": 1}});
    update(&cluster, change);
    eventually(|| pods(&cluster) == ["db-0 v1", "db-1 v1", "db-2 v2"]).await;
    make_ready(&cluster);
    eventually(|| pods(&cluster) == ["db-0 v1", "db-1 v2", "db-2 v2"]).await;
    make_ready(&cluster);
    eventually(|| current(&cluster)["status"]["updatedReplicas"] == 2).await;
    assert_ne!(current(&cluster)["status"]["currentRevision"], current(&cluster)["status"]["updateRevision"]);
    // A pod below the partition that is lost comes back as it was.
    cluster.remove(&resource_of::<Pod>(), &ObjectKey::new("shop", "db-0"));
    eventually(|| pods(&cluster) == ["db-0 v1", "db-1 v2", "db-2 v2"]).await;
    make_ready(&cluster);
    update(&cluster, json!({"updateStrategy": {"rollingUpdate": {"partition": 0}}}));
    eventually(|| {
        make_ready(&cluster);
        pods(&cluster) == ["db-0 v2", "db-1 v2", "db-2 v2"]
    })
    .await;
    eventually(|| {
        let status = current(&cluster)["status"].clone();
        status["currentRevision"] == status["updateRevision"] && status["currentReplicas"] == 3
    })
    .await;
    harness.stop().await;
}

/// C3: there is never a second pod of a number, also while the view shows nothing.
#[tokio::test]
async fn a_stale_cache_makes_no_second_pod_of_a_number() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<StatefulSet>(), set(1, "v1", json!({})));
    cluster.hold_informers(&resource_of::<Pod>(), true);
    let harness = Harness::start(&cluster, run);
    eventually(|| pods(&cluster) == ["db-0 v1"]).await;
    for replicas in [2, 1, 2, 1] {
        update(&cluster, json!({"replicas": replicas}));
        tokio::task::yield_now().await;
    }
    cluster.hold_informers(&resource_of::<Pod>(), false);
    make_ready(&cluster);
    eventually(|| current(&cluster)["status"]["readyReplicas"] == 1).await;
    assert_eq!(pods(&cluster), ["db-0 v1"]);
    harness.stop().await;
}
