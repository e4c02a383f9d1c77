//! The way from servers to nodes that accept no connections: each agent keeps one connection to every server, over
//! which the server asks it to connect to its own kubelet.
//!
//! The agent asks for an upgrade as the client that its certificate says it is. From then on HTTP/2 runs over the
//! connection the other way round: the server sends CONNECT, the agent answers. So many streams with flow control and
//! signs of life need no protocol of our own.
//!
//! ```text
//! agent  ── GET /v1-k3s/connect, Upgrade: k3rs-tunnel ──►  server
//! agent  ◄── 101 ─────────────────────────────────────────  server
//! agent  ◄── CONNECT 127.0.0.1:10250 (HTTP/2) ────────────  server        TLS to the kubelet inside
//! ```

mod agent;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use agent::Keeper;
pub use server::Tunnels;

pub(crate) const PATH: &str = "/v1-k3s/connect";
/// What the connection becomes. Another version of it would have another name.
pub(crate) const PROTOCOL: &str = "k3rs-tunnel";

/// For a connection, or a stream in it.
const CONNECT: Duration = Duration::from_secs(10);
/// Each side asks the other for a sign of life after this much silence, and gives the tunnel up without one.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(15);
/// A log or a copy must not be held up by its window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
