//! Logs, exec, attach: requests that the node of a Pod answers. They are passed on to its kubelet, and what becomes a
//! stream is joined end to end.

use std::io;
use std::sync::Arc;

use api::object::ObjectKey;
use api::status::{Status, Subject};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tracing::debug;

use crate::request::{ResourceRequest, query_pairs, query_value};
use crate::response::{self, Response};
use crate::server::ApiServer;

/// Headers that make a request a websocket, and an answer its acceptance.
const WEBSOCKET: [&str; 6] = [
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "sec-websocket-accept",
    "origin",
];

/// A connection to a node's kubelet, secured and authenticated.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Reaches nodes: declared here, fulfilled by whoever knows certificates and tunnels.
pub trait NodeDialer: Send + Sync + 'static {
    /// Connects to the kubelet of `node`, a Node object.
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;
}

/// What a request asks of a kubelet.
struct Forward {
    node: Value,
    /// The kubelet's path and query.
    target: String,
}

/// True for subresources that a node answers.
pub(crate) fn is_streamed(target: &ResourceRequest) -> bool {
    target.group.is_empty()
        && target.resource == "pods"
        && matches!(target.subresource.as_str(), "log" | "exec" | "attach")
}

/// Passes the request on to the Pod's node.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    target: &ResourceRequest,
    query: &str,
    mut parts: http::request::Parts,
) -> Result<Response, Status> {
    let forward = plan(server, target, query).await?;
    let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| parts.headers.contains_key(UPGRADE));
    if target.subresource != "log" && upgrade.is_none() {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let answer = send(server, &forward, &parts.headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return relay(answer).await;
    }
    let mut headers = HeaderMap::new();
    copy(answer.headers(), &mut headers);
    let node_side = hyper::upgrade::on(answer);
    if let Some(client_side) = upgrade {
        server.streams.spawn(server.stop.clone().run_until_cancelled_owned(join(client_side, node_side)));
    }
    let mut response = response::with_body(StatusCode::SWITCHING_PROTOCOLS, "", response::full(Bytes::new()));
    response.headers_mut().clear();
    response.headers_mut().extend(headers);
    Ok(response)
}

/// Finds the node and says the request in the kubelet's words.
async fn plan(server: &ApiServer, target: &ResourceRequest, query: &str) -> Result<Forward, Status> {
    let find = |resource: &str, key: &ObjectKey| {
        let served = server.registry.catalogue.find("", "v1", resource)?;
        served.cache.as_ref()?.get(key).map(|entry| entry.to_value())
    };
    server.registry.caches.reach_current().await;
    let pod = find("pods", &ObjectKey::new(target.namespace.as_str(), target.name.as_str()))
        .ok_or_else(|| Status::not_found(Subject { group: "", resource: "pods" }, &target.name))?;
    let container = container(&pod, &target.name, query)?;
    let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node_name.is_empty() {
        return Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name)));
    }
    let node = find("nodes", &ObjectKey::new("", node_name))
        .ok_or_else(|| Status::not_found(Subject { group: "", resource: "nodes" }, node_name))?;
    let path = match target.subresource.as_str() {
        "log" => "containerLogs",
        verb => verb,
    };
    let query = kubelet_query(&target.subresource, query);
    let target = format!("/{path}/{}/{}/{container}?{query}", target.namespace, target.name);
    Ok(Forward { node, target })
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Value, name: &str, query: &str) -> Result<String, Status> {
    let lists = ["containers", "initContainers", "ephemeralContainers"];
    let names = |list: &str| pod["spec"][list].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str());
    match query_value(query, "container").filter(|asked| !asked.is_empty()) {
        Some(asked) if lists.iter().any(|list| names(list).any(|known| known == asked)) => Ok(asked),
        Some(asked) => Err(Status::bad_request(format!("container {asked} is not valid for pod {name}"))),
        None => match names("containers").collect::<Vec<_>>().as_slice() {
            [one] => Ok((*one).to_owned()),
            many => Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            ))),
        },
    }
}

/// The options of a request as the kubelet spells them.
fn kubelet_query(subresource: &str, query: &str) -> String {
    let rename = |key: &str| match (subresource, key) {
        ("log", _) => key.to_owned(),
        (_, "stdin") => "input".to_owned(),
        (_, "stdout") => "output".to_owned(),
        (_, "stderr") => "error".to_owned(),
        _ => key.to_owned(),
    };
    let flag = |key: &str, value: String| match (key, value.as_str()) {
        ("input" | "output" | "error" | "tty", "true") => "1".to_owned(),
        _ => value,
    };
    let pairs = query_pairs(query).filter(|(key, value)| {
        key != "container" && !(subresource != "log" && matches!(value.as_str(), "false" | "0") && key != "command")
    });
    let words: Vec<String> = pairs
        .map(|(key, value)| {
            let key = rename(&key);
            let value = flag(&key, value);
            format!("{}={}", encode(&key), encode(&value))
        })
        .collect();
    words.join("&")
}

/// Percent-encodes everything but the letters that need no thought.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

async fn send(
    server: &Arc<ApiServer>,
    forward: &Forward,
    headers: &HeaderMap,
) -> Result<http::Response<Incoming>, Status> {
    let name = forward.node["metadata"]["name"].as_str().unwrap_or_default();
    let unreachable = |why: &dyn std::fmt::Display| Status::internal(format!("error dialing node {name}: {why}"));
    let stream = server.dialer.dial(&forward.node).await.map_err(|why| unreachable(&why))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|why| unreachable(&why))?;
    server.streams.spawn(server.stop.clone().run_until_cancelled_owned(async move {
        if let Err(why) = connection.with_upgrades().await {
            debug!(%why, "connection to a kubelet ended");
        }
    }));
    let mut request = Request::builder().uri(&forward.target).header(HOST, name);
    if let Some(kept) = request.headers_mut() {
        copy(headers, kept);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|why| unreachable(&why))?;
    sender.send_request(request).await.map_err(|why| unreachable(&why))
}

/// What makes an upgrade goes through; the rest is between each pair.
fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    let names = WEBSOCKET.iter().map(|name| HeaderName::from_static(name)).chain([CONNECTION, UPGRADE]);
    for name in names {
        for value in from.get_all(&name) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// An answer that is no stream of its own: a log as it comes, or the kubelet's refusal.
async fn relay(answer: http::Response<Incoming>) -> Result<Response, Status> {
    let (parts, body) = answer.into_parts();
    if parts.status.is_success() {
        let mut response = response::with_body(parts.status, "text/plain", body.map_err(Into::into).boxed_unsync());
        if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
            response.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        return Ok(response);
    }
    let said = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    let mut status = match parts.status.as_u16() {
        400 | 404 | 422 => Status::bad_request(said),
        _ => Status::internal(said),
    };
    status.code = if parts.status == StatusCode::NOT_FOUND { 404 } else { status.code };
    Err(status)
}

async fn join(client: OnUpgrade, node: OnUpgrade) {
    let joined = async {
        let (client, node) = futures::future::try_join(client, node).await?;
        let moved = copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(node)).await;
        Ok::<_, hyper::Error>(moved.ok())
    };
    if let Err(why) = joined.await {
        debug!(%why, "stream to a node ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn options_are_said_in_the_kubelets_words() {
        let query = "command=sh&command=-c&command=a%26b&stdin=true&stdout=true&stderr=false&tty=true&container=c";
        assert_eq!(kubelet_query("exec", query), "command=sh&command=-c&command=a%26b&input=1&output=1&tty=1");
        assert_eq!(kubelet_query("log", "follow=true&tailLines=5&container=c"), "follow=true&tailLines=5");
    }

    #[test]
    fn a_container_must_be_named_unless_there_is_one() {
        let one = json!({"spec": {"containers": [{"name": "a"}]}});
        let two = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&one, "p", "").unwrap(), "a");
        assert_eq!(container(&two, "p", "container=i").unwrap(), "i");
        let why = container(&two, "p", "").unwrap_err().message;
        assert_eq!(why, "a container name must be specified for pod p, choose one of: [a b]");
        assert_eq!(container(&one, "p", "container=x").unwrap_err().message, "container x is not valid for pod p");
    }
}
