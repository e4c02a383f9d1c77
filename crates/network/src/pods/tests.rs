//! Pods in network namespaces of the tests' own: who reaches whom, what is left.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use super::*;
use crate::testing::{Namespace, root};

fn config() -> Config {
    Config { pod_cidrs: vec!["10.42.0.0/24".parse().unwrap(), "fd00:42::/64".parse().unwrap()], mtu: 1450 }
}

fn pod(uid: &str) -> Pod<'_> {
    Pod { uid, namespace: "shop", name: "web", former: &[], awaited: &[] }
}

fn open(node: &Namespace) -> PodNetwork {
    node.run(|| PodNetwork::open(config()).unwrap())
}

fn connect(from: &Namespace, to: SocketAddr) -> std::io::Result<SocketAddr> {
    from.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(5))?.local_addr())
}

#[test]
fn pods_and_their_node_reach_each_other_by_both_families() {
    let Some((node, a, b)) = root().then(|| (Namespace::new(), Namespace::new(), Namespace::new())) else { return };
    let network = open(&node);
    let mut links = Links::open_in(node.0.as_fd()).unwrap();
    let loopback = links.require("lo").unwrap().index;
    let own = ["192.0.2.1/32", "2001:db8::1/128"].map(|own| message::add_address(loopback, own.parse().unwrap()));
    links.apply(&[&[message::set_up(loopback)], &own[..]].concat()).unwrap();
    let of_a = network.setup(a.0.as_fd(), pod("a")).unwrap();
    let of_b = network.setup(b.0.as_fd(), pod("b")).unwrap();
    assert_eq!(of_a, ["10.42.0.1".parse::<IpAddr>().unwrap(), "fd00:42::1".parse().unwrap()]);
    for (mine, theirs) in of_a.iter().zip(&of_b) {
        let listener = b.run(|| TcpListener::bind((*theirs, 0)).unwrap());
        let there = listener.local_addr().unwrap();
        assert_eq!(connect(&a, there).unwrap().ip(), *mine);
        connect(&node, there).expect("probes come from the node");
        let own = a.run(|| TcpListener::bind((*mine, 0)).unwrap());
        connect(&a, own.local_addr().unwrap()).expect("the loopback link is up");
    }
}

#[test]
fn setting_up_again_changes_nothing_and_a_new_sandbox_replaces_the_old() {
    let Some((node, old, new)) = root().then(|| (Namespace::new(), Namespace::new(), Namespace::new())) else { return };
    let network = open(&node);
    let first = network.setup(old.0.as_fd(), pod("a")).unwrap();
    assert_eq!(network.setup(old.0.as_fd(), pod("a")).unwrap(), first);
    // So it is for a successor that was not there before.
    let network = open(&node);
    assert_eq!(network.setup(old.0.as_fd(), pod("a")).unwrap(), first);
    assert_eq!(network.addresses("a").unwrap(), first);

    let second = network.setup(new.0.as_fd(), pod("a")).unwrap();
    assert_ne!(second, first);
    assert_eq!(network.addresses("a").unwrap(), second);
    assert!(Links::open_in(old.0.as_fd()).unwrap().get("eth0").unwrap().is_none());
}

#[test]
fn a_pod_gets_again_what_it_had_before_its_node_was_restarted() {
    let Some((node, a, b)) = root().then(|| (Namespace::new(), Namespace::new(), Namespace::new())) else { return };
    let network = open(&node);
    let former: Vec<IpAddr> = ["10.42.0.1", "fd00:42::1"].map(|it| it.parse().unwrap()).into();
    // Another pod is quicker, and leaves them alone.
    let quick = network.setup(b.0.as_fd(), Pod { awaited: &former, ..pod("b") }).unwrap();
    assert!(quick.iter().all(|it| !former.contains(it)), "{quick:?}");
    assert_eq!(network.setup(a.0.as_fd(), Pod { former: &former, ..pod("a") }).unwrap(), former);
    let c = Namespace::new();
    let late = network.setup(c.0.as_fd(), Pod { former: &former, ..pod("c") }).unwrap();
    assert!(late.iter().all(|it| !former.contains(it)), "what is taken stays taken: {late:?}");
}

#[test]
fn nothing_is_left_of_a_pod() {
    let Some((node, a)) = root().then(|| (Namespace::new(), Namespace::new())) else { return };
    let network = open(&node);
    let mut links = Links::open_in(node.0.as_fd()).unwrap();
    let before = (links.list().unwrap(), links.routes().unwrap());
    for _ in 0..3 {
        network.setup(a.0.as_fd(), pod("a")).unwrap();
        network.teardown("a").unwrap();
        network.teardown("a").unwrap();
    }
    assert_eq!((links.list().unwrap(), links.routes().unwrap()), before);
    assert_eq!(network.addresses("a").unwrap(), Vec::<IpAddr>::new());
}

#[test]
fn a_namespace_with_an_eth0_of_its_own_is_refused_and_keeps_it() {
    let Some((node, a, other)) = root().then(|| (Namespace::new(), Namespace::new(), Namespace::new())) else { return };
    let (first, second) = (open(&node), open(&other));
    let given = first.setup(a.0.as_fd(), pod("a")).unwrap();
    let error = second.setup(a.0.as_fd(), pod("a")).unwrap_err().to_string();
    assert!(error.starts_with("cannot set up the network for pod shop/web a: "), "{error}");
    assert_eq!(first.addresses("a").unwrap(), given);
    assert_eq!(second.addresses("a").unwrap(), Vec::<IpAddr>::new());
}

#[test]
fn addresses_are_reused_as_late_as_possible_and_end() {
    let range: IpNet = "10.42.0.0/29".parse().unwrap();
    let mut used = BTreeSet::new();
    let mut last = None;
    let mut take = |used: &BTreeSet<IpAddr>| {
        last = addresses::next(range, used, last).or(last);
        addresses::next(range, used, None).and(last).map(|ip| ip.to_string())
    };
    let mut given = Vec::new();
    for _ in 0..3 {
        given.extend(take(&used));
        used.insert(given.last().unwrap().parse().unwrap());
    }
    assert_eq!(given, ["10.42.0.1", "10.42.0.2", "10.42.0.3"]);
    used.remove(&"10.42.0.2".parse().unwrap());
    assert_eq!(take(&used).unwrap(), "10.42.0.4", "not the one that has just become free");
    used.extend((1..=6).map(|n| IpAddr::from([10, 42, 0, n])));
    assert_eq!(take(&used), None);
}
