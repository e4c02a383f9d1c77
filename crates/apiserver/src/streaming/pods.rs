//! Logs, exec, attach and port-forward: what the kubelet of a Pod's node answers.

use std::sync::Arc;

use api::field_path::Path;
use api::object::ObjectKey;
use api::status::{Status, Subject};
use api::validation::Errors;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde_json::Value;

use super::{exchange, find, splice, switched};
use crate::authn::User;
use crate::authz::Attributes;
use crate::request::{RequestInfo, ResourceRequest, query_pairs, query_value};
use crate::response::{self, Response};
use crate::server::ApiServer;

/// Subresources that become streams of both directions.
const UPGRADED: [&str; 3] = ["exec", "attach", "portforward"];

/// What a request asks of a kubelet.
struct Forward {
    node: Value,
    /// The kubelet's path and query.
    target: String,
}

/// True for subresources of Pods that a node answers.
pub(super) fn is_answered(subresource: &str) -> bool {
    subresource == "log" || UPGRADED.contains(&subresource)
}

/// Passes the request on to the Pod's node.
pub(super) async fn handle(
    server: &Arc<ApiServer>,
    user: &User,
    info: &RequestInfo,
    target: &ResourceRequest,
    query: &str,
    mut parts: http::request::Parts,
) -> Result<Response, Status> {
    let streamed = UPGRADED.contains(&target.subresource.as_str());
    if streamed && info.verb == "get" {
        may_create(server, user, info, target).await?;
    }
    if target.subresource == "log" {
        check_log_options(query).into_result("", "PodLogOptions", &target.name)?;
    }
    let Some(forward) = plan(server, target, query).await? else {
        // No node yet, so no container that could have said anything.
        return Ok(response::empty(StatusCode::NO_CONTENT));
    };
    let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| super::is_upgrade(&parts.headers));
    if streamed && upgrade.is_none() {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let answer = send(server, &forward, &parts.headers).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return relay(answer).await;
    }
    let response = switched(answer.headers());
    if let Some(client_side) = upgrade {
        splice(server, client_side, hyper::upgrade::on(answer));
    }
    Ok(response)
}

/// A websocket begins as a GET, and does what a POST does: its user must have the right to both.
async fn may_create(
    server: &ApiServer,
    user: &User,
    info: &RequestInfo,
    target: &ResourceRequest,
) -> Result<(), Status> {
    let attributes = Attributes { verb: "create".to_owned(), ..Attributes::of(user, info) };
    if server.authorizer.authorize(&attributes).await.allowed {
        return Ok(());
    }
    let resource = format!("{}/{}", target.resource, target.subresource);
    let subject = Subject { group: &target.group, resource: &resource };
    Err(Status::forbidden(subject, &target.name, &attributes.refusal()))
}

/// Finds the node and says the request in the kubelet's words; `None` for the log of a Pod that has no node yet.
async fn plan(server: &ApiServer, target: &ResourceRequest, query: &str) -> Result<Option<Forward>, Status> {
    server.registry.caches.reach_current().await;
    let pod = find(server, "pods", &ObjectKey::new(target.namespace.as_str(), target.name.as_str()))?;
    let container = match target.subresource.as_str() {
        "portforward" => String::new(),
        _ => format!("/{}", container(&pod, &target.name, query)?),
    };
    let node_name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node_name.is_empty() {
        return match target.subresource.as_str() {
            "log" => Ok(None),
            _ => Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name))),
        };
    }
    let node = find(server, "nodes", &ObjectKey::new("", node_name))?;
    let path = match target.subresource.as_str() {
        "log" => "containerLogs",
        "portforward" => "portForward",
        verb => verb,
    };
    let query = kubelet_query(&target.subresource, query);
    let target = format!("/{path}/{}/{}{container}?{query}", target.namespace, target.name);
    Ok(Some(Forward { node, target }))
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

/// What may be asked of a log (upstream's `ValidatePodLogOptions`).
fn check_log_options(query: &str) -> Errors {
    let mut errors = Errors::new();
    let number = |key: &str| query_value(query, key).and_then(|value| value.parse::<i64>().ok());
    if let Some(lines) = number("tailLines").filter(|lines| *lines < 0) {
        errors.invalid(&Path::root("tailLines"), lines, "must be greater than or equal to 0");
    }
    if let Some(bytes) = number("limitBytes").filter(|bytes| *bytes < 1) {
        errors.invalid(&Path::root("limitBytes"), bytes, "must be greater than 0");
    }
    match (number("sinceSeconds"), query_value(query, "sinceTime")) {
        (Some(_), Some(_)) => {
            errors.forbidden(&Path::root("[]"), "at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.invalid(&Path::root("sinceSeconds"), seconds, "must be greater than 0");
        }
        _ => {}
    }
    if query_value(query, "stream").is_some() {
        errors.forbidden(&Path::root("stream"), "may not be specified");
    }
    errors
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
    let mut request = Request::builder().uri(&forward.target).header(HOST, name);
    if let Some(kept) = request.headers_mut().filter(|_| super::is_upgrade(headers)) {
        super::copy_upgrade(headers, kept);
    }
    let request = request.body(response::full(Bytes::new())).map_err(|why| unreachable(&why))?;
    exchange(server, stream, request).await.map_err(|why| unreachable(&why))
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
    fn what_a_log_cannot_be_asked_is_refused() {
        let check = |query: &str, fields: &[&str]| {
            let errors = check_log_options(query);
            assert_eq!(errors.causes().iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(), fields, "{query}");
        };
        check("container=a&tailLines=0&limitBytes=1&sinceSeconds=1", &[]);
        check("tailLines=-1&limitBytes=0&sinceSeconds=0", &["tailLines", "limitBytes", "sinceSeconds"]);
        check("sinceSeconds=0&sinceTime=2026-01-02T03:04:05Z", &["[]"]);
        check("stream=Stdout", &["stream"]);
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
