//! Services in, elements and packets out; no kernel.

use std::collections::BTreeMap;

use api::object::Entry;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::observe::{self, Observed};
use super::plan::{Config, Plan, plan};
use crate::nftables::trace::{Packet, Tracer};
use crate::nftables::{Protocol, Table};

fn config() -> Config {
    Config {
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap(), "fd00:42::/56".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap(), "fd00:43::/112".parse().unwrap()],
        served_here: vec!["10.43.0.10".parse().unwrap()],
    }
}

fn entry(object: Value) -> Entry {
    Entry::from_value(object, 1, &[]).unwrap()
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

/// A slice of `name` with endpoints such as `10.42.0.5@n1` or `10.42.0.6@n2 draining`.
fn slice(name: &str, family: &str, endpoints: &[&str]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|text| {
            let (place, condition) = text.split_once(' ').unwrap_or((text, "ready"));
            let (address, node) = place.split_once('@').unwrap();
            let conditions = match condition {
                "ready" => json!({"ready": true, "serving": true, "terminating": false}),
                "draining" => json!({"ready": false, "serving": true, "terminating": true}),
                "unready" => json!({"ready": false, "serving": false, "terminating": false}),
                zone => {
                    let hints = json!({"forZones": [{"name": zone}]});
                    return json!({"addresses": [address], "nodeName": node, "hints": hints});
                }
            };
            json!({"addresses": [address], "nodeName": node, "conditions": conditions})
        })
        .collect();
    json!({
        "metadata": {
            "namespace": "shop",
            "name": format!("{name}-{family}"),
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "endpoints": endpoints,
    })
}

fn observed(services: &[Value], slices: &[Value]) -> Observed {
    let read = |objects: &[Value]| objects.iter().map(|object| entry(object.clone())).collect::<Vec<_>>();
    Observed {
        node: "n1".to_owned(),
        zone: Some("east".to_owned()),
        services: read(services).iter().filter_map(|e| Some((e.key.clone(), observe::service(e)?))).collect(),
        slices: read(slices).iter().filter_map(|e| Some((e.key.clone(), observe::slice(e)?))).collect(),
        host_ports: BTreeMap::new(),
    }
}

/// The elements and chains that `plan` has beyond those of a node without Services.
fn added(plan: &Plan) -> String {
    let empty = super::plan::plan(&config(), &Observed::default()).table;
    let mut table = Table::new("k3rs");
    for (name, set) in &plan.table.sets {
        let mut set = set.clone();
        if let Some(before) = empty.sets.get(name) {
            set.elements.retain(|key, _| !before.elements.contains_key(key));
        }
        if !set.elements.is_empty() {
            table.sets.insert(name.clone(), set);
        }
    }
    for (name, chain) in plan.table.chains.iter().filter(|(name, chain)| empty.chains.get(*name) != Some(*chain)) {
        table.chains.insert(name.clone(), chain.clone());
    }
    table.to_string()
}

/// Traces packets written as `from -> to`; the node n1 is 192.0.2.1, pods of it are 10.42.0.0/24.
fn packets(observed: &Observed, lines: &[&str], expected: Expect) {
    let plan = plan(&config(), observed);
    let mut tracer = Tracer::new(&plan.table, &["192.0.2.1", "2001:db8::1", "127.0.0.1", "10.43.0.10"]);
    let mut out = String::new();
    for line in lines {
        let (from, to) = line.split_once(" -> ").unwrap();
        let (to, protocol) = match to.strip_suffix("/udp") {
            Some(to) => (to, Protocol::Udp),
            None => (to, Protocol::Tcp),
        };
        let packet = Packet { source: from.parse().unwrap(), destination: to.parse().unwrap(), protocol };
        out += &format!("{line}: {}\n", tracer.trace(packet));
        tracer.random += 1;
    }
    expected.assert_eq(&out);
}

fn web() -> Value {
    service("web", json!({"clusterIPs": ["10.43.0.7"], "ports": [{"port": 80}]}))
}

#[test]
fn a_service_is_elements_and_one_chain_for_its_number_of_endpoints() {
    let slices = [slice("web", "IPv4", &["10.42.0.5@n1", "10.42.1.9@n2", "10.42.1.8@n2 unready"])];
    expect![[r#"
        table inet k3rs {
          map endpoints4 {
            type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service
            10.43.0.7 . tcp . 80 . 0 : 10.42.0.5 . 8080
            10.43.0.7 . tcp . 80 . 1 : 10.42.1.9 . 8080
          }
          set hairpin4 {
            type ipv4_addr . ipv4_addr
            10.42.0.5 . 10.42.0.5
          }
          map services4 {
            type ipv4_addr . inet_proto . inet_service : verdict
            10.43.0.7 . tcp . 80 : goto pick4-cluster-2
          }
          chain pick4-cluster-2 {
            meta nfproto ipv4 ip saddr != @pods4 meta mark set meta mark | 0x4000
            meta nfproto ipv4 dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints4
          }
        }
    "#]]
    .assert_eq(&added(&plan(&config(), &observed(&[web()], &slices))));
}

#[test]
fn the_table_of_a_node_without_services() {
    expect_test::expect_file!["testdata/no_services.nft"]
        .assert_eq(&plan(&config(), &Observed::default()).table.to_string());
}

#[test]
fn a_cluster_ip_balances_and_masquerades_who_is_not_a_pod() {
    let slices = [slice("web", "IPv4", &["10.42.0.5@n1", "10.42.1.9@n2"])];
    packets(
        &observed(&[web()], &slices),
        &[
            "10.42.0.6 -> 10.43.0.7:80",
            "10.42.0.6 -> 10.43.0.7:80",
            "10.42.0.5 -> 10.43.0.7:80",
            "10.42.0.6 -> 10.43.0.7:81",
            "192.0.2.1 -> 10.43.0.7:80",
            "192.0.2.99 -> 10.43.0.7:80",
            "10.42.0.6 -> 10.43.9.9:80",
            "10.42.0.6 -> 10.43.0.10:53/udp",
            "10.42.0.6 -> 10.42.1.9:8080",
            "10.42.0.6 -> 203.0.113.5:443",
        ],
        expect![[r#"
            10.42.0.6 -> 10.43.0.7:80: 10.42.0.5:8080
            10.42.0.6 -> 10.43.0.7:80: 10.42.1.9:8080
            10.42.0.5 -> 10.43.0.7:80: 10.42.0.5:8080 masqueraded
            10.42.0.6 -> 10.43.0.7:81: reject
            192.0.2.1 -> 10.43.0.7:80: 10.42.0.5:8080 masqueraded
            192.0.2.99 -> 10.43.0.7:80: 10.42.1.9:8080 masqueraded
            10.42.0.6 -> 10.43.9.9:80: reject
            10.42.0.6 -> 10.43.0.10:53/udp: 10.43.0.10:53
            10.42.0.6 -> 10.42.1.9:8080: 10.42.1.9:8080
            10.42.0.6 -> 203.0.113.5:443: 203.0.113.5:443 masqueraded
        "#]],
    );
}

#[test]
fn without_endpoints_clients_are_told_so_and_draining_ones_serve_last() {
    let node_port = service("web", json!({"clusterIPs": ["10.43.0.7"], "ports": [{"port": 80, "nodePort": 30080}]}));
    let lines = ["10.42.0.6 -> 10.43.0.7:80", "203.0.113.5 -> 192.0.2.1:30080"];
    packets(
        &observed(std::slice::from_ref(&node_port), &[slice("web", "IPv4", &["10.42.0.5@n1 unready"])]),
        &lines,
        expect![[r#"
            10.42.0.6 -> 10.43.0.7:80: reject
            203.0.113.5 -> 192.0.2.1:30080: reject
        "#]],
    );
    packets(
        &observed(&[node_port], &[slice("web", "IPv4", &["10.42.0.5@n1 unready", "10.42.0.6@n1 draining"])]),
        &lines,
        expect![[r#"
            10.42.0.6 -> 10.43.0.7:80: 10.42.0.6:8080 masqueraded
            203.0.113.5 -> 192.0.2.1:30080: 10.42.0.6:8080 masqueraded
        "#]],
    );
}

#[test]
fn external_traffic_policy_local_keeps_clients_addresses_and_only_outside() {
    let spec = json!({
        "type": "LoadBalancer",
        "clusterIPs": ["10.43.0.7"],
        "externalIPs": ["198.51.100.7"],
        "externalTrafficPolicy": "Local",
        "ports": [{"port": 80, "nodePort": 30080}],
    });
    let mut balanced = service("web", spec);
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]}});
    let lines = [
        "203.0.113.5 -> 192.0.2.1:30080",
        "203.0.113.5 -> 192.0.2.1:80",
        "203.0.113.5 -> 198.51.100.7:80",
        "10.42.0.6 -> 192.0.2.2:80",
        "192.0.2.1 -> 192.0.2.1:30080",
        "192.0.2.1 -> 127.0.0.1:30080",
    ];
    packets(
        &observed(std::slice::from_ref(&balanced), &[slice("web", "IPv4", &["10.42.0.5@n1", "10.42.1.9@n2"])]),
        &lines,
        expect![[r#"
            203.0.113.5 -> 192.0.2.1:30080: 10.42.0.5:8080
            203.0.113.5 -> 192.0.2.1:80: 10.42.0.5:8080
            203.0.113.5 -> 198.51.100.7:80: 10.42.0.5:8080
            10.42.0.6 -> 192.0.2.2:80: 10.42.1.9:8080
            192.0.2.1 -> 192.0.2.1:30080: 10.42.0.5:8080 masqueraded
            192.0.2.1 -> 127.0.0.1:30080: 127.0.0.1:30080
        "#]],
    );
    packets(
        &observed(&[balanced], &[slice("web", "IPv4", &["10.42.1.9@n2"])]),
        &lines,
        expect![[r#"
            203.0.113.5 -> 192.0.2.1:30080: drop
            203.0.113.5 -> 192.0.2.1:80: drop
            203.0.113.5 -> 198.51.100.7:80: drop
            10.42.0.6 -> 192.0.2.2:80: 10.42.1.9:8080
            192.0.2.1 -> 192.0.2.1:30080: 10.42.1.9:8080 masqueraded
            192.0.2.1 -> 127.0.0.1:30080: 127.0.0.1:30080
        "#]],
    );
}

#[test]
fn a_load_balancer_lets_only_its_source_ranges_in() {
    let spec = json!({
        "type": "LoadBalancer",
        "clusterIPs": ["10.43.0.7"],
        "loadBalancerSourceRanges": ["203.0.113.0/24"],
        "ports": [{"port": 80}],
    });
    let mut balanced = service("web", spec);
    balanced["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    packets(
        &observed(&[balanced], &[slice("web", "IPv4", &["10.42.0.5@n1"])]),
        &["203.0.113.5 -> 192.0.2.1:80", "203.0.114.5 -> 192.0.2.1:80", "203.0.114.5 -> 10.43.0.7:80"],
        expect![[r#"
            203.0.113.5 -> 192.0.2.1:80: 10.42.0.5:8080 masqueraded
            203.0.114.5 -> 192.0.2.1:80: drop
            203.0.114.5 -> 10.43.0.7:80: 10.42.0.5:8080 masqueraded
        "#]],
    );
}

#[test]
fn a_client_with_affinity_stays_and_others_are_spread() {
    let spec = json!({
        "clusterIPs": ["10.43.0.7"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "ports": [{"port": 80, "nodePort": 30080}],
    });
    let sticky = observed(&[service("web", spec)], &[slice("web", "IPv4", &["10.42.0.5@n1", "10.42.1.9@n2"])]);
    packets(
        &sticky,
        &[
            "10.42.0.6 -> 10.43.0.7:80",
            "10.42.0.6 -> 10.43.0.7:80",
            "10.42.0.7 -> 10.43.0.7:80",
            "10.42.0.8 -> 10.43.0.7:80",
            "203.0.113.5 -> 192.0.2.1:30080",
            "203.0.113.5 -> 192.0.2.1:30080",
        ],
        expect![[r#"
            10.42.0.6 -> 10.43.0.7:80: 10.42.0.5:8080
            10.42.0.6 -> 10.43.0.7:80: 10.42.0.5:8080
            10.42.0.7 -> 10.43.0.7:80: 10.42.0.5:8080
            10.42.0.8 -> 10.43.0.7:80: 10.42.1.9:8080
            203.0.113.5 -> 192.0.2.1:30080: 10.42.0.5:8080 masqueraded
            203.0.113.5 -> 192.0.2.1:30080: 10.42.0.5:8080 masqueraded
        "#]],
    );
}

#[test]
fn hints_narrow_to_the_zone_only_if_every_endpoint_has_one() {
    let lines = ["10.42.0.6 -> 10.43.0.7:80", "10.42.0.6 -> 10.43.0.7:80"];
    packets(
        &observed(&[web()], &[slice("web", "IPv4", &["10.42.0.5@n1 east", "10.42.1.9@n2 west"])]),
        &lines,
        expect![[r#"
            10.42.0.6 -> 10.43.0.7:80: 10.42.0.5:8080
            10.42.0.6 -> 10.43.0.7:80: 10.42.0.5:8080
        "#]],
    );
    packets(
        &observed(&[web()], &[slice("web", "IPv4", &["10.42.0.5@n1 east", "10.42.1.9@n2"])]),
        &lines,
        expect![[r#"
            10.42.0.6 -> 10.43.0.7:80: 10.42.0.5:8080
            10.42.0.6 -> 10.43.0.7:80: 10.42.1.9:8080
        "#]],
    );
}

#[test]
fn both_families_and_internal_policy_local() {
    let spec = json!({
        "clusterIPs": ["10.43.0.7", "fd00:43::7"],
        "internalTrafficPolicy": "Local",
        "ports": [{"port": 80, "nodePort": 30080}],
    });
    let slices =
        [slice("web", "IPv4", &["10.42.1.9@n2"]), slice("web", "IPv6", &["fd00:42::5@n1", "fd00:42:0:1::9@n2"])];
    packets(
        &observed(&[service("web", spec)], &slices),
        &["10.42.0.6 -> 10.43.0.7:80", "fd00:42::6 -> [fd00:43::7]:80", "2001:db8::9 -> [2001:db8::1]:30080"],
        expect![[r#"
            10.42.0.6 -> 10.43.0.7:80: drop
            fd00:42::6 -> [fd00:43::7]:80: [fd00:42::5]:8080
            2001:db8::9 -> [2001:db8::1]:30080: [fd00:42::5]:8080 masqueraded
        "#]],
    );
}

#[test]
fn host_ports_lead_to_their_pod_and_keep_the_clients_address() {
    let pod = json!({
        "metadata": {"namespace": "shop", "name": "edge"},
        "spec": {"containers": [{"name": "c", "ports": [
            {"containerPort": 8080, "hostPort": 80},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "192.0.2.1"},
            {"containerPort": 9000},
        ]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.42.0.5"}]},
    });
    let pod = entry(pod);
    let mut observed = observed(&[], &[]);
    observed.host_ports.insert(pod.key.clone(), observe::host_ports(&pod).unwrap());
    packets(
        &observed,
        &[
            "203.0.113.5 -> 192.0.2.1:80",
            "203.0.113.5 -> 192.0.2.1:53/udp",
            "10.42.0.5 -> 192.0.2.1:80",
            "203.0.113.5 -> 192.0.2.1:9000",
        ],
        expect![[r#"
            203.0.113.5 -> 192.0.2.1:80: 10.42.0.5:8080
            203.0.113.5 -> 192.0.2.1:53/udp: 10.42.0.5:53
            10.42.0.5 -> 192.0.2.1:80: 10.42.0.5:8080 masqueraded
            203.0.113.5 -> 192.0.2.1:9000: 192.0.2.1:9000
        "#]],
    );
}

#[test]
fn of_two_services_with_one_address_the_first_by_name_has_it() {
    let grab = |name: &str, cluster_ip: &str| {
        let spec = json!({"clusterIPs": [cluster_ip], "externalIPs": ["198.51.100.7"], "ports": [{"port": 80}]});
        service(name, spec)
    };
    let slices = [slice("a", "IPv4", &["10.42.0.5@n1"]), slice("b", "IPv4", &["10.42.1.9@n2", "10.42.1.8@n2"])];
    packets(
        &observed(&[grab("b", "10.43.0.8"), grab("a", "10.43.0.7")], &slices),
        &["10.42.0.6 -> 198.51.100.7:80", "10.42.0.6 -> 198.51.100.7:80", "10.42.0.6 -> 10.43.0.8:80"],
        expect![[r#"
            10.42.0.6 -> 198.51.100.7:80: 10.42.0.5:8080
            10.42.0.6 -> 198.51.100.7:80: 10.42.0.5:8080
            10.42.0.6 -> 10.43.0.8:80: 10.42.1.8:8080
        "#]],
    );
}

#[test]
fn what_is_not_for_rules_is_not_read() {
    let none = |object: Value| assert_eq!(observe::service(&entry(object.clone())), None, "{object}");
    none(service("headless", json!({"clusterIP": "None", "ports": [{"port": 80}]})));
    none(service("external", json!({"type": "ExternalName", "externalName": "example.com"})));
    let mut others = web();
    others["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "mesh"});
    none(others);
    let dangerous = slice("web", "IPv4", &["127.0.0.1@n1", "169.254.169.254@n1", "10.42.0.5@n1"]);
    assert_eq!(observe::slice(&entry(dangerous)).unwrap().endpoints.len(), 1);
}
