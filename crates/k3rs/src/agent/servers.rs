//! The servers that an agent knows, and connections to one of them.
//!
//! All of an agent's connections come from here, so a server that is gone costs a new connection and nothing else. No
//! load is balanced: the server that answered last is asked first, the others when it does not. The list is kept on
//! disk under k3s's name, so that an agent starts again while the server that it first joined is away.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use client::informer::{Change, Informers};
use client::typed::scope_of;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use http::Uri;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::supervisor::addresses;

/// A server that has not answered by then is asked no longer.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the next server waits for the one before.
const HEAD_START: Duration = Duration::from_millis(400);
/// Of an https URL without a port.
const HTTPS: u16 = 443;

/// The server that an agent was told to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    host: String,
    port: u16,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no server's URL: write https://HOST:6443")]
pub struct NotAServer(String);

impl ServerUrl {
    pub fn parse(text: &str) -> Result<Self, NotAServer> {
        let refuse = || NotAServer(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| refuse())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(refuse)?;
        if uri.scheme_str() != Some("https") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(HTTPS) })
    }

    /// None if the host is a name.
    fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

impl std::fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "https://[{}]:{}", self.host, self.port),
            false => write!(f, "https://{}:{}", self.host, self.port),
        }
    }
}

/// As k3s writes it.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Saved {
    #[serde(rename = "ServerURL")]
    server_url: String,
    server_addresses: Vec<String>,
}

/// The servers of a cluster, as this agent knows them.
pub(super) struct Servers {
    given: ServerUrl,
    path: PathBuf,
    known: watch::Sender<Vec<SocketAddr>>,
    /// The one that answered last.
    preferred: Mutex<Option<SocketAddr>>,
}

impl Servers {
    /// The server `given`, and those that an earlier start of the same cluster's agent wrote to `path`.
    pub(super) fn open(given: ServerUrl, path: PathBuf) -> Arc<Self> {
        let saved: Saved =
            std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        // Told to join another server, the agent is to leave those of before alone.
        let mut addresses: Vec<_> = match saved.server_url == given.to_string() {
            true => saved.server_addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            false => Vec::new(),
        };
        if addresses.is_empty() {
            addresses.extend(given.address());
        }
        Arc::new(Self { given, path, known: watch::Sender::new(addresses), preferred: Mutex::default() })
    }

    pub(super) fn given(&self) -> &ServerUrl {
        &self.given
    }

    /// The servers as they become known; the given one until then, if its URL has an address.
    pub(super) fn watch(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.known.subscribe()
    }

    /// The servers are these now. A list without any is no news: somebody told it.
    pub(super) fn learn(&self, mut addresses: Vec<SocketAddr>) {
        addresses.sort();
        addresses.dedup();
        let news = |known: &mut Vec<SocketAddr>| {
            let differs = *known != addresses;
            known.clone_from(&addresses);
            differs
        };
        if addresses.is_empty() || !self.known.send_if_modified(news) {
            return;
        }
        info!(servers = ?addresses, "servers of the cluster");
        let saved = Saved {
            server_url: self.given.to_string(),
            server_addresses: addresses.iter().map(ToString::to_string).collect(),
        };
        let written = serde_json::to_vec(&saved)
            .map_err(io::Error::from)
            .and_then(|text| linux::files::write_atomic(&self.path, &text, 0o600));
        if let Err(why) = written {
            warn!(path = %self.path.display(), %why, "the list of servers cannot be kept");
        }
    }

    /// A connection to a server, whichever answers.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        let mut rest = self.candidates().await?.into_iter();
        let mut trying = FuturesUnordered::new();
        let mut failed = None;
        loop {
            match rest.next() {
                Some(address) => trying.push(dial(address)),
                None if trying.is_empty() => {
                    return Err(failed.unwrap_or_else(|| io::Error::from(io::ErrorKind::NotFound)));
                }
                None => {}
            }
            let next = Instant::now() + HEAD_START;
            tokio::select! {
                Some((address, connected)) = trying.next() => match connected {
                    Ok(stream) => {
                        *self.preferred.lock() = Some(address);
                        return Ok(stream);
                    }
                    // The first is the one that matters most.
                    Err(why) => failed = failed.or(Some(why)),
                },
                () = sleep_until(next), if rest.len() > 0 => {}
            }
        }
    }

    /// Whom to ask, in which order.
    async fn candidates(&self) -> io::Result<Vec<SocketAddr>> {
        let mut ordered: Vec<SocketAddr> = self.preferred.lock().iter().copied().collect();
        ordered.extend_from_slice(&self.known.borrow());
        match (self.given.address(), ordered.is_empty()) {
            (Some(address), _) => ordered.push(address),
            (None, nobody) => match network::dns::host_addresses(&self.given.host).await {
                Ok(found) => ordered.extend(found.into_iter().map(|ip| SocketAddr::new(ip, self.given.port))),
                Err(why) if nobody => return Err(why),
                Err(_) => {}
            },
        }
        let mut seen = Vec::new();
        ordered.retain(|address| {
            !seen.contains(address) && {
                seen.push(*address);
                true
            }
        });
        Ok(ordered)
    }
}

async fn dial(address: SocketAddr) -> (SocketAddr, io::Result<TcpStream>) {
    let connected = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream.set_nodelay(true).map(|()| stream),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    (address, connected)
}

/// Keeps `servers` what the cluster says of itself, until `stop`.
pub(super) async fn follow(servers: Arc<Servers>, informers: Arc<dyn Informers>, stop: CancellationToken) {
    // All slices: the node's Services need them anyway, and informers of one scope are shared.
    let informer = informers.informer(scope_of::<EndpointSlice>());
    let mut changes = informer.subscribe();
    let key = api::object::ObjectKey::new("default", "kubernetes");
    loop {
        let relevant = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => match change {
                Some(Change::Applied { new, .. }) => new.key == key,
                Some(Change::Deleted(_)) => false,
                Some(Change::Synced | Change::Resync) => true,
                None => return,
            },
        };
        if relevant && let Some(slice) = informer.get(&key) {
            let found = addresses(&slice.to_value());
            tokio::task::block_in_place(|| servers.learn(found.iter().filter_map(|text| text.parse().ok()).collect()));
        }
    }
}

/// [`Servers::connect`] as HTTP clients want it. Where the URI leads to does not matter.
#[derive(Clone)]
pub(super) struct Connector(pub(super) Arc<Servers>);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let servers = self.0.clone();
        Box::pin(async move { servers.connect().await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn only_urls_of_servers_are_taken() {
        let parse = |text| ServerUrl::parse(text).map(|url| url.to_string());
        assert_eq!(parse("https://192.0.2.1:6443").unwrap(), "https://192.0.2.1:6443");
        assert_eq!(parse("https://a.example/").unwrap(), "https://a.example:443");
        assert_eq!(parse("https://[2001:db8::1]:6443").unwrap(), "https://[2001:db8::1]:6443");
        for bad in ["", "192.0.2.1:6443", "http://a:6443", "https://", "https://a/path", "https://a?b"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// A port of this host where nobody listens.
    async fn deserted() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_go_to_whichever_server_answers_and_the_list_outlives_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("servers.json");
        let (first, second) = (deserted().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let given = ServerUrl::parse(&format!("https://{first}")).unwrap();
        let servers = Servers::open(given.clone(), path.clone());
        assert_eq!(servers.connect().await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        servers.learn(vec![first, second.local_addr().unwrap()]);
        servers.learn(Vec::new());
        let reached = |servers: Arc<Servers>| async move { servers.connect().await.unwrap().peer_addr().unwrap() };
        assert_eq!(reached(servers).await, second.local_addr().unwrap());
        assert_eq!(reached(Servers::open(given, path.clone())).await, second.local_addr().unwrap());
        // Another cluster's servers are not this one's.
        let other = ServerUrl::parse(&format!("https://{}", deserted().await)).unwrap();
        assert!(Servers::open(other, path).connect().await.is_err());
    }
}
