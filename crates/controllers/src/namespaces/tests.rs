use client::testing::FakeCluster;
use k8s_openapi::api::core::v1::ConfigMap;

use super::*;
use crate::testing::{Harness, eventually};

fn namespace() -> Value {
    json!({"metadata": {"name": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"},
           "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}})
}

fn cluster() -> Arc<FakeCluster> {
    let cluster = FakeCluster::new();
    cluster.serve_resource(&resource_of::<Namespace>(), "Namespace", false);
    cluster.serve_resource(&resource_of::<Pod>(), "Pod", true);
    cluster.serve_resource(&resource_of::<ConfigMap>(), "ConfigMap", true);
    cluster
}

#[tokio::test]
async fn a_deleted_namespace_goes_after_its_content() {
    let cluster = cluster();
    cluster.put(&resource_of::<ConfigMap>(), json!({"metadata": {"namespace": "shop", "name": "one"}}));
    cluster.put(&resource_of::<ConfigMap>(), json!({"metadata": {"namespace": "other", "name": "two"}}));
    cluster.put(&resource_of::<Namespace>(), namespace());
    let harness = Harness::start(&cluster, run);
    eventually(|| cluster.get(&resource_of::<Namespace>(), &ObjectKey::new("", "shop")).is_none()).await;
    let left: Vec<_> = cluster.list(&resource_of::<ConfigMap>());
    assert_eq!(left.len(), 1, "the other namespace's object is gone too");
    harness.stop().await;
}

#[tokio::test]
async fn what_has_finalizers_is_named_and_keeps_the_namespace() {
    let cluster = cluster();
    let pods = resource_of::<Pod>();
    cluster.put(&pods, json!({"metadata": {"namespace": "shop", "name": "web", "finalizers": ["example.com/hold"]}}));
    cluster.put(&resource_of::<Namespace>(), namespace());
    let harness = Harness::start(&cluster, run);
    let key = ObjectKey::new("", "shop");
    let condition = |kind: &str| {
        let namespace = cluster.get(&resource_of::<Namespace>(), &key).unwrap();
        let conditions = namespace["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().find(|one| one["type"] == kind).map_or(Value::Null, |one| one["message"].clone())
    };
    eventually(|| !condition("NamespaceContentRemaining").is_null()).await;
    assert_eq!(condition("NamespaceContentRemaining"), "Some resources are remaining: pods. has 1 resource instances");
    assert_eq!(
        condition("NamespaceFinalizersRemaining"),
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    );
    cluster.remove(&pods, &ObjectKey::new("shop", "web"));
    eventually(|| cluster.get(&resource_of::<Namespace>(), &key).is_none()).await;
    harness.stop().await;
}
