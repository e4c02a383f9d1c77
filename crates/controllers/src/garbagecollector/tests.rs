use api::object::ObjectKey;
use client::request::Delete;
use client::testing::FakeCluster;
use client::typed::resource_of;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn cluster() -> Arc<FakeCluster> {
    let cluster = FakeCluster::new();
    cluster.serve_resource(&resource_of::<Deployment>(), "Deployment", true);
    cluster.serve_resource(&resource_of::<ReplicaSet>(), "ReplicaSet", true);
    cluster.serve_resource(&resource_of::<Pod>(), "Pod", true);
    cluster
}

fn put(cluster: &FakeCluster, resource: &GroupVersionResource, name: &str, owners: &[(&str, &str, &Value)]) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(version, kind, owner)| {
            json!({"apiVersion": version, "kind": kind, "name": owner["metadata"]["name"],
                   "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true})
        })
        .collect();
    cluster.put(resource, json!({"metadata": {"namespace": "shop", "name": name, "ownerReferences": owners}}))
}

/// A Deployment `web` that owns a ReplicaSet `web-1` that owns a Pod `web-1-a`.
fn family(cluster: &FakeCluster) {
    let deployment = put(cluster, &resource_of::<Deployment>(), "web", &[]);
    let set = put(cluster, &resource_of::<ReplicaSet>(), "web-1", &[("apps/v1", "Deployment", &deployment)]);
    put(cluster, &resource_of::<Pod>(), "web-1-a", &[("apps/v1", "ReplicaSet", &set)]);
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

async fn delete(cluster: &Arc<FakeCluster>, policy: &'static str) {
    let requests = Requests::new(cluster.client("user"));
    let options = Delete::default().propagation(policy);
    requests.delete(&resource_of::<Deployment>(), &key("web"), &options).await.unwrap();
}

#[tokio::test]
async fn in_the_background_what_an_object_owned_goes_after_it() {
    let cluster = cluster();
    family(&cluster);
    let harness = Harness::start(&cluster, run);
    delete(&cluster, "Background").await;
    assert!(cluster.get(&resource_of::<Deployment>(), &key("web")).is_none());
    eventually(|| cluster.get(&resource_of::<Pod>(), &key("web-1-a")).is_none()).await;
    harness.stop().await;
}

#[tokio::test]
async fn in_the_foreground_the_owner_goes_last() {
    let cluster = cluster();
    family(&cluster);
    let mut pod = cluster.get(&resource_of::<Pod>(), &key("web-1-a")).unwrap();
    pod["metadata"]["finalizers"] = json!(["example.com/slow"]);
    cluster.put(&resource_of::<Pod>(), pod);
    let harness = Harness::start(&cluster, run);
    delete(&cluster, "Foreground").await;
    let deleting = |resource: &GroupVersionResource, name: &str| {
        cluster.get(resource, &key(name)).is_some_and(|object| !object["metadata"]["deletionTimestamp"].is_null())
    };
    eventually(|| deleting(&resource_of::<Pod>(), "web-1-a")).await;
    assert!(deleting(&resource_of::<ReplicaSet>(), "web-1") && deleting(&resource_of::<Deployment>(), "web"));
    cluster.remove(&resource_of::<Pod>(), &key("web-1-a"));
    eventually(|| cluster.get(&resource_of::<Deployment>(), &key("web")).is_none()).await;
    assert!(cluster.get(&resource_of::<ReplicaSet>(), &key("web-1")).is_none());
    harness.stop().await;
}

#[tokio::test]
async fn orphaned_dependents_stay_without_their_reference() {
    let cluster = cluster();
    family(&cluster);
    let harness = Harness::start(&cluster, run);
    delete(&cluster, "Orphan").await;
    eventually(|| cluster.get(&resource_of::<Deployment>(), &key("web")).is_none()).await;
    let set = cluster.get(&resource_of::<ReplicaSet>(), &key("web-1")).unwrap();
    assert!(set["metadata"]["ownerReferences"].is_null());
    assert!(cluster.get(&resource_of::<Pod>(), &key("web-1-a")).is_some());
    harness.stop().await;
}

#[tokio::test]
async fn what_was_left_by_an_owner_long_gone_goes_and_what_has_another_owner_stays() {
    let cluster = cluster();
    let gone = json!({"metadata": {"name": "gone", "uid": "never-seen"}});
    let there = put(&cluster, &resource_of::<ReplicaSet>(), "there", &[]);
    put(&cluster, &resource_of::<Pod>(), "one", &[("apps/v1", "ReplicaSet", &gone)]);
    put(&cluster, &resource_of::<Pod>(), "two", &[("apps/v1", "ReplicaSet", &gone), ("apps/v1", "ReplicaSet", &there)]);
    let mystery = [("example.com/v1", "Mystery", &gone)];
    put(&cluster, &resource_of::<Pod>(), "three", &mystery);
    let harness = Harness::start(&cluster, run);
    eventually(|| cluster.get(&resource_of::<Pod>(), &key("one")).is_none()).await;
    let owners = || cluster.get(&resource_of::<Pod>(), &key("two")).unwrap()["metadata"]["ownerReferences"].clone();
    eventually(|| owners().as_array().is_some_and(|owners| owners.len() == 1)).await;
    assert_eq!(owners()[0]["name"], "there");
    assert!(
        cluster.get(&resource_of::<Pod>(), &key("three")).is_some(),
        "an owner of an unknown kind was taken for gone"
    );
    harness.stop().await;
}

#[tokio::test]
async fn objects_that_own_each_other_in_a_circle_all_go() {
    let cluster = cluster();
    let named = |name: &str| json!({"metadata": {"name": name, "uid": format!("uid-of-{name}")}});
    let resource = resource_of::<Deployment>();
    for (name, owner) in [("web", "third"), ("second", "web"), ("third", "second")] {
        let (owner, mut object) = (named(owner), named(name));
        object["metadata"]["namespace"] = json!("shop");
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment",
            "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true}]);
        cluster.put(&resource, object);
    }
    let harness = Harness::start(&cluster, run);
    delete(&cluster, "Foreground").await;
    let left = || ["web", "second", "third"].iter().filter(|it| cluster.get(&resource, &key(it)).is_some()).count();
    eventually(|| left() == 0).await;
    harness.stop().await;
}

#[tokio::test]
async fn references_to_other_places_point_at_nothing() {
    let cluster = cluster();
    let set = put(&cluster, &resource_of::<ReplicaSet>(), "there", &[]);
    let elsewhere = |name: &str, namespace: &str, owner: &str| {
        let reference =
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": set["metadata"]["uid"]});
        json!({"metadata": {"namespace": namespace, "name": name, "ownerReferences": [reference]}})
    };
    let pods = resource_of::<Pod>();
    cluster.put(&pods, elsewhere("mine", "shop", "there"));
    let harness = Harness::start(&cluster, run);
    cluster.put(&pods, elsewhere("far", "other", "there"));
    cluster.put(&pods, elsewhere("misnamed", "shop", "them"));
    let far = ObjectKey::new("other", "far");
    eventually(|| cluster.get(&pods, &far).is_none() && cluster.get(&pods, &key("misnamed")).is_none()).await;
    assert!(cluster.get(&pods, &key("mine")).is_some());
    let events = || cluster.list(&resource_of::<Event>());
    eventually(|| !events().is_empty()).await;
    let [event] = <[Value; 1]>::try_from(events()).unwrap();
    assert_eq!((&event["reason"], &event["type"]), (&json!("OwnerRefInvalidNamespace"), &json!("Warning")));
    assert_eq!((&event["involvedObject"]["kind"], &event["involvedObject"]["name"]), (&json!("Pod"), &json!("far")));
    let uid = set["metadata"]["uid"].as_str().unwrap();
    let expected = format!(
        "ownerRef [apps/v1/ReplicaSet, namespace: other, name: there, uid: {uid}] does not exist in namespace \"other\""
    );
    assert_eq!(event["message"], expected);
    harness.stop().await;
}
