use client::testing::FakeCluster;
use client::typed::resource_of;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": "web", "generation": 1, "annotations": {"team": "a"}},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

/// Changes the spec as a user does, keeping what the controller wrote.
fn update(cluster: &FakeCluster, change: impl FnOnce(&mut Value)) {
    let resource = resource_of::<Deployment>();
    let mut object = cluster.get(&resource, &ObjectKey::new("shop", "web")).unwrap();
    change(&mut object);
    let generation = object["metadata"]["generation"].as_i64().unwrap();
    object["metadata"]["generation"] = json!(generation + 1);
    cluster.put(&resource, object);
}

fn current(cluster: &FakeCluster) -> Value {
    cluster.get(&resource_of::<Deployment>(), &ObjectKey::new("shop", "web")).unwrap()
}

/// `image replicas` of each ReplicaSet, by revision.
fn sets(cluster: &FakeCluster) -> Vec<String> {
    let mut sets = cluster.list(&resource_of::<ReplicaSet>());
    sets.sort_by_key(|set| set["metadata"]["annotations"][sets::REVISION].as_str().unwrap_or_default().to_owned());
    let line = |set: &Value| {
        let image = set["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
        format!("{image} {}", set["spec"]["replicas"])
    };
    sets.iter().map(line).collect()
}

/// Plays kubelet: every pod is ready.
fn make_ready(cluster: &FakeCluster) {
    for mut pod in cluster.list(&resource_of::<Pod>()) {
        if pod["status"]["phase"].is_null() {
            let since = "2026-01-01T00:00:00Z";
            pod["status"] = json!({"phase": "Running",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since}]});
            cluster.put(&resource_of::<Pod>(), pod);
        }
    }
}

fn start(cluster: &Arc<FakeCluster>) -> Harness {
    let mut harness = Harness::start(cluster, run);
    harness.also(cluster, crate::replicasets::run);
    harness
}

fn reason(cluster: &FakeCluster, kind: &str) -> String {
    let conditions = current(cluster)["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.into_iter().find(|one| one["type"] == kind);
    found.and_then(|one| one["reason"].as_str().map(ToOwned::to_owned)).unwrap_or_default()
}

#[tokio::test]
async fn a_new_template_replaces_the_old_within_its_limits() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Deployment>(), deployment(3, "v1"));
    let harness = start(&cluster);
    eventually(|| {
        make_ready(&cluster);
        reason(&cluster, "Progressing") == "NewReplicaSetAvailable"
    })
    .await;
    assert_eq!(sets(&cluster), ["v1 3"]);
    let set = &cluster.list(&resource_of::<ReplicaSet>())[0];
    assert_eq!(set["metadata"]["annotations"]["team"], "a");
    let hash = &set["metadata"]["labels"][sets::HASH];
    assert_eq!(&set["spec"]["selector"]["matchLabels"][sets::HASH], hash);

    update(&cluster, |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("v2"));
    eventually(|| sets(&cluster) == ["v1 3", "v2 1"]).await;
    eventually(|| cluster.list(&resource_of::<Pod>()).len() == 4).await;
    eventually(|| {
        make_ready(&cluster);
        assert!(cluster.list(&resource_of::<Pod>()).len() <= 4, "more pods than maxSurge allows");
        sets(&cluster) == ["v1 0", "v2 3"] && reason(&cluster, "Progressing") == "NewReplicaSetAvailable"
    })
    .await;
    assert_eq!(current(&cluster)["metadata"]["annotations"][sets::REVISION], "2");

    // Back to the first template: its ReplicaSet is taken again, as the newest revision.
    update(&cluster, |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("v1"));
    eventually(|| {
        make_ready(&cluster);
        sets(&cluster) == ["v2 0", "v1 3"]
    })
    .await;
    let revived =
        &cluster.list(&resource_of::<ReplicaSet>()).into_iter().find(|set| set["spec"]["replicas"] == 3).unwrap();
    assert_eq!(revived["metadata"]["annotations"][sets::REVISION], "3");
    assert_eq!(revived["metadata"]["annotations"][sets::REVISION_HISTORY], "1");
    harness.stop().await;
}

#[tokio::test]
async fn a_paused_deployment_scales_and_does_not_roll() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Deployment>(), deployment(2, "v1"));
    let harness = start(&cluster);
    eventually(|| sets(&cluster) == ["v1 2"]).await;
    update(&cluster, |object| {
        object["spec"]["paused"] = json!(true);
        object["spec"]["replicas"] = json!(4);
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("v2");
    });
    eventually(|| sets(&cluster) == ["v1 4"] && reason(&cluster, "Progressing") == "DeploymentPaused").await;
    update(&cluster, |object| object["spec"]["paused"] = json!(false));
    eventually(|| sets(&cluster).contains(&"v2 1".to_owned())).await;
    harness.stop().await;
}

#[tokio::test]
async fn recreate_waits_for_the_last_old_pod() {
    let cluster = FakeCluster::new();
    let mut object = deployment(2, "v1");
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    cluster.put(&resource_of::<Deployment>(), object);
    let harness = start(&cluster);
    eventually(|| cluster.list(&resource_of::<Pod>()).len() == 2).await;
    // A pod that takes its time to go.
    let mut slow = cluster.list(&resource_of::<Pod>())[0].clone();
    slow["metadata"]["finalizers"] = json!(["example.com/slow"]);
    let slow = cluster.put(&resource_of::<Pod>(), slow);
    update(&cluster, |object| object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("v2"));
    eventually(|| cluster.list(&resource_of::<Pod>()).len() == 1 && sets(&cluster) == ["v1 0"]).await;
    let key = ObjectKey::new("shop", slow["metadata"]["name"].as_str().unwrap());
    cluster.remove(&resource_of::<Pod>(), &key);
    eventually(|| sets(&cluster) == ["v1 0", "v2 2"]).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_name_taken_by_another_template_is_a_collision() {
    let cluster = FakeCluster::new();
    let object = deployment(1, "v1");
    let typed: Deployment = serde_json::from_value(object.clone()).unwrap();
    let mut squatter = sets::make_new(&typed, typed.spec.as_ref().unwrap(), 0, 0, 1);
    squatter["metadata"]["ownerReferences"] = Value::Null;
    squatter["metadata"]["labels"] = json!({});
    cluster.put(&resource_of::<ReplicaSet>(), squatter);
    cluster.put(&resource_of::<Deployment>(), object);
    let harness = start(&cluster);
    eventually(|| sets(&cluster).len() == 2).await;
    assert_eq!(current(&cluster)["status"]["collisionCount"], 1);
    harness.stop().await;
}

/// Sizes of ReplicaSets (replicas, available), the new one last, and what a step makes of them.
#[test]
fn old_replicas_are_taken_as_availability_allows() {
    let cases = [
        // 10 wanted, at most 2 missing: 8 available ones must stay.
        (10, 2, vec![(10, 10)], (0, 0), vec![8]),
        (10, 2, vec![(8, 8)], (4, 0), vec![8]),
        (10, 2, vec![(8, 8)], (4, 2), vec![6]),
        // What is not available goes first.
        (10, 2, vec![(8, 5), (3, 3)], (1, 1), vec![4, 3]),
        (3, 0, vec![(3, 3)], (1, 0), vec![3]),
        (3, 0, vec![(3, 3)], (1, 1), vec![2]),
    ];
    for (replicas, unavailable, olds, new, expected) in cases {
        let limits = rolling::Limits { replicas, surge: 0, unavailable, recreate: false };
        let set = |(replicas, available): (i32, i32)| {
            let object = json!({"metadata": {"name": "x"}, "spec": {"replicas": replicas, "selector": {}},
                                "status": {"replicas": replicas, "availableReplicas": available}});
            sets::Set::new(client::testing::entry("shop", "x", 1), serde_json::from_value(object).unwrap(), true)
        };
        let mut olds: Vec<sets::Set> = olds.into_iter().map(set).collect();
        rolling::shrink_old(&limits, &mut olds, &set(new));
        let sizes: Vec<i32> = olds.iter().map(|old| old.replicas).collect();
        assert_eq!(sizes, expected, "{replicas} wanted, {unavailable} may miss, new {new:?}");
    }
}

/// A resize in the middle of a rollout keeps the proportions (upstream's example of 10 to 15).
#[test]
fn a_resize_is_shared_in_proportion() {
    let set = |replicas: i32| {
        let object = json!({"metadata": {"name": "x", "annotations": {sets::DESIRED: "10", sets::MAX: "13"}},
                            "spec": {"replicas": replicas, "selector": {}}, "status": {"replicas": replicas}});
        sets::Set::new(client::testing::entry("shop", "x", 1), serde_json::from_value(object).unwrap(), true)
    };
    let mut sets = [set(8), set(5)];
    let limits = rolling::Limits { replicas: 15, surge: 3, unavailable: 2, recreate: false };
    assert!(rolling::is_resized(&limits, &sets));
    rolling::rescale(&limits, &mut sets, Some(1));
    assert_eq!(sets.map(|set| set.replicas), [11, 7]);
}
