use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::*;
use crate::snapshot::NodeSpec;

/// A cluster of nodes: name, and what is particular about it.
fn cluster(nodes: &[(&str, Value)], pods: &[Value]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, particular) in nodes {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
        });
        client::patch::merge(&mut node, particular);
        let node: Node = serde_json::from_value(node).unwrap();
        snapshot.set_node(name, NodeSpec::of(&node));
    }
    for (number, one) in pods.iter().enumerate() {
        let mut one = one.clone();
        one["metadata"]["uid"] = json!(format!("placed-{number}"));
        snapshot.set_pod(Arc::new(pod(&one)));
    }
    snapshot
}

/// A pod of one container, merged with what is particular about it.
fn pod(particular: &Value) -> PodInfo {
    let mut pod = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "u", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web"}]},
    });
    client::patch::merge(&mut pod, particular);
    PodInfo::of(&serde_json::from_value::<Pod>(pod).unwrap())
}

fn requesting(cpu: &str) -> Value {
    json!([{"name": "c", "resources": {"requests": {"cpu": cpu}}}])
}

/// Plans the pod and compares where it goes, or the message of why it does not.
fn check(particular: Value, snapshot: &Snapshot, expected: Expect) {
    let planned = plan(&pod(&particular), snapshot, &mut |_| 0);
    expected.assert_eq(&planned.map_or_else(|error| error.to_string(), |placement| placement.node));
}

fn zone(name: &str) -> Value {
    json!({"metadata": {"labels": {"zone": name}}})
}

fn placed(node: &str) -> Value {
    json!({"spec": {"nodeName": node}})
}

#[test]
fn a_pod_goes_where_most_is_left() {
    let busy =
        json!({"spec": {"nodeName": "n1", "containers": requesting("1")}, "metadata": {"labels": {"app": "other"}}});
    check(json!({}), &cluster(&[("n1", json!({})), ("n2", json!({}))], &[busy]), expect!["n2"]);
}

#[test]
fn reasons_are_counted_and_sorted() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let nodes = [("n1", tainted), ("n2", json!({})), ("n3", json!({}))];
    check(
        json!({"spec": {"containers": requesting("3")}}),
        &cluster(&nodes, &[]),
        expect![
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        ],
    );
    check(json!({}), &cluster(&[], &[]), expect!["no nodes available to schedule pods"]);
}

#[test]
fn taints_and_cordons_repel_pods_that_do_not_tolerate_them() {
    let tainted =
        cluster(&[("n1", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}}))], &[]);
    check(json!({"spec": {"tolerations": [{"key": "k", "value": "v"}]}}), &tainted, expect!["n1"]);
    check(json!({"spec": {"tolerations": [{"operator": "Exists"}]}}), &tainted, expect!["n1"]);
    let cordoned = cluster(&[("n1", json!({"spec": {"unschedulable": true}}))], &[]);
    check(
        json!({}),
        &cordoned,
        expect![
            "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        ],
    );
    let prefer = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    check(json!({}), &cluster(&[("n1", prefer), ("n2", json!({}))], &[]), expect!["n2"]);
}

#[test]
fn node_labels_are_required_or_preferred() {
    let nodes = cluster(&[("n1", zone("a")), ("n2", zone("b"))], &[]);
    check(json!({"spec": {"nodeSelector": {"zone": "b"}}}), &nodes, expect!["n2"]);
    check(
        json!({"spec": {"nodeSelector": {"zone": "c"}}}),
        &nodes,
        expect![
            "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        ],
    );
    let preference = json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]});
    let preferred = json!([{"weight": 1, "preference": preference}]);
    let affinity = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}});
    check(json!({"spec": {"affinity": affinity}}), &nodes, expect!["n2"]);
}

#[test]
fn ports_and_numbers_of_pods_are_limited() {
    let port = json!([{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]);
    let taken = cluster(&[("n1", json!({}))], &[json!({"spec": {"nodeName": "n1", "containers": port}})]);
    check(
        json!({"spec": {"containers": port}}),
        &taken,
        expect![
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ],
    );
    let full = cluster(&[("n1", json!({"status": {"allocatable": {"pods": "1"}}}))], &[placed("n1")]);
    check(
        json!({}),
        &full,
        expect![
            "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ],
    );
}

#[test]
fn pods_are_near_or_far_from_others() {
    let nodes = [("n1", zone("a")), ("n2", zone("b"))];
    let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let rule =
        |kind: &str| json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": term}}}});
    let one = cluster(&nodes, &[placed("n2")]);
    check(rule("podAffinity"), &one, expect!["n2"]);
    check(rule("podAntiAffinity"), &one, expect!["n1"]);
    // The first of a group that wants to be together may go anywhere.
    check(rule("podAffinity"), &cluster(&nodes, &[]), expect!["n1"]);
    let both = cluster(&nodes, &[placed("n1"), placed("n2")]);
    check(
        rule("podAntiAffinity"),
        &both,
        expect![
            "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
        ],
    );
    let mut shy = rule("podAntiAffinity");
    shy["spec"]["nodeName"] = json!("n1");
    check(
        json!({}),
        &cluster(&nodes[..1], &[shy]),
        expect![
            "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        ],
    );
}

#[test]
fn pods_are_spread_as_their_constraints_say() {
    let constraint = json!([{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                             "labelSelector": {"matchLabels": {"app": "web"}}}]);
    let wanted = json!({"spec": {"topologySpreadConstraints": constraint}});
    let nodes = [("n1", zone("a")), ("n2", zone("b"))];
    check(wanted.clone(), &cluster(&nodes, &[placed("n1")]), expect!["n2"]);
    check(
        wanted,
        &cluster(&[("n1", json!({}))], &[]),
        expect![
            "0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label). preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        ],
    );
}

#[test]
fn replicas_of_a_service_spread_over_nodes() {
    let nodes = [("n1", json!({})), ("n2", json!({})), ("n3", json!({}))];
    let mut snapshot = cluster(&nodes, &[]);
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    snapshot.services.insert(api::object::ObjectKey::new("shop", "web"), labels);
    let mut places = BTreeMap::new();
    for number in 0..9 {
        let replica = pod(&json!({"metadata": {"uid": format!("u{number}")}}));
        let placement = plan(&replica, &snapshot, &mut |_| 0).unwrap();
        *places.entry(placement.node.clone()).or_insert(0) += 1;
        snapshot.assume(Arc::new(replica), &placement.node);
    }
    assert_eq!(places.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

#[test]
fn images_draw_pods() {
    let with = json!({"status": {"images": [{"names": ["web:latest"], "sizeBytes": 900_000_000}]}});
    check(json!({}), &cluster(&[("n1", json!({})), ("n2", with)], &[]), expect!["n2"]);
}

#[test]
fn volumes_decide_where_a_pod_can_be() {
    let nodes = [("n1", zone("a")), ("n2", zone("b"))];
    let wanted = json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let mut snapshot = cluster(&nodes, &[]);
    check(
        wanted.clone(),
        &snapshot,
        expect![[
            r#"0/2 nodes are available: persistentvolumeclaim "data" not found. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."#
        ]],
    );
    let key = api::object::ObjectKey::new("shop", "data");
    let mut claim = |spec: Value| {
        let claim = json!({"metadata": {"namespace": "shop", "name": "data"}, "spec": spec});
        snapshot.claims.insert(key.clone(), serde_json::from_value(claim).unwrap());
        snapshot.clone()
    };
    check(
        wanted.clone(),
        &claim(json!({})),
        expect![
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        ],
    );
    let mut bound = claim(json!({"volumeName": "disk"}));
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]});
    let volume =
        json!({"metadata": {"name": "disk"}, "spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}});
    bound.volumes.insert("disk".to_owned(), serde_json::from_value(volume).unwrap());
    check(wanted.clone(), &bound, expect!["n2"]);
    let mut waiting = claim(json!({"storageClassName": "local"}));
    let class = json!({"metadata": {"name": "local"}, "provisioner": "p", "volumeBindingMode": "WaitForFirstConsumer"});
    waiting.classes.insert("local".to_owned(), serde_json::from_value(class).unwrap());
    let placement = plan(&pod(&wanted), &waiting, &mut |_| 0).unwrap();
    assert_eq!(placement.volumes, [Binding::Provision { claim: key.clone() }]);
}

#[test]
fn the_cheapest_victims_leave() {
    let victim = |node: &str, name: &str, cpu: &str, priority: i32| json!({"metadata": {"name": name}, "spec": {"nodeName": node, "priority": priority, "containers": requesting(cpu)}});
    let pods = [victim("n1", "a", "1", 5), victim("n1", "b", "1", 1), victim("n2", "c", "2", 5)];
    let snapshot = cluster(&[("n1", json!({})), ("n2", json!({}))], &pods);
    let wanted = json!({"spec": {"priority": 10, "containers": requesting("1")}});
    let error = plan(&pod(&wanted), &snapshot, &mut |_| 0).unwrap_err();
    let Some(preemption::Outcome::Victims { node, victims }) = error.preemption else { panic!("no victims") };
    assert_eq!((node.as_str(), victims.len(), victims[0].key.name.as_str()), ("n1", 1, "b"));
}
