//! How a sandbox gets its network: declared here, fulfilled by whoever knows networks.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use api::cri::{PodSandboxMetadata, PortMapping};
use futures::future::BoxFuture;

/// Connects sandboxes that have a network namespace of their own.
pub trait SandboxNetwork: Send + Sync + 'static {
    /// Connects a sandbox; its loopback interface is up already. Returns its addresses, the primary one first.
    /// May be asked again for a sandbox that it has connected before, after a crash in between.
    fn setup<'a>(&'a self, sandbox: SandboxLink<'a>) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>>;

    /// Lets go of everything that `setup` took. `namespace` is absent when it is gone already, which is no error;
    /// nor is a sandbox that was never connected.
    fn teardown<'a>(
        &'a self,
        sandbox_id: &'a str,
        namespace: Option<BorrowedFd<'a>>,
    ) -> BoxFuture<'a, Result<(), NetworkError>>;

    /// Why sandboxes cannot be connected at the moment; `None` when they can. The node's `NetworkReady`.
    fn unready(&self) -> Option<String>;
}

/// A sandbox to connect.
#[derive(Clone, Copy, Debug)]
pub struct SandboxLink<'a> {
    pub id: &'a str,
    pub namespace: BorrowedFd<'a>,
    pub metadata: &'a PodSandboxMetadata,
    pub ports: &'a [PortMapping],
    pub annotations: &'a std::collections::BTreeMap<String, String>,
    /// What the pod had in its last sandbox: whoever knew it by these still finds it.
    pub former: &'a [IpAddr],
    /// What other pods will ask for again, whose sandboxes ended with the node.
    pub awaited: &'a [IpAddr],
}

/// Why a sandbox could not be connected, in words for the pod's events.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);

/// No network but loopback: for nodes without one, and for pods that must not have any.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopbackOnly;

impl SandboxNetwork for LoopbackOnly {
    fn setup<'a>(&'a self, _: SandboxLink<'a>) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn teardown<'a>(&'a self, _: &'a str, _: Option<BorrowedFd<'a>>) -> BoxFuture<'a, Result<(), NetworkError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn unready(&self) -> Option<String> {
        None
    }
}
