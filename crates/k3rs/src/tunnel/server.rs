//! The server's end: the tunnels that are open, by node.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use super::{CONNECT, CONNECTION_WINDOW, PING_AFTER, PING_WAIT, STREAM_WINDOW};

/// A node that connects more often, as by several addresses of one server, lets go of its oldest tunnel.
const MOST_OF_A_NODE: usize = 4;

/// The tunnels of all nodes to this server.
pub struct Tunnels {
    open: Mutex<Open>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Open {
    /// The newest last.
    nodes: HashMap<String, Vec<Tunnel>>,
    /// How many there ever were.
    count: u64,
}

struct Tunnel {
    id: u64,
    sender: SendRequest<Empty<Bytes>>,
}

impl Tunnels {
    /// Tunnels live on `tasks` until `stop`.
    pub fn new(tasks: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { open: Mutex::default(), tasks, stop })
    }

    /// Takes in the connection of `node` once it is upgraded.
    pub(crate) fn accept(self: &Arc<Self>, node: String, upgrade: OnUpgrade) {
        let (tunnels, stop) = (self.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            match stop.run_until_cancelled(tunnels.hold(&node, upgrade)).await {
                Some(Err(why)) => debug!(node, %why, "tunnel ended"),
                Some(Ok(())) | None => debug!(node, "tunnel ended"),
            }
        });
    }

    async fn hold(self: &Arc<Self>, node: &str, upgrade: OnUpgrade) -> hyper::Result<()> {
        let upgraded = upgrade.await?;
        let handshake = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_WAIT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(upgraded);
        let (sender, connection) = handshake.await?;
        let _entry = self.enter(node, sender);
        info!(node, "tunnel open");
        connection.await
    }

    fn enter(self: &Arc<Self>, node: &str, sender: SendRequest<Empty<Bytes>>) -> Entry {
        let mut open = self.open.lock();
        open.count += 1;
        let id = open.count;
        let of_node = open.nodes.entry(node.to_owned()).or_default();
        of_node.push(Tunnel { id, sender });
        if of_node.len() > MOST_OF_A_NODE {
            // A connection that nobody can send by ends when its streams have.
            of_node.remove(0);
        }
        Entry { tunnels: self.clone(), node: node.to_owned(), id }
    }

    /// A stream to `address` as `node` reaches it; `None` if the node has no tunnel.
    pub async fn dial(&self, node: &str, address: &str) -> Option<io::Result<TokioIo<Upgraded>>> {
        let sender = self.open.lock().nodes.get(node)?.last()?.sender.clone();
        let dialed = timeout(CONNECT, connect(sender, address)).await;
        Some(dialed.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut))))
    }
}

async fn connect(mut sender: SendRequest<Empty<Bytes>>, address: &str) -> io::Result<TokioIo<Upgraded>> {
    let target: Uri = address.parse().map_err(io::Error::other)?;
    let request = Request::connect(target).body(Empty::new()).map_err(io::Error::other)?;
    sender.ready().await.map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    if !response.status().is_success() {
        return Err(io::Error::other(format!("the node refuses {address} with {}", response.status())));
    }
    hyper::upgrade::on(response).await.map(TokioIo::new).map_err(io::Error::other)
}

/// A tunnel among those that are open, for as long as this lives.
struct Entry {
    tunnels: Arc<Tunnels>,
    node: String,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.tunnels.open.lock();
        if let Some(of_node) = open.nodes.get_mut(&self.node) {
            of_node.retain(|tunnel| tunnel.id != self.id);
            if of_node.is_empty() {
                open.nodes.remove(&self.node);
            }
        }
    }
}
