use client::testing::FakeCluster;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn pod(cluster: &FakeCluster, name: &str, ready: bool, owner: Option<&Value>) {
    let owners: Vec<Value> = owner
        .map(|owner| {
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner["metadata"]["name"],
                   "uid": owner["metadata"]["uid"], "controller": true})
        })
        .into_iter()
        .collect();
    let state = if ready { "True" } else { "False" };
    cluster.put(
        &resource_of::<Pod>(),
        json!({"metadata": {"namespace": "shop", "name": name, "labels": {"app": "web"}, "ownerReferences": owners},
               "spec": {"containers": []},
               "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": state}]}}),
    );
}

/// A ReplicaSet of so many, that a Deployment of ten owns.
fn deployment(cluster: &FakeCluster) -> Value {
    let metadata = json!({"namespace": "shop", "name": "web"});
    let owner = cluster.put(&resource_of::<Deployment>(), json!({"metadata": metadata, "spec": {"replicas": 10}}));
    let owners = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                         "uid": owner["metadata"]["uid"], "controller": true}]);
    let metadata = json!({"namespace": "shop", "name": "web-1", "ownerReferences": owners});
    cluster.put(&resource_of::<ReplicaSet>(), json!({"metadata": metadata, "spec": {"replicas": 2}}))
}

fn budget(cluster: &FakeCluster, spec: Value) {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"app": "web"}});
    let metadata = json!({"namespace": "shop", "name": "web", "generation": 3});
    cluster.put(&resource_of::<PodDisruptionBudget>(), json!({"metadata": metadata, "spec": spec}));
}

fn status(cluster: &FakeCluster) -> Value {
    let found = cluster.get(&resource_of::<PodDisruptionBudget>(), &ObjectKey::new("shop", "web"));
    found.map(|found| found["status"].clone()).unwrap_or_default()
}

#[tokio::test]
async fn a_budget_counts_its_pods() {
    let cluster = FakeCluster::new();
    budget(&cluster, json!({"minAvailable": 1}));
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["observedGeneration"] == 3).await;
    assert_eq!(status(&cluster)["disruptionsAllowed"], 0);
    for (name, ready) in [("a", true), ("b", true), ("c", false)] {
        pod(&cluster, name, ready, None);
    }
    eventually(|| status(&cluster)["disruptionsAllowed"] == 1).await;
    let status = status(&cluster);
    let counts = ["expectedPods", "currentHealthy", "desiredHealthy"].map(|field| status[field].clone());
    assert_eq!(counts, [json!(3), json!(2), json!(1)]);
    assert_eq!(status["conditions"][0]["reason"], "SufficientPods");
    harness.stop().await;
}

#[tokio::test]
async fn a_share_is_one_of_what_the_deployment_asks_for() {
    let cluster = FakeCluster::new();
    let set = deployment(&cluster);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        pod(&cluster, name, true, Some(&set));
    }
    budget(&cluster, json!({"maxUnavailable": "25%"}));
    let harness = Harness::start(&cluster, run);
    // A quarter of ten is three, and one of ten is missing already.
    eventually(|| status(&cluster)["disruptionsAllowed"] == 2).await;
    assert_eq!(status(&cluster)["expectedPods"], 10);
    harness.stop().await;
}

#[tokio::test]
async fn an_evicted_pod_does_not_count_until_it_is_clear_that_it_stays() {
    let cluster = FakeCluster::new();
    for name in ["a", "b", "c"] {
        pod(&cluster, name, true, None);
    }
    budget(&cluster, json!({"minAvailable": 1}));
    let mut budget = cluster.get(&resource_of::<PodDisruptionBudget>(), &ObjectKey::new("shop", "web")).unwrap();
    let now = jiff::Timestamp::now().to_string();
    budget["status"]["disruptedPods"] = json!({"a": now, "b": "2026-01-01T00:00:00Z", "gone": now});
    cluster.put(&resource_of::<PodDisruptionBudget>(), budget);
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["disruptionsAllowed"] == 1).await;
    let noted = status(&cluster)["disruptedPods"].clone();
    assert_eq!(noted.as_object().unwrap().keys().collect::<Vec<_>>(), ["a"]);
    harness.stop().await;
}

#[tokio::test]
async fn a_budget_that_cannot_be_counted_allows_nothing() {
    let cluster = FakeCluster::new();
    let gone = json!({"metadata": {"name": "gone", "uid": "u"}});
    pod(&cluster, "a", true, Some(&gone));
    budget(&cluster, json!({"maxUnavailable": 1}));
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["conditions"][0]["reason"] == "SyncFailed").await;
    assert_eq!(status(&cluster)["conditions"][0]["message"], "found no controllers for pod \"a\"");
    assert_eq!(status(&cluster)["disruptionsAllowed"], 0);
    harness.stop().await;
}
