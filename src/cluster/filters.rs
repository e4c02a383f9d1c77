//! Which nodes something is for, as k3d writes it: `GROUP[:SUBSET]`, several joined by `;`.
//!
//! `server:0`, `server:0:direct`, `agent:0,2`, `agents:1-3`, `server:*;agent:0`, `all`, `loadbalancer`.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    Server,
    Agent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Agent => "agent",
        })
    }
}

/// A choice of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeFilter {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    group: Group,
    /// All of the group if none.
    subset: Vec<RangeInclusive<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Role(Role),
    /// Here every node passes on what any node serves: the first server stands for k3d's balancer.
    LoadBalancer,
    All,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("node filter {filter:?}: {why}")]
pub(crate) struct FilterError {
    filter: String,
    why: String,
}

impl NodeFilter {
    pub(crate) fn parse(text: &str) -> Result<Self, FilterError> {
        let parts = text.split(';').map(part).collect::<Result<_, _>>();
        parts.map(|parts| Self { parts }).map_err(|why| FilterError { filter: text.to_owned(), why })
    }

    pub(crate) fn selects(&self, role: Role, index: u32) -> bool {
        self.parts.iter().any(|part| {
            let in_group = match part.group {
                Group::Role(wanted) => wanted == role,
                Group::LoadBalancer => role == Role::Server && index == 0,
                Group::All => true,
            };
            in_group && (part.subset.is_empty() || part.subset.iter().any(|range| range.contains(&index)))
        })
    }
}

fn part(text: &str) -> Result<Part, String> {
    let (group, subset) = match text.split_once(':') {
        Some((group, subset)) => (group, subset),
        None => (text, "*"),
    };
    let group = match group {
        "server" | "servers" => Group::Role(Role::Server),
        "agent" | "agents" => Group::Role(Role::Agent),
        "loadbalancer" => Group::LoadBalancer,
        "all" => Group::All,
        other => return Err(format!("{other:?} is none of server, agent, loadbalancer, all")),
    };
    // k3d's word for how a port reaches its node: here every node is reached in the same way.
    let subset = ["proxy", "direct"].iter().find_map(|word| subset.strip_suffix(word)).unwrap_or(subset);
    let subset = match subset.trim_end_matches(':') {
        "" | "*" => Vec::new(),
        list => list.split(',').map(range).collect::<Result<_, _>>()?,
    };
    Ok(Part { group, subset })
}

fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    match (from.parse(), to.parse()) {
        (Ok(from), Ok(to)) if from <= to => Ok(from..=to),
        _ => Err(format!("{text:?} is no index such as 0, range such as 1-3, or *")),
    }
}

/// Splits `VALUE@FILTER` at its last `@`; `\@` is a plain one.
pub(crate) fn split(text: &str) -> Result<(String, Option<NodeFilter>), FilterError> {
    let at = text.char_indices().rev().find(|(at, c)| *c == '@' && !text[..*at].ends_with('\\'));
    let (value, filter) = match at {
        Some((at, _)) => (&text[..at], Some(NodeFilter::parse(&text[at + 1..])?)),
        None => (text, None),
    };
    Ok((value.replace("\\@", "@"), filter))
}
