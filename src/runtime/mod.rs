//! Where nodes run: one trait, a module for each runtime.
//!
//! ```text
//! native  namespaces of this machine, made by our own core
//! docker  containers of a Docker engine
//! fake    nothing at all, for tests
//! ```

pub(crate) mod docker;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod native;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::cluster::filters::Role;
use crate::cluster::ports::Transport;
use crate::failure::{Code, Failure};
use crate::node_image::NodeImage;

/// Which runtime a cluster's nodes run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuntimeKind {
    Native,
    Docker,
}

impl fmt::Display for RuntimeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Docker => "docker",
        })
    }
}

/// A port of the host that leads to a port of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Publish {
    pub(crate) host: SocketAddr,
    pub(crate) port: u16,
    pub(crate) transport: Transport,
}

/// A node as it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeSpec {
    /// `k3rs-CLUSTER-ROLE-INDEX`, also its host name.
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) role: Role,
    pub(crate) address: Ipv4Addr,
    /// Which of the pool's networks its cluster has ([`crate::cluster::layout::subnet`]).
    pub(crate) network: u8,
    /// What the runtime calls the node image.
    pub(crate) image: String,
    /// Its PID 1.
    pub(crate) command: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) ports: Vec<Publish>,
}

/// A file that a node has from its first moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeFile {
    /// From the node's root, without the slash.
    pub(crate) path: String,
    pub(crate) contents: Vec<u8>,
    pub(crate) mode: u32,
}

/// A node as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) name: String,
    pub(crate) running: bool,
}

/// A program to run in a node, with the caller's standard streams.
#[derive(Clone, Debug)]
pub(crate) struct Exec {
    /// The user's shell, or the node's, if empty.
    pub(crate) command: Vec<String>,
    pub(crate) terminal: bool,
}

/// What a runtime can do. Every call may be repeated: what is already so is success.
pub(crate) trait NodeRuntime: Send + Sync {
    fn kind(&self) -> RuntimeKind;

    /// Makes a node image known to the runtime, under its name.
    fn load_image<'a>(&'a self, image: &'a NodeImage) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// The network that a cluster's nodes share.
    fn create_network<'a>(&'a self, cluster: &'a str, network: u8) -> BoxFuture<'a, Result<(), RuntimeError>>;

    fn delete_network<'a>(&'a self, cluster: &'a str, network: u8) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Everything but running it. `files` are put over the image's.
    fn create_node<'a>(&'a self, node: &'a NodeSpec, files: &'a [NodeFile]) -> BoxFuture<'a, Result<(), RuntimeError>>;

    fn start_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Asks it to end and waits; ends it by force when it takes too long.
    fn stop_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// With its data.
    fn delete_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Whether it runs; `None` when there is no such node.
    fn inspect<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<Option<Observed>, RuntimeError>>;

    /// Puts a file of the host into a node, whole or not at all.
    fn copy_in<'a>(
        &'a self,
        node: &'a NodeSpec,
        from: &'a Path,
        to: &'a str,
    ) -> BoxFuture<'a, Result<(), RuntimeError>>;

    /// Runs a program in a node; returns its exit code.
    fn exec<'a>(&'a self, node: &'a NodeSpec, exec: &'a Exec) -> BoxFuture<'a, Result<i32, RuntimeError>>;
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RuntimeError {
    /// The host lacks something.
    #[error("{what}")]
    Unable { what: String, remedy: String },
    #[error("{what}")]
    Unknown { what: String, remedy: String },
    #[error("{what}")]
    Permission { what: String, remedy: String },
    #[error("node {0} does not run")]
    NotRunning(String),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{what}: {why}")]
    Failed { what: String, why: String },
}

impl RuntimeError {
    pub(crate) fn failed(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::Failed { what: what.into(), why: why.to_string() }
    }
}

/// Says what an operation of the system was for.
pub(crate) trait During<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, RuntimeError>;
}

impl<T> During<T> for std::io::Result<T> {
    fn during(self, what: impl FnOnce() -> String) -> Result<T, RuntimeError> {
        self.map_err(|source| RuntimeError::Io { what: what(), source })
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        let message = error.to_string();
        match error {
            RuntimeError::Unable { remedy, .. } => Failure::new(Code::HostUnable, message).remedy(remedy),
            RuntimeError::Unknown { remedy, .. } => Failure::new(Code::NotFound, message).remedy(remedy),
            RuntimeError::Permission { remedy, .. } => Failure::new(Code::Permission, message).remedy(remedy),
            RuntimeError::NotRunning(_) => {
                Failure::new(Code::Failure, message).remedy("start its cluster: k3rs-dev cluster start NAME")
            }
            RuntimeError::Io { what, source } => Failure::io(what, &source),
            RuntimeError::Failed { .. } => Failure::new(Code::Failure, message),
        }
    }
}
