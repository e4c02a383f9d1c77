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
        let bound = json!({"pv.kubernetes.io/bind-completed": "yes"});
        let claim = json!({"metadata": {"namespace": "shop", "name": "data", "annotations": bound}, "spec": spec});
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

/// A cluster of two zones with claims, volumes and classes: their names, and what they say beyond that.
fn storage(claims: &[(&str, Value)], volumes: &[(&str, Value)], classes: &[(&str, Value)]) -> Snapshot {
    let mut snapshot = cluster(&[("n1", zone("a")), ("n2", zone("b"))], &[]);
    let named = |name: &str, mut base: Value, particular: &Value| {
        base["metadata"] = json!({"namespace": "shop", "name": name, "uid": name});
        client::patch::merge(&mut base, particular);
        base
    };
    let modes = json!(["ReadWriteOnce"]);
    for (name, particular) in claims {
        let spec =
            json!({"accessModes": modes, "storageClassName": "late", "resources": {"requests": {"storage": "1Gi"}}});
        let claim = named(name, json!({"spec": spec}), particular);
        snapshot.claims.insert(api::object::ObjectKey::new("shop", *name), serde_json::from_value(claim).unwrap());
    }
    for (name, particular) in volumes {
        let spec = json!({"accessModes": modes, "storageClassName": "late", "capacity": {"storage": "1Gi"}});
        let volume = named(name, json!({"spec": spec, "status": {"phase": "Available"}}), particular);
        snapshot.volumes.insert((*name).to_owned(), serde_json::from_value(volume).unwrap());
    }
    for (name, particular) in classes {
        let class = json!({"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"});
        let class = named(name, class, particular);
        snapshot.classes.insert((*name).to_owned(), serde_json::from_value(class).unwrap());
    }
    snapshot
}

/// The volumes of a pod, each of a claim.
fn claiming(claims: &[&str]) -> Value {
    let volume = |name: &&str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    json!({"spec": {"volumes": claims.iter().map(volume).collect::<Vec<_>>()}})
}

fn in_zone(zone: &str) -> Value {
    let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}})
}

fn with(mut one: Value, other: Value) -> Value {
    client::patch::merge(&mut one, &other);
    one
}

#[test]
fn claims_that_wait_get_the_smallest_volumes_that_their_pods_node_reaches() {
    let size = |size: &str| json!({"spec": {"capacity": {"storage": size}}});
    let late = [("late", json!({}))];
    let large = json!({"spec": {"resources": {"requests": {"storage": "5Gi"}}}});
    let claims = [("a-large", large), ("small", json!({}))];
    let volumes = [
        ("v1", with(size("10Gi"), in_zone("b"))),
        ("v2", with(size("6Gi"), in_zone("b"))),
        ("v3", in_zone("a")),
        ("v4", with(size("100Gi"), in_zone("a"))),
    ];
    let placed = |snapshot: &Snapshot, claims: &[&str], node: &str| {
        let pod = pod(&claiming(claims));
        let binding = VolumeBinding::new(&pod, snapshot).unwrap();
        let bindings = binding.bindings(snapshot.node(node).unwrap());
        bindings.map(|all| {
            all.iter()
                .map(|one| match one {
                    Binding::Volume { claim, volume, chosen } => format!("{} {volume} {}", claim.name, chosen.named),
                    Binding::Provision { claim } => format!("{} made", claim.name),
                })
                .collect::<Vec<_>>()
                .join(", ")
        })
    };
    let snapshot = storage(&claims, &volumes, &late);
    // The smallest claim comes first, and leaves the larger volume to the other.
    assert_eq!(placed(&snapshot, &["a-large", "small"], "n2").unwrap(), "small v2 false, a-large v1 false");
    assert_eq!(placed(&snapshot, &["a-large", "small"], "n1").unwrap(), "small v3 false, a-large v4 false");
    let none = |change: Value| {
        let snapshot = storage(&claims, &[("v", change)], &late);
        assert_eq!(placed(&snapshot, &["small"], "n1"), None);
    };
    none(json!({"spec": {"volumeMode": "Block"}}));
    none(json!({"spec": {"volumeAttributesClassName": "gold"}}));
    none(json!({"spec": {"storageClassName": "other"}}));
    none(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    none(json!({"status": {"phase": "Released"}}));
    none(json!({"spec": {"claimRef": {"namespace": "shop", "name": "other", "uid": "o"}}}));
    let kept = json!({"spec": {"claimRef": {"namespace": "shop", "name": "small"}}, "status": {"phase": "Released"}});
    let snapshot = storage(&claims, &[("own", with(kept, in_zone("a"))), ("v", json!({}))], &late);
    assert_eq!(placed(&snapshot, &["small"], "n1").unwrap(), "small own true");
    assert_eq!(placed(&snapshot, &["small"], "n2"), None, "its own volume is elsewhere");

    let made = [("late", json!({"provisioner": "example.com/disks"}))];
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n2"}}});
    let snapshot = storage(&[("new", json!({})), ("begun", chosen)], &[], &made);
    assert_eq!(placed(&snapshot, &["new"], "n1").unwrap(), "new made");
    assert_eq!(placed(&snapshot, &["begun"], "n2").unwrap(), "begun made");
    assert_eq!(placed(&snapshot, &["begun"], "n1"), None, "it is being made for another node");
    check(
        claiming(&["small"]),
        &storage(&claims, &[], &late),
        expect![
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        ],
    );
}

#[test]
fn a_pod_waits_for_claims_that_are_not_its_own_or_not_there() {
    let check = |claim: Value, wanted: Value, expected: &str| {
        let snapshot = storage(&[("data", claim)], &[], &[]);
        let error = plan(&pod(&wanted), &snapshot, &mut |_| 0).unwrap_err().to_string();
        assert!(error.starts_with(&format!("0/2 nodes are available: {expected}. preemption:")), "{error}");
    };
    let bound = |particular: Value| {
        let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv"}});
        with(bound, particular)
    };
    let wanted = || claiming(&["data"]);
    let half = json!({"spec": {"volumeName": "pv"}});
    check(half, wanted(), "pod has unbound immediate PersistentVolumeClaims");
    check(bound(json!({})), wanted(), "persistentvolume \"pv\" not found");
    check(
        bound(json!({"status": {"phase": "Lost"}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        wanted(),
        "persistentvolumeclaim \"data\" bound to non-existent persistentvolume \"pv\"",
    );
    let dying = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    check(bound(dying), wanted(), "persistentvolumeclaim \"data\" is being deleted");
    let ephemeral = json!({"metadata": {"name": "da"}, "spec": {"volumes": [{"name": "ta", "ephemeral": {}}]}});
    check(
        json!({}),
        ephemeral.clone(),
        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"da-ta\"",
    );
    let mut snapshot = storage(&[("da-ta", json!({}))], &[], &[]);
    let error = plan(&pod(&ephemeral), &snapshot, &mut |_| 0).unwrap_err().to_string();
    assert!(error.contains("PVC shop/da-ta was not created for pod shop/da (pod is not owner)"), "{error}");
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "da", "uid": "u", "controller": true}]);
    let owned = json!({"metadata": {"ownerReferences": owner, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv"}});
    snapshot.claims = storage(&[("da-ta", owned)], &[], &[]).claims;
    snapshot.volumes = storage(&[], &[("pv", in_zone("b"))], &[]).volumes;
    assert_eq!(plan(&pod(&ephemeral), &snapshot, &mut |_| 0).unwrap().node, "n2");
}

#[test]
fn what_only_one_pod_may_have_holds_back_others() {
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                       "spec": {"volumeName": "pv", "accessModes": ["ReadWriteOncePod"]}});
    let mut snapshot = storage(&[("data", bound)], &[("pv", json!({}))], &[]);
    check(claiming(&["data"]), &snapshot, expect!["n1"]);
    let holder =
        with(claiming(&["data"]), json!({"metadata": {"name": "holder", "uid": "h"}, "spec": {"nodeName": "n2"}}));
    snapshot.set_pod(Arc::new(pod(&holder)));
    check(
        claiming(&["data"]),
        &snapshot,
        expect![
            "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
        ],
    );
    let urgent = with(claiming(&["data"]), json!({"spec": {"priority": 10}}));
    let error = plan(&pod(&urgent), &snapshot, &mut |_| 0).unwrap_err();
    let Some(preemption::Outcome::Victims { node, victims }) = error.preemption else { panic!("no victims") };
    assert_eq!((node.as_str(), victims[0].key.name.as_str()), ("n2", "holder"));

    let disk = |node: Value, read_only: bool| {
        let volume = json!({"name": "v", "gcePersistentDisk": {"pdName": "disk", "readOnly": read_only}});
        json!({"spec": {"nodeName": node, "volumes": [volume]}})
    };
    let one = [("n1", json!({}))];
    let shared = |placed: bool, wanted: bool| {
        let snapshot = cluster(&one, &[disk(json!("n1"), placed)]);
        plan(&pod(&disk(Value::Null, wanted)), &snapshot, &mut |_| 0).map_err(|error| error.to_string())
    };
    assert!(shared(true, true).is_ok());
    assert!(shared(true, false).unwrap_err().contains("1 node(s) had no available disk."));
}

#[test]
fn a_volumes_labels_say_in_which_zones_it_is() {
    let label = |key: &str, value: &str| json!({"metadata": {"labels": {key: value}}});
    let bound =
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "pv"}});
    let place = |nodes: &[(&str, Value)], volume: Value| {
        let mut snapshot = cluster(nodes, &[]);
        let stored = storage(&[("data", bound.clone())], &[("pv", volume)], &[]);
        (snapshot.claims, snapshot.volumes) = (stored.claims, stored.volumes);
        plan(&pod(&claiming(&["data"])), &snapshot, &mut |_| 0).map_or_else(|error| error.to_string(), |it| it.node)
    };
    let zone = "topology.kubernetes.io/zone";
    let nodes = [("n1", label(zone, "a")), ("n2", label(zone, "b"))];
    assert_eq!(place(&nodes, label(zone, "b")), "n2");
    assert_eq!(place(&nodes, label(zone, "c__b")), "n2");
    assert_eq!(place(&nodes, label("failure-domain.beta.kubernetes.io/zone", "b")), "n2");
    assert!(place(&nodes, label(zone, "c")).contains("2 node(s) had no available volume zone"));
    assert_eq!(place(&[("n1", json!({}))], label(zone, "c")), "n1", "a node that says nothing of itself");
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
