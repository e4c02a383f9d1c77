//! The ways to other nodes: as a plan, and with packets between nodes in namespaces of the test's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use api::object::Entry;
use client::testing::FakeCluster;
use client::typed::resource_of;
use expect_test::expect;
use k8s_openapi::api::core::v1::Node as ApiNode;
use serde_json::{Value, json};

use super::*;
use crate::links::message::{self, NewLink};
use crate::links::{Links, Via};
use crate::pods::{self, Pod, PodNetwork};
use crate::testing::{Namespace, root};

fn node(n: u8) -> Value {
    json!({
        "metadata": {"name": format!("n{n}")},
        "spec": {"podCIDRs": [format!("10.42.{n}.0/24"), format!("fd00:42:0:{n}::/64")]},
        "status": {"addresses": [{"type": "InternalIP", "address": format!("192.0.2.{n}")}]},
    })
}

fn config(n: u8, backend: Backend) -> Config {
    Config { backend, node: format!("n{n}"), node_ip: [192, 0, 2, n].into() }
}

fn ways(backend: Backend, nodes: &[Value]) -> String {
    let read = |object: &Value| Entry::from_value(object.clone(), 1, &[]).unwrap();
    let nodes = nodes.iter().map(read);
    let observed = nodes.filter_map(|entry| Some((entry.key.name.clone(), observe::node(&entry)?))).collect();
    let ways = plan::ways(&config(1, backend), &observed, 7);
    let routes = ways.routes.iter().map(|route| match route.via {
        Via::Gateway { gateway, onlink, .. } => {
            format!("{} via {gateway}{}\n", route.to, if onlink { " onlink" } else { "" })
        }
        _ => panic!("{route:?}"),
    });
    let neighbours = ways.neighbours.iter().map(|entry| {
        let mac = entry.mac.map(|byte| format!("{byte:02x}")).join(":");
        match entry.forwarding {
            true => format!("{mac} dst {}\n", entry.address),
            false => format!("{} is {mac}\n", entry.address),
        }
    });
    routes.chain(neighbours).collect()
}

#[test]
fn each_other_node_with_a_pod_range_has_its_way() {
    let mut elsewhere = node(3);
    elsewhere["metadata"]["annotations"] = json!({"flannel.alpha.coreos.com/public-ip-overwrite": "198.51.100.3"});
    let rangeless = json!({"metadata": {"name": "n4"}, "spec": {}, "status": {}});
    let nodes = [node(1), node(2), elsewhere, rangeless];
    expect![[r#"
        10.42.2.0/24 via 10.42.2.0 onlink
        fd00:42:0:2::/64 via fd00:42:0:2:: onlink
        10.42.3.0/24 via 10.42.3.0 onlink
        fd00:42:0:3::/64 via fd00:42:0:3:: onlink
        0a:58:0a:2a:02:00 dst 192.0.2.2
        10.42.2.0 is 0a:58:0a:2a:02:00
        fd00:42:0:2:: is 0a:58:0a:2a:02:00
        0a:58:0a:2a:03:00 dst 198.51.100.3
        10.42.3.0 is 0a:58:0a:2a:03:00
        fd00:42:0:3:: is 0a:58:0a:2a:03:00
    "#]]
    .assert_eq(&ways(Backend::Vxlan, &nodes));
    expect![[r#"
        10.42.2.0/24 via 192.0.2.2
        10.42.3.0/24 via 198.51.100.3
    "#]]
    .assert_eq(&ways(Backend::HostGateway, &nodes));
}

/// Two nodes on one link, each with a pod.
struct Bench {
    nodes: [Namespace; 2],
    pods: [(Namespace, Vec<IpAddr>); 2],
    _networks: Vec<PodNetwork>,
    cluster: Arc<FakeCluster>,
}

impl Bench {
    fn new(backend: Backend) -> Self {
        let nodes = [Namespace::new(), Namespace::new()];
        let link = NewLink { name: "uplink", mac: None, mtu: None };
        let mut first = Links::open_in(nodes[0].0.as_fd()).unwrap();
        first.apply(&[message::add_veth(&link, &link, nodes[1].0.as_fd())]).unwrap();
        let cluster = FakeCluster::new();
        let mut networks = Vec::new();
        let pods = [0, 1].map(|at| {
            let n = at as u8 + 1;
            let node = &nodes[at];
            let mut links = Links::open_in(node.0.as_fd()).unwrap();
            let uplink = links.require("uplink").unwrap().index;
            let address = format!("192.0.2.{n}/24").parse().unwrap();
            links.apply(&[message::set_up(uplink), message::add_address(uplink, address)]).unwrap();
            cluster.put(&resource_of::<ApiNode>(), self::node(n));
            let pod_cidrs =
                vec![format!("10.42.{n}.0/24").parse().unwrap(), format!("fd00:42:0:{n}::/64").parse().unwrap()];
            let mtu = node.run(|| mtu(&config(n, backend)).unwrap());
            let network = node.run(|| PodNetwork::open(pods::Config { pod_cidrs, mtu }).unwrap());
            let pod = Namespace::new();
            let given = network
                .setup(pod.0.as_fd(), Pod { uid: "uid", namespace: "shop", name: "web", former: &[], awaited: &[] })
                .unwrap();
            networks.push(network);
            (pod, given)
        });
        Self { nodes, pods, _networks: networks, cluster }
    }

    fn apply(&self, backend: Backend) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let informers = self.cluster.informers();
        let mut observer = Observer::new(&*informers);
        runtime.block_on(observer.changed());
        for (at, node) in self.nodes.iter().enumerate() {
            let mut applier = node.run(|| apply::Applier::open().unwrap());
            applier.apply(&config(at as u8 + 1, backend), &observer.observed()).unwrap();
        }
    }

    /// Sends a megabyte from the first pod to the second.
    fn transfer(&self, family: usize) {
        let (to, from) = (self.pods[1].1[family], self.pods[0].1[family]);
        let listener = self.pods[1].0.run(|| TcpListener::bind((to, 8080)).unwrap());
        let received = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            (all.len(), peer.ip())
        });
        self.pods[0].0.run(|| {
            let to = SocketAddr::new(to, 8080);
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
            stream.write_all(&vec![7; 1 << 20]).unwrap();
        });
        assert_eq!(received.join().unwrap(), (1 << 20, from));
    }
}

#[test]
fn pods_of_two_nodes_talk_through_a_vxlan() {
    let Some(bench) = root().then(|| Bench::new(Backend::Vxlan)) else { return };
    bench.apply(Backend::Vxlan);
    bench.transfer(0);
    bench.transfer(1);
    // Again changes nothing, and what was removed comes back.
    let mut links = Links::open_in(bench.nodes[0].0.as_fd()).unwrap();
    let before = (links.list().unwrap(), links.routes().unwrap());
    bench.apply(Backend::Vxlan);
    assert_eq!((links.list().unwrap(), links.routes().unwrap()), before);
    let tunnel = links.require(LINK).unwrap();
    assert_eq!(tunnel.mtu, 1450);
    links.apply(&[message::delete_link(tunnel.index)]).unwrap();
    bench.apply(Backend::Vxlan);
    bench.transfer(0);
    // A node that goes takes its ways with it.
    bench.cluster.remove(&resource_of::<ApiNode>(), &api::object::ObjectKey::new("", "n2"));
    bench.apply(Backend::Vxlan);
    let tunnel = links.require(LINK).unwrap().index;
    assert_eq!(links.neighbours(tunnel).unwrap(), []);
    let via_tunnel = |route: &links::Route| matches!(route.via, Via::Gateway { link, .. } if link == tunnel);
    assert_eq!(links.routes().unwrap().into_iter().find(via_tunnel), None);
}

#[test]
fn pods_of_two_nodes_talk_over_the_nodes_own_link() {
    let Some(bench) = root().then(|| Bench::new(Backend::HostGateway)) else { return };
    bench.apply(Backend::HostGateway);
    bench.transfer(0);
}

#[test]
fn the_task_restores_the_tunnel_when_somebody_removes_it() {
    let Some(bench) = root().then(|| Bench::new(Backend::Vxlan)) else { return };
    bench.nodes[0].run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let token = CancellationToken::new();
            let task = run(bench.cluster.informers(), config(1, Backend::Vxlan), token.clone());
            let script = async {
                let mut links = Links::open().unwrap();
                let mut made = Listener::join(Protocol::Route, libc::RTMGRP_LINK.cast_unsigned()).unwrap();
                for _ in 0..2 {
                    while !links.get(LINK).unwrap().is_some_and(|link| link.up) {
                        made.hear(|_, _, _| {}).await.unwrap();
                    }
                    let tunnel = links.require(LINK).unwrap().index;
                    links.apply(&[message::delete_link(tunnel)]).unwrap();
                }
                while links.get(LINK).unwrap().is_none() {
                    made.hear(|_, _, _| {}).await.unwrap();
                }
                token.cancel();
            };
            let both = futures::future::join(task, script);
            let (ended, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
            ended.unwrap();
        });
    });
}
