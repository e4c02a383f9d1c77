use client::testing::FakeCluster;
use client::typed::resource_of;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn replica_set(replicas: i32) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "web", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    })
}

fn pod(name: &str, phase: &str, ready: bool) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" },
                   "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })
}

fn pods(cluster: &FakeCluster) -> Vec<Value> {
    cluster.list(&resource_of::<Pod>())
}

fn status(cluster: &FakeCluster) -> Value {
    cluster.get(&resource_of::<ReplicaSet>(), &ObjectKey::new("shop", "web")).unwrap()["status"].clone()
}

#[tokio::test]
async fn the_number_of_pods_follows_the_spec() {
    let cluster = FakeCluster::new();
    let sets = resource_of::<ReplicaSet>();
    let stored = cluster.put(&sets, replica_set(5));
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["replicas"] == 5).await;
    assert_eq!(pods(&cluster).len(), 5);
    let owner = &pods(&cluster)[0]["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["uid"], &owner["controller"]), (&stored["metadata"]["uid"], &json!(true)));
    cluster.put(&sets, replica_set(2));
    eventually(|| status(&cluster)["replicas"] == 2).await;
    assert_eq!(pods(&cluster).len(), 2);
    harness.stop().await;
}

/// C3: with informers that show nothing of what was done, nothing is done twice.
#[tokio::test]
async fn a_stale_cache_makes_no_pod_too_many() {
    let cluster = FakeCluster::new();
    let sets = resource_of::<ReplicaSet>();
    cluster.put(&sets, replica_set(3));
    // The controller's own informer of ReplicaSets must move to wake it; pods' must not.
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["replicas"] == 3).await;
    let victim = pods(&cluster)[0]["metadata"]["name"].as_str().unwrap().to_owned();
    cluster.hold_informers(&resource_of::<Pod>(), true);
    cluster.remove(&resource_of::<Pod>(), &ObjectKey::new("shop", &victim));
    cluster.put(&sets, replica_set(4));
    eventually(|| pods(&cluster).len() == 3).await;
    for wake in 0..20 {
        let mut set = replica_set(4);
        set["metadata"]["annotations"] = json!({"wake": wake.to_string()});
        cluster.put(&sets, set);
        tokio::task::yield_now().await;
    }
    eventually(|| status(&cluster)["observedGeneration"] == 1).await;
    assert_eq!(pods(&cluster).len(), 3, "pods were created for the same lack twice");
    cluster.hold_informers(&resource_of::<Pod>(), false);
    eventually(|| pods(&cluster).len() == 4).await;
    harness.stop().await;
}

#[tokio::test]
async fn orphans_are_adopted_and_strangers_released() {
    let cluster = FakeCluster::new();
    let set = cluster.put(&resource_of::<ReplicaSet>(), replica_set(2));
    cluster.put(&resource_of::<Pod>(), pod("orphan", "Running", true));
    let mut stranger = pod("stranger", "Running", true);
    stranger["metadata"]["labels"] = json!({"app": "other"});
    stranger["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web",
        "uid": set["metadata"]["uid"], "controller": true}]);
    cluster.put(&resource_of::<Pod>(), stranger);
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["replicas"] == 2).await;
    let owners = |name: &str| {
        let pod = cluster.get(&resource_of::<Pod>(), &ObjectKey::new("shop", name)).unwrap();
        pod["metadata"]["ownerReferences"].clone()
    };
    eventually(|| owners("stranger").is_null()).await;
    assert_eq!(owners("orphan")[0]["uid"], set["metadata"]["uid"]);
    assert_eq!(pods(&cluster).len(), 3);
    harness.stop().await;
}

#[tokio::test]
async fn a_refusal_becomes_a_condition_and_an_event_and_is_tried_again() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<ReplicaSet>(), replica_set(1));
    let refusal = client::testing::refusal(403, "Forbidden", "exceeded quota");
    cluster.refuse_once("POST /api/v1/namespaces/shop/pods", refusal);
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["replicas"] == 1).await;
    let events = cluster.list(&resource_of::<k8s_openapi::api::core::v1::Event>());
    assert!(events.iter().any(|event| event["message"] == "Error creating: exceeded quota"), "{events:?}");
    let statuses: Vec<Value> = cluster
        .take_requests()
        .into_iter()
        .filter(|request| request.method == "PUT")
        .map(|request| request.body)
        .collect();
    assert_eq!(statuses[0]["status"]["conditions"][0]["reason"], "FailedCreate");
    assert!(status(&cluster)["conditions"].is_null());
    harness.stop().await;
}

/// Which of the pods go when one is wanted: the plan alone, no server.
#[test]
fn the_least_useful_pods_go_first() {
    let entry = client::testing::entry("shop", "web", 1);
    let owner = observe::Kind::read(serde_json::from_value::<ReplicaSet>(replica_set(1)).unwrap());
    let mut unassigned = pod("unassigned", "Pending", false);
    unassigned["spec"] = json!({"containers": []});
    let mut cheap = pod("cheap", "Running", true);
    cheap["metadata"]["annotations"] = json!({"controller.kubernetes.io/pod-deletion-cost": "-5"});
    let documents = [
        pod("good", "Running", true),
        cheap,
        pod("unready", "Running", false),
        unassigned,
        pod("done", "Succeeded", false),
    ];
    let pods = documents.into_iter().map(|pod| serde_json::from_value(pod).unwrap()).collect();
    let mut observed =
        observe::Observed { entry, owner, pods, crowding: std::collections::HashMap::new(), current: true };
    let names = |observed: &observe::Observed| -> Vec<String> {
        let plan = plan::plan(observed, "2026-01-01T00:10:00Z".parse().unwrap());
        plan.delete.into_iter().filter_map(|pod| pod.metadata.name).collect()
    };
    assert_eq!(names(&observed), ["unassigned", "unready", "cheap"]);
    observed.current = false;
    assert!(names(&observed).is_empty(), "deleted on a stale view");
}
