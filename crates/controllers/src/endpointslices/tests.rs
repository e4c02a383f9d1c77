use client::testing::FakeCluster;
use client::typed::resource_of;
use k8s_openapi::api::core::v1::Endpoints;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn service(spec: Value) -> Value {
    let mut spec = spec;
    spec["ipFamilies"] = json!(["IPv4"]);
    json!({"metadata": {"namespace": "shop", "name": "web", "labels": {"team": "a"}}, "spec": spec})
}

fn pod(number: usize, ready: bool) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": format!("web-{number:03}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.42.{}.{}", number / 250, number % 250 + 1)}],
                   "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

fn put_pod(cluster: &FakeCluster, number: usize, ready: bool) {
    cluster.put(&resource_of::<Pod>(), pod(number, ready));
}

/// Per slice: `ports: address flags` with `r` for ready, `s` serving, `t` terminating.
fn slices(cluster: &FakeCluster) -> Vec<String> {
    let line = |slice: Value| {
        let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
        let ports: Vec<String> =
            slice.ports.unwrap_or_default().iter().map(|port| port.port.unwrap_or_default().to_string()).collect();
        let endpoints: Vec<String> = slice
            .endpoints
            .iter()
            .flatten()
            .map(|endpoint| {
                let conditions = endpoint.conditions.clone().unwrap_or_default();
                let flag = |is: Option<bool>, letter: &'static str| if is == Some(true) { letter } else { "" };
                format!(
                    "{} {}{}{}",
                    endpoint.addresses[0],
                    flag(conditions.ready, "r"),
                    flag(conditions.serving, "s"),
                    flag(conditions.terminating, "t")
                )
            })
            .collect();
        format!("{}: {}", ports.join(","), endpoints.join(" | "))
    };
    cluster.list(&resource_of::<EndpointSlice>()).into_iter().map(line).collect()
}

fn by_name() -> Value {
    json!({"selector": {"app": "web"}, "clusterIP": "10.43.0.9", "ports": [{"port": 80, "targetPort": "http"}]})
}

#[tokio::test]
async fn pods_come_and_go_in_one_slice() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Service>(), service(by_name()));
    let harness = Harness::start(&cluster, run);
    eventually(|| slices(&cluster) == [": "]).await;
    put_pod(&cluster, 1, false);
    eventually(|| slices(&cluster) == ["8080: 10.42.0.2 "]).await;
    put_pod(&cluster, 1, true);
    put_pod(&cluster, 2, true);
    eventually(|| slices(&cluster) == ["8080: 10.42.0.2 rs | 10.42.0.3 rs"]).await;
    let slice = &cluster.list(&resource_of::<EndpointSlice>())[0];
    assert_eq!(slice["metadata"]["labels"], json!({SERVICE_NAME: "web", MANAGED_BY: MANAGER, "team": "a"}));
    let mut going = pod(1, true);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster.put(&resource_of::<Pod>(), going);
    eventually(|| slices(&cluster) == ["8080: 10.42.0.2 st | 10.42.0.3 rs"]).await;
    for number in [1, 2] {
        cluster.remove(&resource_of::<Pod>(), &ObjectKey::new("shop", format!("web-{number:03}")));
    }
    eventually(|| slices(&cluster) == [": "]).await;
    harness.stop().await;
}

#[tokio::test]
async fn many_pods_fill_slices_and_a_change_rewrites_one() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Service>(), service(by_name()));
    for number in 0..250 {
        put_pod(&cluster, number, true);
    }
    let harness = Harness::start(&cluster, run);
    let sizes = || {
        let mut sizes: Vec<usize> = slices(&cluster).iter().map(|slice| slice.matches(" rs").count()).collect();
        sizes.sort_unstable();
        sizes
    };
    eventually(|| sizes() == [50, 100, 100]).await;
    cluster.take_requests();
    put_pod(&cluster, 7, false);
    eventually(|| sizes().iter().sum::<usize>() == 249).await;
    let writes = cluster.take_writes();
    assert_eq!(writes.len(), 1, "{writes:?}");
    harness.stop().await;
}

#[tokio::test]
async fn unready_addresses_are_ready_when_the_service_says_so() {
    let cluster = FakeCluster::new();
    let mut spec = by_name();
    spec["publishNotReadyAddresses"] = json!(true);
    spec["clusterIP"] = json!("None");
    cluster.put(&resource_of::<Service>(), service(spec));
    put_pod(&cluster, 1, false);
    let harness = Harness::start(&cluster, run);
    eventually(|| slices(&cluster) == ["8080: 10.42.0.2 r"]).await;
    let labels = &cluster.list(&resource_of::<EndpointSlice>())[0]["metadata"]["labels"];
    assert_eq!(labels["service.kubernetes.io/headless"], "");
    harness.stop().await;
}

#[tokio::test]
async fn endpoints_that_users_write_are_mirrored() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Service>(), service(json!({"ports": [{"port": 80}]})));
    let endpoints = resource_of::<Endpoints>();
    cluster.put(
        &endpoints,
        json!({"metadata": {"namespace": "shop", "name": "web"},
               "subsets": [{"addresses": [{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}], "ports": [{"port": 9}]}]}),
    );
    let harness = Harness::start(&cluster, mirroring::run);
    eventually(|| {
        let mut slices = slices(&cluster);
        slices.sort();
        slices == ["9: 192.0.2.1 r", "9: 2001:db8::1 r"]
    })
    .await;
    cluster.remove(&endpoints, &ObjectKey::new("shop", "web"));
    eventually(|| slices(&cluster).is_empty()).await;
    harness.stop().await;
}
