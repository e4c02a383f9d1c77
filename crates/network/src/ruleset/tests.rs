//! Services on a node in network namespaces of the test's own: real connections through real rules.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use api::object::ObjectKey;
use client::testing::FakeCluster;
use client::typed::resource_of;
use k8s_openapi::api::core::v1::{Node, Pod as ApiPod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::links::message::{self, NewLink};
use crate::links::{Links, Via};
use crate::nftables::{Installed, Netfilter};
use crate::pods::{self, Pod, PodNetwork};
use crate::services::plan::Plan;
use crate::services::rules::TABLE;
use crate::testing::{Namespace, root};

const DEADLINE: Duration = Duration::from_secs(5);

/// A node with pods, and a client outside on the node's network.
struct Bench {
    node: Namespace,
    outside: Namespace,
    pods: Vec<(Namespace, IpAddr)>,
    network: PodNetwork,
    cluster: Arc<FakeCluster>,
}

fn config() -> Config {
    Config {
        cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
        served_here: Vec::new(),
    }
}

impl Bench {
    /// 192.0.2.1 is the node, 192.0.2.2 the client outside, pods are 10.42.0.1 and so on.
    fn new(pods: usize) -> Self {
        let (node, outside) = (Namespace::new(), Namespace::new());
        let mut near = Links::open_in(node.0.as_fd()).unwrap();
        let mut far = Links::open_in(outside.0.as_fd()).unwrap();
        let link = |name| NewLink { name, mac: None, mtu: None };
        near.apply(&[message::add_veth(&link("uplink"), &link("uplink"), outside.0.as_fd())]).unwrap();
        for (links, address, other) in
            [(&mut near, "192.0.2.1/24", "192.0.2.2"), (&mut far, "192.0.2.2/24", "192.0.2.1")]
        {
            let (uplink, loopback) = (links.require("uplink").unwrap().index, links.require("lo").unwrap().index);
            let gateway = Via::Gateway { gateway: other.parse().unwrap(), link: uplink, onlink: false };
            let default = message::route("0.0.0.0/0".parse().unwrap(), gateway);
            let changes = [
                message::set_up(loopback),
                message::set_up(uplink),
                message::add_address(uplink, address.parse().unwrap()),
                message::add_route(&default, false),
            ];
            links.apply(&changes).unwrap();
        }
        let config = pods::Config { pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()], mtu: 1450 };
        let network = node.run(|| PodNetwork::open(config).unwrap());
        let mut bench = Self { node, outside, pods: Vec::new(), network, cluster: FakeCluster::new() };
        for n in 0..pods {
            let pod = Namespace::new();
            let uid = format!("uid-{n}");
            let given = bench
                .network
                .setup(pod.0.as_fd(), Pod { uid: &uid, namespace: "shop", name: "web", former: &[], awaited: &[] })
                .unwrap();
            bench.pods.push((pod, given[0]));
        }
        bench.cluster.put(&resource_of::<Node>(), json!({"metadata": {"name": "n1"}}));
        bench
    }

    fn service(&self, name: &str, spec: Value) {
        let object = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
        self.cluster.put(&resource_of::<Service>(), object);
    }

    /// Makes the pods of these numbers the endpoints of a Service.
    fn endpoints(&self, service: &str, port: u16, protocol: &str, pods: &[usize]) {
        let endpoints: Vec<_> =
            pods.iter().map(|n| json!({"addresses": [self.pods[*n].1], "nodeName": "n1"})).collect();
        let object = json!({
            "metadata": {"namespace": "shop", "name": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": port, "protocol": protocol}],
            "endpoints": endpoints,
        });
        self.cluster.put(&resource_of::<EndpointSlice>(), object);
    }

    fn applier(&self) -> Applier {
        self.node.run(|| Applier::open().unwrap())
    }

    fn plan(&self) -> Plan {
        let informers = self.cluster.informers();
        let mut observer = Observer::new(&*informers, "n1");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(observer.changed());
        plan(&config(), &observer.observed())
    }

    /// Serves its own number, and whom it sees, in pod `n`.
    fn serve(&self, n: usize, port: u16) {
        let (namespace, ip) = &self.pods[n];
        let listener = namespace.run(|| TcpListener::bind((*ip, port)).unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let seen = stream.peer_addr().unwrap().ip();
                let _ = stream.write_all(format!("{n} sees {seen}").as_bytes());
            }
        });
    }
}

/// What a server answers to `from`, or the kind of error.
fn ask(from: &Namespace, to: &str) -> Result<String, ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(|| {
        let mut stream = TcpStream::connect_timeout(&to, DEADLINE)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
    .map_err(|error: std::io::Error| error.kind())
}

#[test]
fn connections_go_where_services_say() {
    let Some(bench) = root().then(|| Bench::new(3)) else { return };
    bench.serve(0, 8080);
    bench.serve(1, 8080);
    bench.service("web", json!({"clusterIPs": ["10.43.0.7"], "ports": [{"port": 80, "nodePort": 30080}]}));
    bench.endpoints("web", 8080, "TCP", &[0]);
    bench.service("empty", json!({"clusterIPs": ["10.43.0.8"], "ports": [{"port": 80}]}));
    let local = json!({
        "clusterIPs": ["10.43.0.9"],
        "externalTrafficPolicy": "Local",
        "ports": [{"port": 80, "nodePort": 30090}],
    });
    bench.service("local", local);
    bench.endpoints("local", 8080, "TCP", &[1]);
    let mut applier = bench.applier();
    assert!(applier.apply(bench.plan()).unwrap() > 0);
    assert_eq!(applier.apply(bench.plan()).unwrap(), 0, "no change, no transaction");

    let client = &bench.pods[2].0;
    assert_eq!(ask(client, "10.43.0.7:80").unwrap(), "0 sees 10.42.0.3");
    assert_eq!(ask(&bench.pods[0].0, "10.43.0.7:80").unwrap(), "0 sees 192.0.2.1", "a pod reaches itself");
    assert_eq!(ask(&bench.node, "10.43.0.7:80").unwrap(), "0 sees 192.0.2.1");
    assert_eq!(ask(&bench.outside, "192.0.2.1:30080").unwrap(), "0 sees 192.0.2.1");
    assert_eq!(ask(client, "192.0.2.1:30080").unwrap(), "0 sees 10.42.0.3");
    assert_eq!(ask(&bench.node, "192.0.2.1:30080").unwrap(), "0 sees 192.0.2.1");
    assert_eq!(ask(&bench.outside, "192.0.2.1:30090").unwrap(), "1 sees 192.0.2.2", "the client's address is kept");
    for refused in ["10.43.0.8:80", "10.43.0.7:81", "10.43.200.200:80"] {
        assert_eq!(ask(client, refused).unwrap_err(), ErrorKind::ConnectionRefused, "{refused} from a pod");
        assert_eq!(ask(&bench.node, refused).unwrap_err(), ErrorKind::ConnectionRefused, "{refused} from the node");
    }

    // Out of the cluster pods have the node's address.
    let listener = bench.outside.run(|| TcpListener::bind("192.0.2.2:0").unwrap());
    let there = listener.local_addr().unwrap();
    client.run(|| TcpStream::connect_timeout(&there, DEADLINE).unwrap());
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "192.0.2.1");

    // An element out and one in, for the ClusterIP and for the node port; and one for the pod's hairpin.
    bench.endpoints("web", 8080, "TCP", &[1]);
    let commands = applier.apply(bench.plan()).unwrap();
    assert_eq!(commands, 5);
    assert_eq!(ask(client, "10.43.0.7:80").unwrap(), "1 sees 10.42.0.3");
}

#[test]
fn clients_with_affinity_stay_until_their_endpoint_goes() {
    let Some(bench) = root().then(|| Bench::new(4)) else { return };
    (0..3).for_each(|n| bench.serve(n, 8080));
    bench.service("web", json!({"clusterIPs": ["10.43.0.7"], "sessionAffinity": "ClientIP", "ports": [{"port": 80}]}));
    bench.endpoints("web", 8080, "TCP", &[0, 1, 2]);
    let mut applier = bench.applier();
    applier.apply(bench.plan()).unwrap();
    let client = &bench.pods[3].0;
    let first = ask(client, "10.43.0.7:80").unwrap();
    for _ in 0..12 {
        assert_eq!(ask(client, "10.43.0.7:80").unwrap(), first);
    }
    let gone: usize = first[..1].parse().unwrap();
    let left: Vec<_> = (0..3).filter(|n| *n != gone).collect();
    bench.endpoints("web", 8080, "TCP", &left);
    applier.apply(bench.plan()).unwrap();
    let second = ask(client, "10.43.0.7:80").unwrap();
    assert_ne!(second, first);
    for _ in 0..12 {
        assert_eq!(ask(client, "10.43.0.7:80").unwrap(), second);
    }
}

#[test]
fn a_udp_client_that_keeps_its_port_follows_to_the_new_endpoint() {
    let Some(bench) = root().then(|| Bench::new(3)) else { return };
    bench.service("dns", json!({"clusterIPs": ["10.43.0.7"], "ports": [{"port": 53, "protocol": "UDP"}]}));
    bench.endpoints("dns", 53, "UDP", &[0]);
    let mut applier = bench.applier();
    applier.apply(bench.plan()).unwrap();
    let servers: Vec<_> =
        bench.pods[..2].iter().map(|(namespace, ip)| namespace.run(|| UdpSocket::bind((*ip, 53)).unwrap())).collect();
    let client = bench.pods[2].0.run(|| UdpSocket::bind("0.0.0.0:4053").unwrap());
    let arrives = |server: &UdpSocket| {
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send_to(b"?", "10.43.0.7:53").unwrap();
        server.recv_from(&mut [0; 8]).unwrap().1.port()
    };
    assert_eq!(arrives(&servers[0]), 4053);
    bench.endpoints("dns", 53, "UDP", &[1]);
    applier.apply(bench.plan()).unwrap();
    assert_eq!(arrives(&servers[1]), 4053);
}

#[test]
fn the_task_writes_what_the_api_says_and_restores_what_others_remove() {
    let Some(bench) = root().then(|| Bench::new(2)) else { return };
    bench.serve(0, 8080);
    bench.service("web", json!({"clusterIPs": ["10.43.0.7"], "ports": [{"port": 80}]}));
    bench.endpoints("web", 8080, "TCP", &[0]);
    // A pod of another node that has a host port is none of this node's.
    bench.cluster.put(&resource_of::<ApiPod>(), json!({"metadata": {"namespace": "shop", "name": "other"}}));
    bench.node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let token = CancellationToken::new();
            let mut rules = Netfilter::open(TABLE).unwrap();
            let mut heard = rules.watch().unwrap();
            let task = run(bench.cluster.informers(), "n1", config(), token.clone());
            let script = async {
                heard.changed().await.unwrap();
                rules.refresh().unwrap();
                assert_eq!(rules.installed(), Some(&Installed::of(&bench.plan_of("web"))));
                assert_eq!(ask(&bench.pods[1].0, "10.43.0.7:80").unwrap(), "0 sees 10.42.0.2");

                rules.remove().unwrap();
                heard.changed().await.unwrap();
                rules.refresh().unwrap();
                assert_eq!(rules.installed(), Some(&Installed::of(&bench.plan_of("web"))));

                bench.cluster.remove(&resource_of::<Service>(), &ObjectKey::new("shop", "web"));
                heard.changed().await.unwrap();
                rules.refresh().unwrap();
                let found = rules.installed().unwrap();
                assert!(found.sets["services4"].elements.is_empty());
                token.cancel();
            };
            let (ended, ()) = tokio::time::timeout(DEADLINE * 4, futures::future::join(task, script)).await.unwrap();
            ended.unwrap();
        });
    });
}

impl Bench {
    /// The table as long as the Service `name` is there.
    fn plan_of(&self, name: &str) -> crate::nftables::Table {
        let found = self.cluster.get(&resource_of::<Service>(), &ObjectKey::new("shop", name));
        assert!(found.is_some(), "the script asks before it removes it");
        std::thread::scope(|scope| scope.spawn(|| self.plan().table).join().unwrap())
    }
}
