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
mod figures;
mod routes;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ::cri::streaming::Tasks;
use client::listener::{Answer, Arrivals, Limits, Pace, Paced, Place, Places};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use auth::{Attributes, Authorizer, Delegated, User};

use crate::handle::Handle;

/// Of a request body: no path takes one of any size.
const BODY_BYTES: usize = 64 * 1024;

/// What the listener bounds: who asks a node is few, and asks little.
pub fn limits() -> Limits {
    Limits { head_bytes: 64 * 1024, connections: 1024, of_one_address: 1024, ..Limits::default() }
}

/// What all requests share.
struct Shared {
    handle: Handle,
    authorizer: Arc<dyn Authorizer>,
    limits: Limits,
    tasks: Tasks,
}

/// Serves until the token is cancelled. `tls` must ask clients for certificates of the cluster's CA and let those in that have none.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    handle: Handle,
    authorizer: Arc<dyn Authorizer>,
    limits: Limits,
    token: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let acceptor = TlsAcceptor::from(tls);
    let (mut arrivals, places) = (Arrivals::new(listener), Places::new(&limits));
    let streaming = Tasks { tracker: tasks.clone(), token: token.clone() };
    let shared = Arc::new(Shared { handle, authorizer, limits, tasks: streaming });
    while let Some(room) = token.run_until_cancelled(places.room()).await {
        let Some((stream, from)) = token.run_until_cancelled(arrivals.next()).await else { break };
        let Some(place) = room.of(from.ip()) else { continue };
        let (acceptor, shared, ended) = (acceptor.clone(), Arc::clone(&shared), token.clone());
        tasks.spawn(async move {
            let _ended = ended.run_until_cancelled(connection(acceptor, stream, place, shared)).await;
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, place: Place, shared: Arc<Shared>) {
    let Ok(Ok(stream)) = timeout(shared.limits.handshake, acceptor.accept(stream)).await else { return };
    let user = auth::user(stream.get_ref().1.peer_certificates());
    answer(stream, user, place, shared).await;
}

/// Answers what `user` asks on a connection.
async fn answer<S>(stream: S, user: Option<User>, place: Place, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = shared.limits.clone();
    let pace = Pace::new(&limits, true);
    let answering = Arc::clone(&pace);
    let service = service_fn(move |request| {
        let (shared, user, busy) = (Arc::clone(&shared), user.clone(), answering.begin());
        async move {
            let response = routes::answer(&shared, user.as_ref(), request).await;
            Ok::<_, std::convert::Infallible>(response.map(|body| Answer::new(body, busy)))
        }
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(Paced::new(stream, Arc::clone(&pace), place)), service)
        .with_upgrades();
    tokio::select! {
        ended = serving => if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        },
        // What has no request, or half of one, is owed nothing.
        over = pace.over() => tracing::debug!(?over, "connection closed"),
    }
}
