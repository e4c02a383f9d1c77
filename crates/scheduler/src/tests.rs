//! The whole scheduler against a cluster in memory.

use std::time::Duration;

use api::object::ObjectKey;
use client::clock::SystemClock;
use client::testing::FakeCluster;
use client::typed::resource_of;
use k8s_openapi::api::core::v1::{Event as EventObject, Node, Pod};
use serde_json::{Value, json};

use super::*;

struct Harness {
    cluster: Arc<FakeCluster>,
    token: CancellationToken,
    tasks: JoinSet<()>,
}

impl Harness {
    fn start() -> Self {
        let cluster = FakeCluster::new();
        let token = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let client = cluster.client("system:kube-scheduler");
        let clock = SystemClock::shared();
        tasks.spawn(run(Config::default(), client, cluster.informers(), clock, token.clone()));
        Self { cluster, token, tasks }
    }

    fn node(&self, name: &str, cpu: &str) {
        let allocatable = json!({"cpu": cpu, "memory": "8Gi", "pods": "110"});
        let labels = json!({"kubernetes.io/hostname": name});
        let node = json!({"metadata": {"name": name, "labels": labels}, "status": {"allocatable": allocatable}});
        self.cluster.put(&resource_of::<Node>(), node);
    }

    fn pod(&self, name: &str, cpu: &str, priority: i32) {
        let container = json!({"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}});
        let spec = json!({"schedulerName": "default-scheduler", "priority": priority, "containers": [container]});
        self.cluster.put(&resource_of::<Pod>(), json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}));
    }

    fn get(&self, name: &str) -> Value {
        self.cluster.get(&resource_of::<Pod>(), &ObjectKey::new("shop", name)).unwrap_or_default()
    }

    /// Waits for the binding of the pod, carries it out as the API server does, and says where to.
    async fn bound(&self, name: &str) -> String {
        let line = format!("POST /api/v1/namespaces/shop/pods/{name}/binding");
        let mut node = String::new();
        eventually(|| {
            let requests = self.cluster.take_requests();
            let binding = requests.into_iter().find(|request| request.line() == line);
            binding.is_some_and(|binding| {
                assert_eq!(binding.identity, "system:kube-scheduler");
                assert_eq!(binding.body["metadata"]["uid"], self.get(name)["metadata"]["uid"]);
                node = binding.body["target"]["name"].as_str().unwrap().to_owned();
                true
            })
        })
        .await;
        let mut pod = self.get(name);
        pod["spec"]["nodeName"] = json!(node);
        self.cluster.put(&resource_of::<Pod>(), pod);
        node
    }

    async fn condition(&self, name: &str) -> Value {
        eventually(|| self.get(name)["status"]["conditions"].is_array()).await;
        self.get(name)["status"]["conditions"][0].clone()
    }

    async fn event(&self, reason: &str) -> String {
        let find = || {
            let events = self.cluster.list(&resource_of::<EventObject>());
            events.into_iter().find(|event| event["reason"] == reason)
        };
        eventually(|| find().is_some()).await;
        find().unwrap()["message"].as_str().unwrap().to_owned()
    }

    async fn stop(mut self) {
        self.token.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the scheduler panicked");
        }
    }
}

/// Lets the scheduler work until `condition` holds; a test that it never does fails.
async fn eventually(mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "it did not happen within 10 s");
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_pod_is_bound_and_that_is_told() {
    let harness = Harness::start();
    harness.node("n1", "2");
    harness.pod("web", "1", 0);
    assert_eq!(harness.bound("web").await, "n1");
    assert_eq!(harness.event("Scheduled").await, "Successfully assigned shop/web to n1");
    harness.stop().await;
}

#[tokio::test]
async fn a_pod_without_room_says_why_and_is_placed_when_there_is_some() {
    let harness = Harness::start();
    harness.node("n1", "1");
    harness.pod("big", "2", 0);
    let condition = harness.condition("big").await;
    let message = "0/1 nodes are available: 1 Insufficient cpu. \
                   preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Unschedulable")));
    assert_eq!(condition["message"], message);
    assert_eq!(harness.event("FailedScheduling").await, message);
    harness.node("n2", "4");
    assert_eq!(harness.bound("big").await, "n2");
    harness.stop().await;
}

#[tokio::test]
async fn a_more_important_pod_takes_the_place_of_another() {
    let harness = Harness::start();
    harness.node("n1", "1");
    harness.pod("small", "1", 0);
    assert_eq!(harness.bound("small").await, "n1");
    harness.pod("urgent", "1", 100);
    assert_eq!(harness.bound("urgent").await, "n1");
    assert_eq!(harness.get("small"), Value::Null);
    assert_eq!(harness.get("urgent")["status"]["nominatedNodeName"], "n1");
    harness.stop().await;
}

/// Claims that wait for their pods, a volume for each, and pods.
fn put_claimed(harness: &Harness, names: &[&str]) {
    use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
    use k8s_openapi::api::storage::v1::StorageClass;
    let class = json!({"metadata": {"name": "late"}, "provisioner": "kubernetes.io/no-provisioner",
                       "volumeBindingMode": "WaitForFirstConsumer"});
    harness.cluster.put(&resource_of::<StorageClass>(), class);
    for name in names {
        let spec =
            json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "late", "capacity": {"storage": "1Gi"}});
        let volume = json!({"metadata": {"name": format!("v-{name}")}, "spec": spec, "status": {"phase": "Available"}});
        harness.cluster.put(&resource_of::<PersistentVolume>(), volume);
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "late", "resources": {"requests": {"storage": "1Gi"}}});
        let claim =
            json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec, "status": {"phase": "Pending"}});
        harness.cluster.put(&resource_of::<PersistentVolumeClaim>(), claim);
    }
    for name in names {
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
        let spec = json!({"schedulerName": "default-scheduler", "containers": [], "volumes": [volume]});
        harness
            .cluster
            .put(&resource_of::<Pod>(), json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}));
    }
}

/// Plays the volume controller: claims that volumes name are bound to them.
fn complete(cluster: &FakeCluster) -> Vec<String> {
    use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
    let mut bound = Vec::new();
    for volume in cluster.list(&resource_of::<PersistentVolume>()) {
        let Some(name) = volume["spec"]["claimRef"]["name"].as_str() else { continue };
        bound.push(name.to_owned());
        let key = ObjectKey::new("shop", name);
        let mut claim = cluster.get(&resource_of::<PersistentVolumeClaim>(), &key).unwrap();
        if claim["status"]["phase"] != "Bound" {
            assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
            claim["metadata"]["annotations"] = json!({"pv.kubernetes.io/bind-completed": "yes"});
            claim["spec"]["volumeName"] = volume["metadata"]["name"].clone();
            claim["status"]["phase"] = json!("Bound");
            cluster.put(&resource_of::<PersistentVolumeClaim>(), claim);
        }
    }
    bound.sort();
    bound
}

#[tokio::test]
async fn pods_that_come_together_get_volumes_of_their_own() {
    let harness = Harness::start();
    put_claimed(&harness, &["a", "b", "c"]);
    // The choice of the first is overtaken by somebody: it looks again.
    let refused = client::testing::refusal(409, "Conflict", "the object has been modified");
    harness.cluster.refuse_once("PATCH /api/v1/persistentvolumes/v-a", refused);
    harness.node("n1", "4");
    eventually(|| complete(&harness.cluster) == ["a", "b", "c"]).await;
    let patches = harness
        .cluster
        .take_requests()
        .into_iter()
        .filter(|it| it.line().starts_with("PATCH /api/v1/persistentvolumes/"));
    let patches: Vec<_> = patches.collect();
    assert_eq!(patches.len(), 4, "each volume once, and one again");
    for patch in patches {
        assert!(patch.body["metadata"]["resourceVersion"].is_string(), "{}", patch.body);
        assert_eq!(patch.body["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"], "yes");
    }
    harness.stop().await;
}
