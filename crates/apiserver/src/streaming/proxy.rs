//! Proxies to nodes, Pods and Services: a request is passed on as it is, less what was only for this server
//! (upstream: `k8s.io/apimachinery/pkg/util/proxy`).

use std::net::SocketAddr;
use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use futures::stream;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION,
    TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::location::{Location, find_location};
use super::rewrite::{HtmlRewriter, Links};
use super::{Stream, exchange, is_upgrade, splice};
use crate::request::{RequestInfo, ResourceRequest, split_behind};
use crate::response::{self, Body, BoxError, Response};
use crate::server::ApiServer;

/// Who is connected; set by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// Between each pair of neighbours only (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    UPGRADE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
];
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
/// What would let pages of other origins read answers with this server's credentials.
const CORS: &str = "access-control-allow-";
/// What names the user to this server, and nobody else.
const IMPERSONATION: &str = "impersonate-";

/// Passes a request on.
pub(super) async fn handle(
    server: &Arc<ApiServer>,
    info: &RequestInfo,
    target: &ResourceRequest,
    query: &str,
    mut parts: Parts,
    body: Body,
) -> Result<Response, Status> {
    let (prefix, path) = split_behind(&info.path, target.rest.len()).ok_or_else(Status::path_not_found)?;
    let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| is_upgrade(&parts.headers));
    let with_query = |path: &str| if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    if path.is_empty() && upgrade.is_none() && matches!(parts.method, Method::GET | Method::HEAD) {
        // Relative links are only right below a folder.
        return Ok(redirect(&with_query(&format!("{}/", info.path))));
    }
    let location = find_location(server, target).await?;
    let unreachable =
        |why: &dyn std::fmt::Display| Status::unavailable(format!("error trying to reach service: {why}"));
    let (stream, source) = connect(server, &location).await.map_err(|why| unreachable(&why))?;
    let links = Links { prefix: prefix.to_owned(), source, asked: host(&parts).to_owned() };
    let request = outgoing(&parts, &with_query(if path.is_empty() { "/" } else { path }), &info.path, body, &upgrade)
        .map_err(|why| unreachable(&why))?;
    let answer = exchange(server, stream, request).await.map_err(|why| unreachable(&why))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(switch(server, answer, upgrade));
    }
    Ok(incoming(answer, links))
}

fn redirect(to: &str) -> Response {
    let mut response = response::text(StatusCode::MOVED_PERMANENTLY, Bytes::new());
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// The host that the client asked, by either version of HTTP.
fn host(parts: &Parts) -> &str {
    let field = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    field.or_else(|| parts.uri.authority().map(|it| it.as_str())).unwrap_or_default()
}

/// A connection, and the host that it is to.
async fn connect(server: &ApiServer, location: &Location) -> std::io::Result<(Box<dyn Stream>, String)> {
    match location {
        Location::Kubelet(node) => {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            Ok((server.dialer.dial(node).await?, name.to_owned()))
        }
        Location::Address { node, address, tls } => {
            let refused = |why: std::io::Error| {
                // The words of Go's dialer, which clients look for.
                std::io::Error::other(format!("dial tcp {address}: connect: {}", why.kind()))
            };
            let stream = server.dialer.connect(node.as_ref(), *address).await.map_err(refused)?;
            let stream = if *tls { secure(stream, *address).await? } else { stream };
            Ok((stream, address.to_string()))
        }
    }
}

async fn secure(stream: Box<dyn Stream>, address: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
    // Any certificate will do: the address was the API's to tell, and no authority signs for Pods.
    let connector = TlsConnector::from(Arc::new(client::tls::unverified()));
    Ok(Box::new(connector.connect(ServerName::from(address.ip()), stream).await?))
}

/// The request as the other side gets it.
pub(crate) fn outgoing(
    parts: &Parts,
    target: &str,
    asked: &str,
    body: Body,
    upgrade: &Option<OnUpgrade>,
) -> Result<Request<Body>, http::Error> {
    let mut request = Request::builder().method(parts.method.clone()).uri(target).body(body)?;
    let headers = request.headers_mut();
    *headers = end_to_end(&parts.headers);
    headers.remove(AUTHORIZATION);
    headers.remove(CONTENT_LENGTH);
    let impersonating: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with(IMPERSONATION)).cloned().collect();
    for name in impersonating {
        headers.remove(name);
    }
    headers.insert(HOST, HeaderValue::from_str(host(parts))?);
    headers.insert(FORWARDED_URI, HeaderValue::from_str(asked)?);
    if let Some(PeerAddress(peer)) = parts.extensions.get() {
        let before = headers.get(&FORWARDED_FOR).and_then(|list| list.to_str().ok());
        let list = before.map_or_else(|| peer.ip().to_string(), |before| format!("{before}, {}", peer.ip()));
        headers.insert(FORWARDED_FOR, HeaderValue::from_str(&list)?);
    }
    if upgrade.is_some() {
        super::copy_upgrade(&only_upgrade(&parts.headers), headers);
    }
    Ok(request)
}

fn only_upgrade(headers: &HeaderMap) -> HeaderMap {
    [CONNECTION, UPGRADE].iter().filter_map(|name| Some((name.clone(), headers.get(name)?.clone()))).collect()
}

/// All but what is between two neighbours.
pub(crate) fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let fields = headers.get_all(CONNECTION).iter().filter_map(|field| field.to_str().ok());
    for name in fields.flat_map(|field| field.split(',')).filter_map(|name| name.trim().parse::<HeaderName>().ok()) {
        kept.remove(name);
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

fn switch(server: &ApiServer, answer: http::Response<Incoming>, upgrade: Option<OnUpgrade>) -> Response {
    let mut response = http::Response::new(response::full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().clone_from(answer.headers());
    if let Some(client) = upgrade {
        splice(server, client, hyper::upgrade::on(answer));
    }
    response
}

/// The answer as the client gets it: its links lead through this server.
fn incoming(answer: http::Response<Incoming>, links: Links) -> Response {
    let (parts, body) = answer.into_parts();
    let mut headers = end_to_end(&parts.headers);
    let shared: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(CORS)).cloned().collect();
    for name in shared {
        headers.remove(name);
    }
    let text = |headers: &HeaderMap, name: HeaderName| {
        headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let location = text(&headers, LOCATION);
    let moved = links.rewrite(&location).and_then(|url| HeaderValue::from_str(&url).ok());
    if let Some(moved) = moved {
        headers.insert(LOCATION, moved);
    }
    let html = text(&headers, CONTENT_TYPE).split(';').next().is_some_and(|it| it.trim() == "text/html");
    let rewriter = HtmlRewriter::new(links, &text(&headers, CONTENT_ENCODING))
        .filter(|_| html && location.is_empty() && parts.status != StatusCode::NO_CONTENT);
    let body = match rewriter {
        Some(rewriter) => {
            headers.remove(CONTENT_LENGTH);
            headers.remove(CONTENT_ENCODING);
            rewritten(body, rewriter)
        }
        None => body.map_err(Into::into).boxed_unsync(),
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    response
}

fn rewritten(body: Incoming, rewriter: HtmlRewriter) -> Body {
    let frames = stream::unfold(Some((body, rewriter)), |state| async move {
        let (mut body, mut rewriter) = state?;
        Some(loop {
            match body.frame().await {
                Some(Ok(frame)) => match frame.into_data().map(|data| rewriter.push(&data)) {
                    Ok(Ok(out)) if out.is_empty() => {}
                    Ok(Ok(out)) => break (Ok(http_body::Frame::data(out)), Some((body, rewriter))),
                    Ok(Err(why)) => break (Err(BoxError::from(why)), None),
                    Err(_trailers) => {}
                },
                Some(Err(why)) => break (Err(BoxError::from(why)), None),
                None => break (rewriter.finish().map(http_body::Frame::data).map_err(BoxError::from), None),
            }
        })
    });
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_the_pairs_own_fields_stay_here() {
        let request = Request::builder()
            .method("POST")
            .uri("/api/v1/nodes/n/proxy/x")
            .header("host", "cluster:6443")
            .header("authorization", "Bearer secret")
            .header("impersonate-user", "bob")
            .header("connection", "keep-alive, x-mine")
            .header("x-mine", "1")
            .header("x-theirs", "2")
            .header("x-forwarded-for", "192.0.2.1")
            .extension(PeerAddress("192.0.2.2:5".parse().unwrap()));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let sent = outgoing(&parts, "/x?y=1", "/api/v1/nodes/n/proxy/x", response::full("body"), &None).unwrap();
        let mut said: Vec<String> =
            sent.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        said.sort();
        let expected = [
            "host: cluster:6443",
            "x-forwarded-for: 192.0.2.1, 192.0.2.2",
            "x-forwarded-uri: /api/v1/nodes/n/proxy/x",
            "x-theirs: 2",
        ];
        assert_eq!(said, expected);
        assert_eq!(sent.uri(), "/x?y=1");
    }
}
