//! Connections that are kept open between calls: few for each callee, for a while, and only while what they lead to is
//! still a place of the callee.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Callee;
use crate::response::Body;
use crate::streaming::Stream;

/// Connections that are kept for one callee.
const FOR_EACH: usize = 4;
/// Callees for which connections are kept.
const CALLEES: usize = 256;
/// How long a connection is kept that nobody uses, as Go's clients keep theirs.
const IDLE: Duration = Duration::from_secs(90);

/// To whom a connection leads, and whom they proved to be: callees with different authorities share none.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    host: String,
    tls: usize,
}

impl Key {
    pub(super) fn new(callee: &Callee) -> Self {
        Self { host: callee.address.host(), tls: Arc::as_ptr(&callee.tls).addr() }
    }
}

/// A connection on which requests follow each other.
pub(super) struct Connection {
    sender: SendRequest<Body>,
    address: SocketAddr,
    used: Instant,
    /// Held so that no other configuration comes to have the address that the key is made of.
    _tls: Arc<ClientConfig>,
}

impl Connection {
    /// Sends a request when the answer before it has been read.
    pub(super) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.used = Instant::now();
        self.sender.send_request(request).await
    }
}

pub(super) struct Connections {
    kept: Mutex<HashMap<Key, Vec<Connection>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    pub(super) fn new(tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { kept: Mutex::default(), tasks, stop }
    }

    /// A kept connection to a place that `fits`.
    pub(super) fn take(&self, key: &Key, fits: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        let mut kept = self.kept.lock();
        let ours = kept.get_mut(key)?;
        ours.retain(|it| !it.sender.is_closed() && it.used.elapsed() < IDLE && fits(it.address));
        // One that still waits for the end of an answer would make this call wait as well.
        let ready = ours.iter().rposition(|it| it.sender.is_ready())?;
        Some(ours.swap_remove(ready))
    }

    /// Keeps a connection for the next call.
    pub(super) fn keep(&self, key: Key, connection: Connection) {
        let mut kept = self.kept.lock();
        if kept.len() >= CALLEES && !kept.contains_key(&key) {
            kept.retain(|_, theirs| {
                theirs.retain(|it| !it.sender.is_closed() && it.used.elapsed() < IDLE);
                !theirs.is_empty()
            });
        }
        if kept.len() >= CALLEES && !kept.contains_key(&key) {
            return;
        }
        let ours = kept.entry(key).or_default();
        if ours.len() < FOR_EACH {
            ours.push(connection);
        }
    }

    /// Begins to speak HTTP/1.1 on a new connection. Upstream speaks no HTTP/2 to callees, so that the endpoints of a
    /// Service share the calls.
    pub(super) async fn begin(
        &self,
        stream: Box<dyn Stream>,
        address: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> hyper::Result<Connection> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(async move {
            if let Err(why) = connection.with_upgrades().await {
                debug!(%address, %why, "connection to an extension ended");
            }
        }));
        Ok(Connection { sender, address, used: Instant::now(), _tls: tls })
    }
}
