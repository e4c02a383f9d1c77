//! The agent's end: one connection to every server, kept, and the one place where it leads.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::backoff::Backoff;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{CONNECT, CONNECTION_WINDOW, PATH, PING_AFTER, PING_WAIT, PROTOCOL, STREAM_WINDOW};
use crate::tls;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A tunnel that held as long as this was a good one: the next attempt comes at once.
const HELD: Duration = Duration::from_secs(10);
/// Streams at once.
const STREAMS: u32 = 1000;

/// Keeps the tunnels of one agent.
pub(crate) struct Keeper {
    pub(crate) tls: Arc<ClientConfig>,
    /// The port of the node's kubelet. Streams lead there and nowhere else.
    pub(crate) kubelet: u16,
    pub(crate) tasks: TaskTracker,
}

impl Keeper {
    /// A tunnel to each of `servers`, until `stop`.
    pub(crate) async fn run(self, mut servers: watch::Receiver<Vec<SocketAddr>>, stop: CancellationToken) {
        let keeper = Arc::new(self);
        let mut held: HashMap<SocketAddr, DropGuard> = HashMap::new();
        loop {
            let wanted = servers.borrow_and_update().clone();
            held.retain(|server, _| wanted.contains(server));
            for server in wanted.into_iter().filter(|server| !held.contains_key(server)).collect::<Vec<_>>() {
                let (holder, until) = (keeper.clone(), stop.child_token());
                held.insert(server, until.clone().drop_guard());
                keeper.tasks.spawn(async move { until.run_until_cancelled(holder.hold(server)).await });
            }
            tokio::select! {
                () = stop.cancelled() => return,
                changed = servers.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Opens the tunnel to one server again and again.
    async fn hold(&self, server: SocketAddr) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut told = String::new();
        loop {
            let began = Instant::now();
            let why = match self.session(server).await {
                Ok(()) => "the server closed it".to_owned(),
                Err(why) => why.to_string(),
            };
            if began.elapsed() >= HELD {
                backoff.reset();
                told.clear();
            }
            if backoff.failures() > 0 && why != told {
                warn!(%server, "no tunnel to the server, which can ask nothing of this node by itself: {why}");
                told = why;
            } else {
                debug!(%server, why, "tunnel ended");
            }
            sleep_until(Instant::now() + backoff.fail()).await;
        }
    }

    /// One tunnel, from its opening to its end.
    async fn session(&self, server: SocketAddr) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let name = ServerName::try_from(tls::API_SERVER)?;
        let connected = timeout(CONNECT, async {
            let socket = TcpStream::connect(server).await?;
            socket.set_nodelay(true)?;
            upgraded(TlsConnector::from(self.tls.clone()).connect(name, socket).await?).await
        });
        let tunnel = connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.serve(tunnel).await?;
        Ok(())
    }

    /// Answers what the server asks over the tunnel.
    pub(super) async fn serve(&self, tunnel: Upgraded) -> hyper::Result<()> {
        let (kubelet, tasks) = (SocketAddr::from((Ipv4Addr::LOCALHOST, self.kubelet)), self.tasks.clone());
        let service = service_fn(move |request| answer(request, kubelet, tasks.clone()));
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_WAIT)
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(tunnel, service)
            .await
    }
}

/// Asks the server at the other end of `stream` to turn it round.
pub(super) async fn upgraded(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Upgraded, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request =
        Request::get(PATH).header(HOST, tls::API_SERVER).header(CONNECTION, "upgrade").header(UPGRADE, PROTOCOL);
    let request = request.body(Empty::<Bytes>::new())?;
    let asked = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("it answers {}", response.status()).into());
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(hyper::upgrade::on(response).await?)
    };
    let ended = async { connection.with_upgrades().await.map_err(Into::into) };
    let (upgraded, ()) = tokio::try_join!(asked, ended)?;
    Ok(upgraded)
}

/// Connects to the kubelet, if that is what is asked for.
async fn answer(
    request: Request<Incoming>,
    kubelet: SocketAddr,
    tasks: TaskTracker,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let status = |status| {
        let mut response = Response::new(Empty::new());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.method() != Method::CONNECT {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    if request.uri().authority().map(http::uri::Authority::as_str) != Some(kubelet.to_string().as_str()) {
        return status(StatusCode::FORBIDDEN);
    }
    let mut socket = match TcpStream::connect(kubelet).await {
        Ok(socket) => socket,
        Err(why) => {
            debug!(%why, "the kubelet does not answer");
            return status(StatusCode::BAD_GATEWAY);
        }
    };
    tasks.spawn(async move {
        match hyper::upgrade::on(request).await {
            // How a stream ends is its ends' business.
            Ok(stream) => drop(copy_bidirectional(&mut TokioIo::new(stream), &mut socket).await),
            Err(why) => debug!(%why, "stream not opened"),
        }
    });
    status(StatusCode::OK)
}
