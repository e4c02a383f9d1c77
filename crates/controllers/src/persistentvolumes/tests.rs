//! The controller in a cluster in memory.

use client::testing::FakeCluster;
use client::typed::resource_of;
use serde_json::json;

use super::*;
use crate::testing::{Harness, eventually};

struct World {
    cluster: Arc<FakeCluster>,
    harness: Harness,
}

impl World {
    fn start(objects: impl FnOnce(&FakeCluster)) -> Self {
        let cluster = FakeCluster::new();
        objects(&cluster);
        let harness = Harness::start(&cluster, run);
        Self { cluster, harness }
    }

    fn claim(&self, name: &str) -> Value {
        self.cluster.get(&claims(), &ObjectKey::new("shop", name)).unwrap_or_default()
    }

    fn volume(&self, name: &str) -> Value {
        self.cluster.get(&volumes(), &ObjectKey::new("", name)).unwrap_or_default()
    }

    fn phases(&self) -> Vec<String> {
        let phase = |it: Value| format!("{} {}", it["metadata"]["name"], it["status"]["phase"]).replace('"', "");
        self.cluster.list(&claims()).into_iter().chain(self.cluster.list(&volumes())).map(phase).collect()
    }

    fn events(&self) -> Vec<String> {
        let events = self.cluster.list(&resource_of::<k8s_openapi::api::core::v1::Event>());
        let text = |it: &Value| format!("{} {} {}", it["involvedObject"]["name"], it["reason"], it["count"]);
        events.iter().map(|it| text(it).replace('"', "")).collect()
    }
}

fn claims() -> api::resource::GroupVersionResource {
    resource_of::<PersistentVolumeClaim>()
}

fn volumes() -> api::resource::GroupVersionResource {
    resource_of::<PersistentVolume>()
}

fn put_claim(cluster: &FakeCluster, name: &str, class: &str) {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class});
    cluster.put(
        &claims(),
        json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec, "status": {"phase": "Pending"}}),
    );
}

fn put_volume(cluster: &FakeCluster, name: &str, class: &str) {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": class,
                      "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/data"}});
    cluster.put(&volumes(), json!({"metadata": {"name": name}, "spec": spec, "status": {"phase": "Pending"}}));
}

#[tokio::test]
async fn each_claim_gets_a_volume_of_its_own_and_a_deleted_ones_is_kept() {
    let world = World::start(|cluster| {
        for name in ["c1", "c2", "c3"] {
            put_claim(cluster, name, "");
        }
        put_volume(cluster, "v1", "");
        put_volume(cluster, "v2", "");
    });
    let bound = ["c1 Bound", "c2 Bound", "c3 Pending", "v1 Bound", "v2 Bound"];
    eventually(|| world.phases() == bound).await;
    for claim in ["c1", "c2"] {
        let claim = world.claim(claim);
        let volume = world.volume(claim["spec"]["volumeName"].as_str().unwrap());
        assert_eq!(volume["spec"]["claimRef"]["uid"], claim["metadata"]["uid"]);
        assert_eq!(claim["status"]["capacity"]["storage"], "1Gi");
    }
    // A volume that comes later is for who waits.
    put_volume(&world.cluster, "v3", "");
    eventually(|| world.phases()[2] == "c3 Bound").await;
    let first = world.claim("c1")["spec"]["volumeName"].as_str().unwrap().to_owned();
    world.cluster.remove(&claims(), &ObjectKey::new("shop", "c1"));
    eventually(|| world.volume(&first)["status"]["phase"] == "Released").await;
    assert!(world.volume(&first)["spec"]["claimRef"]["uid"].is_string(), "nobody else gets the data");
    // A claim of the same name is another.
    put_claim(&world.cluster, "c1", "");
    eventually(|| world.events().iter().any(|it| it.starts_with("c1 FailedBinding"))).await;
    assert_eq!(world.claim("c1")["status"]["phase"], "Pending");
    world.harness.stop().await;
}

#[tokio::test]
async fn nothing_is_told_or_written_twice() {
    let world = World::start(|cluster| {
        put_claim(cluster, "waits", "gold");
        let class = json!({"metadata": {"name": "gold"}, "provisioner": "example.com/disks"});
        cluster.put(&resource_of::<StorageClass>(), class);
    });
    let told = ["waits ExternalProvisioning 1"];
    eventually(|| world.events() == told).await;
    let annotations = world.claim("waits")["metadata"]["annotations"].clone();
    assert_eq!(annotations[PROVISIONER], "example.com/disks");
    // Another class and another volume change nothing for it.
    put_volume(&world.cluster, "other", "silver");
    put_volume(&world.cluster, "small", "gold");
    eventually(|| world.phases().contains(&"waits Bound".to_owned())).await;
    assert_eq!(world.events(), told);
    let writes =
        |world: &World| world.cluster.take_writes().iter().filter(|it| it.contains("persistentvolume")).count();
    assert!(writes(&world) > 0);
    eventually(|| world.phases().contains(&"other Available".to_owned())).await;
    writes(&world);
    world.cluster.put(&volumes(), world.volume("other"));
    put_claim(&world.cluster, "last", "silver");
    eventually(|| world.phases().contains(&"last Bound".to_owned())).await;
    assert_eq!(writes(&world), 4, "volume, its phase, claim, its phase");
    world.harness.stop().await;
}

#[tokio::test]
async fn what_was_written_holds_before_the_news_of_it_come() {
    let world = World::start(|_| {});
    put_volume(&world.cluster, "v1", "");
    eventually(|| world.volume("v1")["status"]["phase"] == "Available").await;
    world.cluster.hold_informers(&volumes(), true);
    put_claim(&world.cluster, "c1", "");
    put_claim(&world.cluster, "c2", "");
    eventually(|| world.claim("c1")["status"]["phase"] == "Bound").await;
    eventually(|| world.events().iter().any(|it| it.starts_with("c2 FailedBinding"))).await;
    world.cluster.hold_informers(&volumes(), false);
    world.harness.stop().await;
}

#[tokio::test]
async fn a_claim_whose_volume_is_gone_is_lost() {
    let world = World::start(|cluster| {
        put_claim(cluster, "c1", "");
        put_volume(cluster, "v1", "");
    });
    eventually(|| world.phases() == ["c1 Bound", "v1 Bound"]).await;
    world.cluster.remove(&volumes(), &ObjectKey::new("", "v1"));
    eventually(|| world.phases() == ["c1 Lost"]).await;
    eventually(|| world.events().iter().any(|it| it == "c1 ClaimLost 1")).await;
    world.harness.stop().await;
}
