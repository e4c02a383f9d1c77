//! The listener: TLS, HTTP/1.1 and HTTP/2, within the limits that every listener of ours has.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::listener::{Answer, Arrivals, Limits, Over, Pace, Paced, Place, Places};
use futures::future::BoxFuture;
use http::StatusCode;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::authn::PeerCertificates;
use crate::gather;
use crate::metrics::TLS_ERRORS;
use crate::received::Received;
use crate::response::Response;
use crate::streaming::PeerAddress;

/// An HTTP/2 connection is asked for a sign of life after this, and closed without one.
const PING_AFTER: Duration = Duration::from_secs(30);
const PING_WAIT: Duration = Duration::from_secs(15);
/// Requests at once over one HTTP/2 connection, as upstream's default is; clients that have more, such as client-go with
/// its watches, take another connection.
const STREAMS: u32 = 100;
/// A watch must not be held up by its window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// What may wait in a stream whose client does not read.
const STREAM_UNSENT: usize = 64 << 10;

/// What the listener shows and offers, as files and flags say; without them it is the cluster's own certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// A certificate with its chain, and its key.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Others for clients who ask for them by name.
    pub by_name: Vec<NamedCertificate>,
    /// By Go's names; all that there are if none is said.
    pub ciphers: Vec<String>,
    /// Whether TLS 1.2 is not spoken.
    pub only_1_3: bool,
}

/// A certificate for some names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// `a.example.org` or `*.example.org`; those in the certificate if none is said.
    pub names: Vec<String>,
}

/// Put into an answer over HTTP/2 after which the client is to take another connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parting;

/// What answers requests: [`crate::service::ApiService`], or something around it. It has no type of its own, so that
/// everything between a socket and the answer is compiled in this crate, which is built fast.
pub type Handler =
    Arc<dyn Fn(http::Request<Received>) -> BoxFuture<'static, Result<Response, Infallible>> + Send + Sync>;

/// Serves until `stop`; connections get until the tracker's owner gives up waiting to finish.
pub fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handler: Handler,
    limits: Limits,
    tasks: &TaskTracker,
    stop: CancellationToken,
) {
    tasks.spawn(accept(listener, tls, handler, limits, tasks.clone(), stop));
}

async fn accept(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handler: Handler,
    limits: Limits,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let (mut arrivals, places, limits) = (Arrivals::new(listener), Places::new(&limits), Arc::new(limits));
    loop {
        let Some(room) = stop.run_until_cancelled(places.room()).await else { return };
        let Some((socket, from)) = stop.run_until_cancelled(arrivals.next()).await else { return };
        let Some(place) = room.of(from.ip()) else { continue };
        let (acceptor, handler, limits, stop) = (acceptor.clone(), handler.clone(), limits.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(why) = connection(socket, place, acceptor, handler, &limits, stop).await {
                debug!(%why, "connection ended");
            }
        });
    }
}

async fn connection(
    socket: TcpStream,
    place: Place,
    acceptor: TlsAcceptor,
    handler: Handler,
    limits: &Limits,
    stop: CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    socket.set_nodelay(true)?;
    let address = PeerAddress(socket.peer_addr()?);
    let late = |what: &str| io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long"));
    let agreed = timeout(limits.handshake, acceptor.accept(socket)).await.map_err(|_| late("the TLS handshake"));
    let stream = agreed.and_then(|agreed| agreed).inspect_err(|_| TLS_ERRORS.add(&[], 1.0))?;
    let session = stream.get_ref().1;
    let peer = session
        .peer_certificates()
        .map(|chain| PeerCertificates::new(chain.iter().map(|certificate| certificate.clone().into_owned()).collect()));
    // As Go: HTTP/2 is spoken with those who have asked for it, and nothing else.
    let http2 = session.alpn_protocol() == Some(b"h2");
    let pace = Pace::new(limits, !http2);
    let answering = pace.clone();
    // Over HTTP/2 a stranger could ask as much as those who are known: one question, and it is over
    // (upstream's UnauthenticatedHTTP2DOSMitigation).
    let stranger = CancellationToken::new();
    let refused = stranger.clone();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let busy = answering.begin();
        request.extensions_mut().insert(address);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        let (head, body) = request.into_parts();
        let (body, rest) = Received::new(body);
        let answered = handler(http::Request::from_parts(head, body));
        let refused = refused.clone();
        async move {
            let Ok(response) = answered.await;
            // Over HTTP/1.1 hyper reads on by itself, or closes the connection.
            if http2 {
                rest.drain().await;
            }
            let parting = response.extensions().get::<Parting>().is_some();
            if http2 && (parting || response.status() == StatusCode::UNAUTHORIZED) {
                refused.cancel();
            }
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, busy)))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(limits.head_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_WAIT)
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(STREAM_UNSENT)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let (stream, mut turns) = gather::gathered(stream, http2);
    let stream = TokioIo::new(Paced::new(stream, pace.clone(), place));
    let connection = builder.serve_connection_with_upgrades(stream, service);
    tokio::pin!(connection);
    tokio::select! {
        ended = poll_fn(|cx| turns.poll(connection.as_mut(), cx)) => return ended,
        () = stop.cancelled() => {}
        () = stranger.cancelled() => debug!("connection of a stranger, or of one who is to go elsewhere"),
        over = pace.over() => match over {
            Over::Head => return Err(late("the head of a request").into()),
            Over::Idle => debug!("connection without requests"),
        },
    }
    connection.as_mut().graceful_shutdown();
    poll_fn(|cx| turns.poll(connection.as_mut(), cx)).await
}
