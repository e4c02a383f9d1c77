use client::testing::FakeCluster;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;

use super::*;
use crate::testing::{Harness, eventually};

fn cluster() -> Arc<FakeCluster> {
    let cluster = FakeCluster::new();
    cluster.serve_resource(&resource_of::<ResourceQuota>(), "ResourceQuota", true);
    cluster.serve_resource(&resource_of::<Pod>(), "Pod", true);
    cluster.serve_resource(&resource_of::<ConfigMap>(), "ConfigMap", true);
    cluster
}

fn quota(name: &str, hard: Value) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"hard": hard}})
}

fn used(cluster: &FakeCluster, name: &str) -> Value {
    let quota = cluster.get(&resource_of::<ResourceQuota>(), &ObjectKey::new("shop", name));
    quota.map_or(Value::Null, |quota| quota["status"]["used"].clone())
}

#[tokio::test]
async fn what_goes_is_given_back() {
    let cluster = cluster();
    let (pods, quotas) = (resource_of::<Pod>(), resource_of::<ResourceQuota>());
    let pod = |name: &str| {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "500m"}}});
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": {"containers": [container]}})
    };
    cluster.put(&pods, pod("a"));
    cluster.put(&pods, pod("b"));
    cluster.put(&quotas, quota("q", json!({"pods": "5", "requests.cpu": "2", "count/configmaps": "3"})));
    let harness = Harness::start(&cluster, run);
    eventually(|| used(&cluster, "q") == json!({"count/configmaps": "0", "pods": "2", "requests.cpu": "1"})).await;
    cluster.remove(&pods, &ObjectKey::new("shop", "a"));
    eventually(|| used(&cluster, "q") == json!({"count/configmaps": "0", "pods": "1", "requests.cpu": "500m"})).await;
    let mut ended = pod("b");
    ended["status"] = json!({"phase": "Succeeded"});
    cluster.put(&pods, ended);
    eventually(|| used(&cluster, "q")["pods"] == "0").await;
    harness.stop().await;
}

#[tokio::test]
async fn a_quota_that_changes_is_counted_anew() {
    let cluster = cluster();
    let quotas = resource_of::<ResourceQuota>();
    cluster.put(&resource_of::<ConfigMap>(), json!({"metadata": {"namespace": "shop", "name": "one"}}));
    cluster.put(&resource_of::<ConfigMap>(), json!({"metadata": {"namespace": "other", "name": "two"}}));
    let harness = Harness::start(&cluster, run);
    cluster.put(&quotas, quota("q", json!({"pods": "5"})));
    eventually(|| used(&cluster, "q") == json!({"pods": "0"})).await;
    cluster.put(&quotas, quota("q", json!({"configmaps": "5"})));
    eventually(|| used(&cluster, "q") == json!({"configmaps": "1"})).await;
    harness.stop().await;
}
