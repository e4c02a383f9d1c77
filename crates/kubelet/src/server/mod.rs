//! The kubelet's HTTPS API: what the API server and monitoring ask of a node.
//!
//! | path | what | right on `nodes` |
//! | --- | --- | --- |
//! | `/containerLogs/NS/POD/CONTAINER` | a log | `proxy` |
//! | `/exec`, `/attach`, `/portForward` | streams, as websockets or SPDY | `proxy` |
//! | `/pods` | the pods of the node | `pods`, `proxy` |
//! | `/stats/summary` | use of CPU and memory | `stats`, `proxy` |
//! | `/metrics`, `/metrics/resource`, `/metrics/cadvisor` | the same for Prometheus | `metrics`, `proxy` |
//! | `/configz` | settings | `configz`, `proxy` |
//! | `/healthz` | that it lives | `healthz`, `proxy` |
//!
//! Nobody is anonymous: a client shows a certificate of the cluster's CA, which the caller's TLS configuration checks, or
//! a token; the [`Authorizer`] says whose it is and what its user may do (KEP-2862 for the finer rights).

mod auth;
mod channels;
mod figures;
mod routes;
mod spdy;
#[cfg(test)]
mod tests;
mod upgrade;
mod websockets;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use auth::{Attributes, Authorizer, Delegated, User};

use crate::handle::Handle;

/// The five limits of the listener: a slow or greedy client holds nothing for long.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(32);
const HEADER_BYTES: usize = 64 * 1024;
/// Of a request body: no path takes one of any size.
const BODY_BYTES: usize = 64 * 1024;
const CONNECTIONS: usize = 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;
/// The answer to a request that is not served.
type Refused = Box<Response<Body>>;

/// What all requests share.
struct Shared {
    handle: Handle,
    authorizer: Arc<dyn Authorizer>,
    tasks: TaskTracker,
    token: CancellationToken,
}

/// Serves until the token is cancelled. `tls` must ask clients for certificates of the cluster's CA and let those in that have none.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handle: Handle,
    authorizer: Arc<dyn Authorizer>,
    token: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let shared = Arc::new(Shared { handle, authorizer, tasks: tasks.clone(), token: token.clone() });
    loop {
        let place = tokio::select! {
            () = token.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = token.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (acceptor, shared, ended) = (acceptor.clone(), Arc::clone(&shared), token.clone());
        match accepted {
            Ok((stream, _)) => {
                tasks.spawn(async move {
                    let _place = place;
                    let _ended = ended.run_until_cancelled(connection(acceptor, stream, shared)).await;
                });
            }
            Err(error) => tracing::debug!(%error, "connection not accepted"),
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(acceptor: TlsAcceptor, stream: tokio::net::TcpStream, shared: Arc<Shared>) {
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
    let user = auth::user(stream.get_ref().1.peer_certificates());
    let service = service_fn(move |request| {
        let (shared, user) = (Arc::clone(&shared), user.clone());
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&shared, user.as_ref(), request).await) }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = serving.await {
        tracing::debug!(%error, "connection ended");
    }
}

fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    reply(code, "text/plain; charset=utf-8", text.into())
}

fn refuse(code: StatusCode, why: impl Into<String>) -> Refused {
    Box::new(text(code, why))
}

fn reply(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
