//! Which Service gets which nodes' addresses, as a plan and as written to the API.

use api::object::Entry;
use client::testing::FakeCluster;
use client::typed::resource_of;
use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::observe::Observed;
use super::*;

fn node(name: &str, address: &str, labels: Value) -> Value {
    json!({
        "metadata": {"name": name, "labels": labels},
        "status": {
            "addresses": [{"type": "InternalIP", "address": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn balancer(name: &str, created: u32, port: u16, extra: Value) -> Value {
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": name, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port}]},
    });
    client::patch::merge(&mut object, &extra);
    object
}

fn check(services: &[Value], nodes: &[Value], places: &[(&str, &[&str])], expected: Expect) {
    let entries = |objects: &[Value]| -> Vec<Entry> {
        objects.iter().map(|object| Entry::from_value(object.clone(), 1, &[]).unwrap()).collect()
    };
    let places = places.iter().map(|(service, nodes)| {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        (ObjectKey::new("shop", format!("{service}-1")), observe::Places { service: (*service).to_owned(), nodes })
    });
    let observed = Observed {
        balancers: entries(services).iter().filter_map(|e| Some((e.key.clone(), observe::balancer(e)?))).collect(),
        nodes: entries(nodes).iter().filter_map(|e| Some((e.key.name.clone(), observe::node(e)?))).collect(),
        places: places.collect(),
    };
    let text = |change: &Change| format!("{} {:?}\n", change.service, change.addresses);
    expected.assert_eq(&plan::plan(&observed).iter().map(text).collect::<String>());
}

#[test]
fn ready_nodes_serve_and_the_older_service_has_the_port() {
    let mut down = node("n3", "192.0.2.3", json!({}));
    down["status"]["conditions"][0]["status"] = json!("False");
    let kept_out = node("n4", "192.0.2.4", json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""}));
    let nodes = [node("n2", "192.0.2.2", json!({})), node("n1", "192.0.2.1", json!({})), down, kept_out];
    let settled = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]}}});
    check(
        &[
            balancer("a", 2, 80, json!({})),
            balancer("b", 1, 80, json!({})),
            balancer("settled", 3, 81, settled.clone()),
            balancer("local", 4, 82, json!({"spec": {"externalTrafficPolicy": "Local"}})),
            balancer("classed", 5, 83, json!({"spec": {"loadBalancerClass": "example.com/other"}})),
            balancer("changed", 6, 84, json!({"spec": {"type": "ClusterIP"}, "status": settled["status"]})),
        ],
        &nodes,
        &[("local", &["n2", "n3"])],
        expect![[r#"
            shop/b [192.0.2.1, 192.0.2.2]
            shop/local [192.0.2.2]
            shop/changed []
        "#]],
    );
}

#[test]
fn labels_choose_nodes_and_external_addresses_go_first() {
    let labels = |pool: &str| json!({"svccontroller.k3s.cattle.io/enablelb": "true", "svccontroller.k3s.cattle.io/lbpool": pool});
    let mut outside = node("n2", "192.0.2.2", labels("edge"));
    outside["status"]["addresses"] = json!([
        {"type": "InternalIP", "address": "192.0.2.2"},
        {"type": "ExternalIP", "address": "198.51.100.2"},
    ]);
    let pooled = json!({"metadata": {"labels": {"svccontroller.k3s.cattle.io/lbpool": "inner"}}});
    check(
        &[balancer("any", 1, 80, json!({})), balancer("inner", 2, 81, pooled)],
        &[node("n1", "192.0.2.1", labels("inner")), outside, node("n3", "192.0.2.3", json!({}))],
        &[],
        expect![[r#"
            shop/any [198.51.100.2]
            shop/inner [192.0.2.1]
        "#]],
    );
}

#[tokio::test]
async fn the_task_writes_the_status_and_nothing_twice() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Node>(), node("n1", "192.0.2.1", json!({})));
    cluster.put(&resource_of::<Service>(), balancer("web", 1, 80, json!({})));
    let token = CancellationToken::new();
    let task = run(cluster.informers(), cluster.client("servicelb"), token.clone());
    let ips = || {
        let service = cluster.get(&resource_of::<Service>(), &ObjectKey::new("shop", "web")).unwrap();
        service["status"]["loadBalancer"]["ingress"].to_string()
    };
    let script = async {
        let informer = cluster.informers().informer(client::typed::scope_of::<Service>());
        let mut changes = informer.subscribe();
        while ips() == "null" {
            changes.recv().await.unwrap();
        }
        assert_eq!(ips(), r#"[{"ip":"192.0.2.1","ipMode":"VIP"}]"#);
        cluster.put(&resource_of::<Node>(), node("n2", "192.0.2.2", json!({})));
        while !ips().contains("192.0.2.2") {
            changes.recv().await.unwrap();
        }
        let patches = cluster.take_requests().into_iter().filter(|request| request.method == "PATCH");
        let lines: Vec<_> = patches.map(|request| format!("{} by {}", request.line(), request.identity)).collect();
        assert_eq!(lines, ["PATCH /api/v1/namespaces/shop/services/web/status by servicelb"; 2]);
        token.cancel();
    };
    tokio::time::timeout(Duration::from_secs(20), futures::future::join(task, script)).await.unwrap();
}
