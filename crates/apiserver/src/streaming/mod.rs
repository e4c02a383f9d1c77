//! Requests that something else in the cluster answers: a node's kubelet, a Pod, an endpoint of a Service. They are
//! passed on, and what becomes a stream is joined end to end.
//!
//! ```text
//! pods      log, exec, attach, portforward
//! proxy     .../proxy/... of nodes, pods and services
//! options   what a connection asks for, as admission sees it
//! location  which address a proxied request is for
//! rewrite   links and redirects of what is proxied
//! ```
//!
//! The protocols inside an upgraded connection are between the client and the kubelet; here they are bytes.

mod location;
mod options;
mod pods;
mod proxy;
mod rewrite;

pub(crate) use location::{endpoints, random_below, slices_of};
pub(crate) use proxy::{PeerAddress, end_to_end, outgoing};

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use api::status::{Status, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, Request, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tracing::debug;

use crate::admission::{self, Operation};
use crate::authn::User;
use crate::registry::{Call, Served};
use crate::request::{RequestInfo, ResourceRequest};
use crate::response::{self, Body, Response};
use crate::server::ApiServer;

/// Headers that make a request a stream, and an answer its acceptance.
const UPGRADE_FIELDS: [&str; 8] = [
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-accept",
    "origin",
    "x-stream-protocol-version",
    "x-accepted-stream-protocol-versions",
];
/// How long a client gets to hang up after the last word; closing before it has read everything could lose the end.
const LINGER: Duration = Duration::from_secs(10);

/// A connection to something in the cluster.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Reaches what is in the cluster: declared here, fulfilled by whoever knows certificates and tunnels.
pub trait NodeDialer: Send + Sync + 'static {
    /// Connects to the kubelet of `node`, a Node object, secured and authenticated.
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// Connects to an address of a node, a Pod or an endpoint: TCP without TLS. `node` is the Node object where it is
    /// known which one has the address.
    fn connect<'a>(
        &'a self,
        node: Option<&'a Value>,
        address: SocketAddr,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// The addresses of a host outside of the cluster.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Err(io::Error::other(format!("{host}: no such host"))) })
    }
}

/// True for requests that are passed on.
pub(crate) fn is_streamed(target: &ResourceRequest) -> bool {
    target.group.is_empty()
        && match target.resource.as_str() {
            "pods" => target.subresource == "proxy" || pods::is_answered(&target.subresource),
            "nodes" | "services" => target.subresource == "proxy",
            _ => false,
        }
}

/// Passes the request on, if admission lets it: it is asked before anything is connected.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    served: &Served,
    user: &User,
    info: &RequestInfo,
    target: &ResourceRequest,
    query: &str,
    parts: http::request::Parts,
    body: Body,
) -> Result<Response, Status> {
    if target.subresource != "log" {
        let mut call = Call::internal(user.clone(), info.verb, target.clone(), Bytes::new());
        let mut asked = admission::Request::new(Operation::Connect, served, &call, false);
        asked.object = Some(options::of(&asked.sent.kind, target, query));
        server.registry.admission.check(&mut call, &mut asked).await?;
    }
    match target.subresource.as_str() {
        "proxy" => proxy::handle(server, info, target, query, parts, body).await,
        _ => pods::handle(server, user, info, target, query, parts).await,
    }
}

/// An object of the core group, as it was last heard of.
fn find(server: &ApiServer, resource: &'static str, key: &ObjectKey) -> Result<Value, Status> {
    let served = server.registry.catalogue.find("", "v1", resource);
    let entry = served.and_then(|served| served.cache.as_ref()?.get(key));
    entry
        .map(|entry| entry.to_value())
        .ok_or_else(|| Status::not_found(Subject { group: "", resource }, key.name.as_str()))
}

/// True where a client asks for another protocol on its connection.
pub(crate) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// Sends a request over a connection of its own.
async fn exchange(
    server: &ApiServer,
    stream: Box<dyn Stream>,
    request: Request<Body>,
) -> Result<http::Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    server.streams.spawn(server.stop.clone().run_until_cancelled_owned(async move {
        if let Err(why) = connection.with_upgrades().await {
            debug!(%why, "connection into the cluster ended");
        }
    }));
    sender.send_request(request).await
}

/// What makes an upgrade goes through; the rest is between each pair.
fn copy_upgrade(from: &HeaderMap, to: &mut HeaderMap) {
    let names = UPGRADE_FIELDS.iter().map(|name| HeaderName::from_static(name)).chain([CONNECTION, UPGRADE]);
    for name in names {
        for value in from.get_all(&name) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// The acceptance of an upgrade, as the other side said it.
pub(crate) fn switched(headers: &HeaderMap) -> Response {
    let mut response = http::Response::new(response::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    copy_upgrade(headers, response.headers_mut());
    response
}

/// Joins two connections that were switched to one protocol, until either ends.
pub(crate) fn splice(server: &ApiServer, client: OnUpgrade, other: OnUpgrade) {
    server.streams.spawn(server.stop.clone().run_until_cancelled_owned(async move {
        match futures::future::try_join(client, other).await {
            Ok((client, other)) => copy_until_end(TokioIo::new(client), TokioIo::new(other)).await,
            Err(why) => debug!(%why, "stream was not switched"),
        }
    }));
}

async fn copy_until_end(client: impl AsyncRead + AsyncWrite, other: impl AsyncRead + AsyncWrite) {
    let (mut client_reads, mut client_writes) = tokio::io::split(client);
    let (mut other_reads, mut other_writes) = tokio::io::split(other);
    let hung_up = tokio::select! {
        _ = tokio::io::copy(&mut client_reads, &mut other_writes) => true,
        _ = tokio::io::copy(&mut other_reads, &mut client_writes) => false,
    };
    if hung_up {
        // Nobody is left to hear what the other side would say.
        let _gone = other_writes.shutdown().await;
        return;
    }
    let _gone = client_writes.shutdown().await;
    let _late = timeout(LINGER, tokio::io::copy(&mut client_reads, &mut tokio::io::sink())).await;
}
