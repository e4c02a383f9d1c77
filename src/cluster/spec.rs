//! From what was typed to what is meant: everything is checked here, before anything is made.

use std::net::IpAddr;

use super::filters::{self, FilterError, NodeFilter};
use super::ports::{self, LOOPBACK, PortError, PortMapping};
use crate::failure::{Code, Failure};

/// Links and containers are named after a cluster, and names of links are short.
const LONGEST_NAME: usize = 32;
/// More nodes than this on one host is a slip of the finger.
const MOST_AGENTS: u32 = 100;

/// A cluster as it was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Typed {
    pub(crate) name: String,
    pub(crate) agents: u32,
    pub(crate) api_port: Option<String>,
    pub(crate) ports: Vec<String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) token: Option<String>,
}

/// A cluster as it is meant.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSpec {
    pub(crate) name: String,
    pub(crate) agents: u32,
    /// Where the host offers the API; any free port if none.
    pub(crate) api: (IpAddr, Option<u16>),
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) arguments: Vec<Argument>,
    /// A random one if none.
    pub(crate) token: Option<String>,
}

/// An argument for the `k3rs` of some nodes; of all servers if no filter says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Argument {
    pub(crate) text: String,
    pub(crate) filter: Option<NodeFilter>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("cluster name {name:?} {why}")]
    Name { name: String, why: &'static str },
    #[error("{0} agents are too many for one host")]
    Agents(u32),
    #[error(transparent)]
    Port(#[from] PortError),
    #[error("argument {text:?}: {source}")]
    Argument { text: String, source: FilterError },
    #[error("argument {text:?} does not begin with --")]
    NoFlag { text: String },
    #[error("argument {text:?} is for no node of this cluster")]
    NobodysArgument { text: String },
    #[error("port {text:?} is for no node of this cluster")]
    NobodysPort { text: String },
    #[error("host port {port} is asked for twice")]
    Twice { port: String },
    #[error("the token has characters that no token has: {0}")]
    Token(&'static str),
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        let remedy = match &error {
            SpecError::Name { .. } => {
                "take up to 32 small letters, digits and dashes, with a letter or digit at both ends".to_owned()
            }
            SpecError::Agents(_) => format!("ask for at most {MOST_AGENTS}"),
            SpecError::Port(_) => {
                "write [HOST:][HOSTPORT:]PORT[/tcp|/udp][@FILTER], such as 8080:80@agent:0".to_owned()
            }
            SpecError::Argument { .. } | SpecError::NoFlag { .. } => {
                "write --FLAG=VALUE[@FILTER], such as --node-label=tier=web@agent:0".to_owned()
            }
            SpecError::NobodysArgument { .. } | SpecError::NobodysPort { .. } => {
                "servers and agents are counted from 0; --agents says how many agents there are".to_owned()
            }
            SpecError::Twice { .. } => "give each host port once".to_owned(),
            SpecError::Token(_) => "take letters, digits, dashes, dots and underscores".to_owned(),
        };
        Failure::new(Code::Usage, error.to_string()).remedy(remedy)
    }
}

impl ClusterSpec {
    pub(crate) fn new(typed: &Typed) -> Result<Self, SpecError> {
        check_name(&typed.name)?;
        if typed.agents > MOST_AGENTS {
            return Err(SpecError::Agents(typed.agents));
        }
        if let Some(token) = &typed.token {
            check_token(token)?;
        }
        let api = typed.api_port.as_deref().map_or(Ok((LOOPBACK, None)), ports::parse_api)?;
        let spec = Self {
            name: typed.name.clone(),
            agents: typed.agents,
            api,
            ports: typed.ports.iter().map(|text| PortMapping::parse(text)).collect::<Result<Vec<_>, _>>()?.concat(),
            arguments: typed.arguments.iter().map(|text| argument(text)).collect::<Result<_, _>>()?,
            token: typed.token.clone(),
        };
        spec.check_targets(typed)?;
        spec.check_host_ports()?;
        Ok(spec)
    }

    /// The nodes: one server, then the agents.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (filters::Role, u32)> + use<> {
        std::iter::once((filters::Role::Server, 0)).chain((0..self.agents).map(|index| (filters::Role::Agent, index)))
    }

    fn check_targets(&self, typed: &Typed) -> Result<(), SpecError> {
        let hits = |filter: &Option<NodeFilter>| {
            filter.as_ref().is_none_or(|it| self.nodes().any(|(role, index)| it.selects(role, index)))
        };
        for text in &typed.ports {
            if PortMapping::parse(text)?.iter().any(|mapping| !hits(&mapping.filter)) {
                return Err(SpecError::NobodysPort { text: text.clone() });
            }
        }
        for (argument, text) in self.arguments.iter().zip(&typed.arguments) {
            if !hits(&argument.filter) {
                return Err(SpecError::NobodysArgument { text: text.clone() });
            }
        }
        Ok(())
    }

    fn check_host_ports(&self) -> Result<(), SpecError> {
        let mut seen: Vec<(IpAddr, u16, ports::Transport)> = Vec::new();
        let api = self.api.1.map(|port| (self.api.0, port, ports::Transport::Tcp));
        let published = self.ports.iter().filter_map(|it| Some((it.host, it.host_port?, it.transport)));
        for (host, port, transport) in api.into_iter().chain(published) {
            let clash = seen.iter().any(|(other, p, t)| {
                (*p, *t) == (port, transport) && (*other == host || other.is_unspecified() || host.is_unspecified())
            });
            if clash {
                return Err(SpecError::Twice { port: format!("{port}/{transport}") });
            }
            seen.push((host, port, transport));
        }
        Ok(())
    }
}

/// A DNS label, for it becomes part of host names.
pub(crate) fn check_name(name: &str) -> Result<(), SpecError> {
    let refuse = |why| Err(SpecError::Name { name: name.to_owned(), why });
    if name.is_empty() {
        return refuse("is empty");
    }
    if name.len() > LONGEST_NAME {
        return refuse("is longer than 32 characters");
    }
    if !name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-') {
        return refuse("has characters that a DNS label cannot have");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return refuse("begins or ends with a dash");
    }
    Ok(())
}

fn check_token(token: &str) -> Result<(), SpecError> {
    if token.is_empty() {
        return Err(SpecError::Token("it is empty"));
    }
    let plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_');
    if token.bytes().all(plain) { Ok(()) } else { Err(SpecError::Token("colons, spaces or the like")) }
}

fn argument(text: &str) -> Result<Argument, SpecError> {
    let (value, filter) =
        filters::split(text).map_err(|source| SpecError::Argument { text: text.to_owned(), source })?;
    if !value.starts_with("--") {
        return Err(SpecError::NoFlag { text: text.to_owned() });
    }
    Ok(Argument { text: value, filter })
}
