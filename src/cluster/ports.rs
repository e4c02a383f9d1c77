//! Published ports, as k3d and Docker write them: `[HOST:][HOSTPORT:]PORT[/PROTO][@FILTER]`. Each port may be a range,
//! `8000-8010:30000-30010`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::filters::{self, FilterError, NodeFilter};

/// Published ports and the API are for this machine alone unless an address is given.
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of a node that the host shall have, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortMapping {
    pub(crate) host: IpAddr,
    /// Any free one if none.
    pub(crate) host_port: Option<u16>,
    pub(crate) node_port: u16,
    pub(crate) transport: Transport,
    /// The first server if none.
    pub(crate) filter: Option<NodeFilter>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PortError {
    #[error("port {text:?}: {why}")]
    Malformed { text: String, why: String },
    #[error("port {text:?}: {source}")]
    Filter { text: String, source: FilterError },
}

impl PortMapping {
    /// One mapping, or as many as the range has ports.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>, PortError> {
        let malformed = |why: String| PortError::Malformed { text: text.to_owned(), why };
        let (value, filter) =
            filters::split(text).map_err(|source| PortError::Filter { text: text.to_owned(), source })?;
        let (value, transport) = match value.rsplit_once('/') {
            None => (value.as_str(), Transport::Tcp),
            Some((value, "tcp" | "TCP")) => (value, Transport::Tcp),
            Some((value, "udp" | "UDP")) => (value, Transport::Udp),
            Some((_, other)) => return Err(malformed(format!("{other:?} is neither tcp nor udp"))),
        };
        let (host, rest) = split_host(value).map_err(malformed)?;
        let (host_ports, node_ports) = match rest.split_once(':') {
            Some((host_ports, node_ports)) => (Some(range(host_ports).map_err(malformed)?), node_ports),
            None => (None, rest),
        };
        let node_ports = range(node_ports).map_err(malformed)?;
        if *node_ports.start() == 0 {
            return Err(malformed("a node has no port 0".to_owned()));
        }
        // 0 is any free one, also for each of a range.
        let host_ports = host_ports.filter(|it| *it != (0..=0));
        if let Some(found) = host_ports.as_ref().filter(|it| it.len() != node_ports.len()) {
            let why = format!("{} ports of the host cannot lead to {} of a node", found.len(), node_ports.len());
            return Err(malformed(why));
        }
        let host = host.unwrap_or(LOOPBACK);
        let mapping = |(at, node_port): (usize, u16)| Self {
            host,
            host_port: host_ports.clone().and_then(|mut it| it.nth(at)),
            node_port,
            transport,
            filter: filter.clone(),
        };
        Ok(node_ports.enumerate().map(mapping).collect())
    }
}

/// `[HOST:]PORT`, for the API. No port, or 0, is any free one.
pub(crate) fn parse_api(text: &str) -> Result<(IpAddr, Option<u16>), PortError> {
    let malformed = |why: String| PortError::Malformed { text: text.to_owned(), why };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (address(host).map_err(malformed)?, port),
        None => (LOOPBACK, text),
    };
    Ok((host, Some(number(port).map_err(malformed)?).filter(|port| *port != 0)))
}

/// Takes the host's address from the front, if there is one.
fn split_host(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once("]:").ok_or("an IPv6 address stands in brackets: [::1]:8080:80")?;
        return Ok((Some(address(host)?), rest));
    }
    match text.split(':').count() {
        1 | 2 => Ok((None, text)),
        3 => {
            let (host, rest) = text.split_once(':').expect("it has three parts");
            Ok((Some(address(host)?), rest))
        }
        _ => Err("it has too many parts; an IPv6 address stands in brackets".to_owned()),
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(LOOPBACK),
        other => other.trim_matches(['[', ']']).parse().map_err(|_| format!("{other:?} is no address of this host")),
    }
}

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    if from <= to { Ok(from..=to) } else { Err(format!("{text:?} is no range: {to} comes before {from}")) }
}

fn number(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("{text:?} is no port number"))
}
