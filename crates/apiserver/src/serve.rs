//! The listener: TLS, HTTP/1.1 and HTTP/2, and the five limits that every listener of ours has.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::authn::PeerCertificates;
use crate::response::Response;
use crate::streaming::PeerAddress;

/// A client that has not shaken hands by then is gone or means harm.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The same for the head of a request over HTTP/1.1.
const HEADER: Duration = Duration::from_secs(30);
/// What a head may hold, as Go's servers have it.
const HEAD_BYTES: usize = 1 << 20;
/// An HTTP/2 connection is asked for a sign of life after this, and closed without one.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(15);
/// Open connections; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;
/// Requests at once over one HTTP/2 connection; client-go multiplexes all its watches over one.
const STREAMS: u32 = 1000;
/// A watch must not be held up by its window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What answers requests: [`crate::service::ApiService`], or something around it.
pub trait Service:
    tower::Service<http::Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Service for S where
    S: tower::Service<http::Request<Incoming>, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Serves until `stop`; connections get until the tracker's owner gives up waiting to finish.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    service: impl Service,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let slot = tokio::select! {
            () = stop.cancelled() => return,
            // The semaphore is never closed.
            slot = slots.clone().acquire_owned() => slot,
        };
        let socket = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                // Out of files or memory: those who hold them will let go, and the next accept waits for them.
                Err(why) => {
                    warn!(%why, "accepting a connection");
                    tokio::task::yield_now().await;
                    continue;
                }
            },
        };
        let (acceptor, service, stop) = (acceptor.clone(), service.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(why) = connection(socket, acceptor, service, stop).await {
                debug!(%why, "connection ended");
            }
            drop(slot);
        });
    }
}

async fn connection(
    socket: TcpStream,
    acceptor: TlsAcceptor,
    service: impl Service,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    socket.set_nodelay(true)?;
    let address = PeerAddress(socket.peer_addr()?);
    let stream = timeout(HANDSHAKE, acceptor.accept(socket))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake took too long"))??;
    let peer =
        stream.get_ref().1.peer_certificates().map(|chain| {
            PeerCertificates::new(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
        });
    let service = tower::util::MapRequest::new(service, move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(address);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        request
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER).max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_WAIT)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
