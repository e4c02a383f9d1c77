//! A cluster's network: a namespace with a bridge for its nodes, one veth to the host, and on the host one route, one
//! nft table and, where Docker is, two rules in the chain that it keeps for others. What is changed on the host beyond that is recorded and put back.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net};
use linux::files::Lock;
use linux::{mounts, netns};
use network::links::{Links, Via, message};
use network::nftables::{
    Chain, ChainKind, Data, DataType, Family, Field, Hook, Key, Netfilter, Set, Statement, Table, guest,
};
use serde::{Deserialize, Serialize};

use crate::cluster::layout;
use crate::runtime::{NodeSpec, RuntimeError};

const UPLINK: &str = "uplink";
const BRIDGE: &str = "nodes";
/// srcnat: after the host's own filters.
const SOURCE_NAT: i32 = 100;
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

type Result<T> = std::result::Result<T, RuntimeError>;

/// The host's end of a cluster's way out.
fn host_link(network: u8) -> String {
    format!("k3rs-{network}")
}

/// Between the host and a cluster's namespace: the host is .1, the namespace .2.
fn transfer(network: u8, last: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, 90, network, last), 30).expect("30 is a prefix length")
}

fn failed(what: &str, cluster: &str) -> impl Fn(&dyn std::fmt::Display) -> RuntimeError {
    let what = format!("{what} the network of cluster {cluster}");
    move |why| RuntimeError::failed(what.clone(), why)
}

/// Makes what is missing.
pub(super) fn create(root: &Path, directory: &Path, cluster: &str, network: u8) -> Result<()> {
    let failed = failed("making", cluster);
    let file = directory.join("netns");
    let fresh = netns_at(&file).is_none();
    if fresh {
        remove_links(network).map_err(|why| failed(&why))?;
        let netns = netns::create().map_err(|why| failed(&why))?;
        build(netns.as_fd(), network).map_err(|why| failed(&why))?;
        pin(netns.as_fd(), &file).map_err(|why| failed(&why))?;
    }
    let mut filter = Netfilter::open(&table_name(cluster)).map_err(|why| failed(&why))?;
    filter.apply(&table(cluster, network)).map_err(|why| failed(&why))?;
    // Docker drops what it does not know on its way through the host.
    guest::admit(&host_link(network), &table_name(cluster)).map_err(|why| failed(&why))?;
    Forwarding::at(root).hold(cluster).map_err(|why| failed(&why))
}

/// Takes away all of it.
pub(super) fn delete(root: &Path, directory: &Path, cluster: &str, network: u8) -> Result<()> {
    let failed = failed("deleting", cluster);
    let file = directory.join("netns");
    // The route goes with the link, the link's other end and the bridge with the namespace.
    remove_links(network).map_err(|why| failed(&why))?;
    mounts::detach(&file).map_err(|why| failed(&why))?;
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    let mut filter = Netfilter::open(&table_name(cluster)).map_err(|why| failed(&why))?;
    filter.remove().map_err(|why| failed(&why))?;
    guest::withdraw(&table_name(cluster)).map_err(|why| failed(&why))?;
    Forwarding::at(root).release(cluster).map_err(|why| failed(&why))
}

/// The namespace that is mounted at `file`; none if it is a plain file, as after a reboot.
fn netns_at(file: &Path) -> Option<OwnedFd> {
    let handle = netns::open(file).ok()?;
    // NSFS_MAGIC
    (rustix::fs::fstatfs(&handle).ok()?.f_type == 0x6e73_6673).then_some(handle)
}

fn pin(netns: BorrowedFd<'_>, file: &Path) -> io::Result<()> {
    if !file.exists() {
        fs::File::create(file)?;
    }
    let mount = mounts::clone_handle(netns, false)?;
    mounts::attach_at(mount.as_fd(), file)
}

fn remove_links(network: u8) -> std::result::Result<(), network::links::Error> {
    let mut links = Links::open()?;
    if let Some(link) = links.get(&host_link(network))? {
        links.apply(&[message::delete_link(link.index)])?;
    }
    Ok(())
}

fn build(netns: BorrowedFd<'_>, network: u8) -> std::result::Result<(), network::links::Error> {
    let mut host = Links::open()?;
    let name = host_link(network);
    let link = |name| message::NewLink { name, mac: None, mtu: None };
    host.apply(&[message::add_veth(&link(&name), &link(UPLINK), netns)])?;
    let nodes = IpNet::V4(layout::subnet(network));
    let index = host.require(&name)?.index;
    let gateway = IpAddr::V4(transfer(network, 2).addr());
    host.apply(&[
        message::add_address(index, transfer(network, 1).into()),
        message::set_up(index),
        message::add_route(&message::route(nodes, Via::Gateway { gateway, link: index, onlink: false }), true),
    ])?;

    let mut inner = Links::open_in(netns)?;
    inner.apply(&[message::add_bridge(&link(BRIDGE))])?;
    let (bridge, uplink) = (inner.require(BRIDGE)?.index, inner.require(UPLINK)?.index);
    let gateway = Ipv4Net::new(layout::gateway(network), 24).expect("24 is a prefix length");
    let everywhere = IpNet::V4(Ipv4Net::default());
    let way_out = Via::Gateway { gateway: IpAddr::V4(transfer(network, 1).addr()), link: uplink, onlink: false };
    inner.apply(&[
        message::add_address(bridge, gateway.into()),
        message::set_up(bridge),
        message::add_address(uplink, transfer(network, 2).into()),
        message::set_up(uplink),
        message::add_route(&message::route(everywhere, way_out), true),
    ])?;
    netns::enter(netns, || {
        linux::network::loopback_up()?;
        set_forwarding("1")
    })??;
    Ok(())
}

/// Gives a node its link: called for a namespace that has none yet.
pub(super) fn connect(cluster: &Path, node: BorrowedFd<'_>, spec: &NodeSpec) -> io::Result<()> {
    let netns =
        netns_at(cluster).ok_or_else(|| io::Error::other("the cluster's network is not there: start the cluster"))?;
    plug(netns.as_fd(), node, spec).map_err(io::Error::other)
}

fn plug(
    netns: BorrowedFd<'_>,
    node: BorrowedFd<'_>,
    spec: &NodeSpec,
) -> std::result::Result<(), network::links::Error> {
    let mut inner = Links::open_in(netns)?;
    let port = format!("node-{}", spec.address.octets()[3]);
    let link = |name| message::NewLink { name, mac: None, mtu: None };
    // A node that was killed a moment ago may not have taken its link along yet.
    if let Some(old) = inner.get(&port)? {
        match inner.apply(&[message::delete_link(old.index)]) {
            // It just did.
            Err(error) if error.not_found() => {}
            other => other?,
        }
    }
    inner.apply(&[message::add_veth(&link(&port), &link("eth0"), node)])?;
    let (port, bridge) = (inner.require(&port)?.index, inner.require(BRIDGE)?.index);
    inner.apply(&[message::set_master(port, bridge), message::set_up(port)])?;

    let mut links = Links::open_in(node)?;
    let eth0 = links.require("eth0")?.index;
    let address = Ipv4Net::new(spec.address, 24).expect("24 is a prefix length");
    let gateway = IpAddr::V4(layout::gateway(spec.network));
    let way_out = Via::Gateway { gateway, link: eth0, onlink: false };
    Ok(links.apply(&[
        message::add_address(eth0, address.into()),
        message::set_up(eth0),
        message::add_route(&message::route(IpNet::V4(Ipv4Net::default()), way_out), true),
    ])?)
}

fn table_name(cluster: &str) -> String {
    format!("k3rs-dev-{cluster}")
}

/// Nodes appear to the world as the host.
fn table(cluster: &str, network: u8) -> Table {
    let mut table = Table::new(&table_name(cluster));
    let nodes = Set::new(&[Family::V4.address()], DataType::Nothing).intervals();
    table.sets.insert("nodes".to_owned(), nodes);
    table.element("nodes", Key::network(layout::subnet(network).into()), Data::Nothing);
    let mut chain = Chain::base(ChainKind::Nat, Hook::Postrouting, SOURCE_NAT);
    let within = |field, not| Statement::In { fields: vec![field], set: "nodes".to_owned(), not };
    chain.rule([
        Statement::Family(Family::V4),
        within(Field::Source(Family::V4), false),
        within(Field::Destination(Family::V4), true),
        Statement::Masquerade,
    ]);
    table.chains.insert("postrouting".to_owned(), chain);
    table
}

fn set_forwarding(value: &str) -> io::Result<()> {
    let fd = rustix::fs::open(
        FORWARDING,
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    rustix::io::write(&fd, value.as_bytes())?;
    Ok(())
}

/// The host's ip_forward: on while a cluster needs it, then as it was.
struct Forwarding {
    root: PathBuf,
    record: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Record {
    before: String,
    clusters: BTreeSet<String>,
}

impl Forwarding {
    fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), record: root.join("ip_forward.json") }
    }

    fn read(&self) -> Option<Record> {
        serde_json::from_slice(&fs::read(&self.record).ok()?).ok()
    }

    fn hold(&self, cluster: &str) -> io::Result<()> {
        let _lock = Lock::of_directory(&self.root)?;
        let now = || fs::read_to_string(FORWARDING).map(|it| it.trim().to_owned());
        let mut record = match self.read() {
            Some(record) => record,
            None => Record { before: now()?, clusters: BTreeSet::new() },
        };
        // Recorded before it is changed: a crash in between leaves nothing to be forgotten.
        record.clusters.insert(cluster.to_owned());
        linux::files::write_atomic(&self.record, &serde_json::to_vec(&record)?, 0o600)?;
        if now()? == "1" { Ok(()) } else { set_forwarding("1") }
    }

    fn release(&self, cluster: &str) -> io::Result<()> {
        let _lock = Lock::of_directory(&self.root)?;
        let Some(mut record) = self.read() else { return Ok(()) };
        record.clusters.remove(cluster);
        if !record.clusters.is_empty() {
            return linux::files::write_atomic(&self.record, &serde_json::to_vec(&record)?, 0o600);
        }
        set_forwarding(&record.before)?;
        fs::remove_file(&self.record)
    }
}
