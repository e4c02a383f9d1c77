//! Paths to answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::cri::streaming::{self, Body, COMMANDS, PORTS, Ports, Refused, Streams, Upgrade, refuse, reply, text};
use api::cri::streams::Connection;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryFutureExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use hyper::body::Incoming;
use jiff::SignedDuration;
use serde_json::json;
use tokio::time::timeout;

use super::auth::{self, Attributes, User};
use super::{BODY_BYTES, Shared, figures};
use crate::handle::{Handle, HandleError, PodName};
use crate::logs::LogOptions;

/// Answers one request.
pub(super) async fn answer(shared: &Shared, user: Option<&User>, request: Request<Incoming>) -> Response<Body> {
    let user = match (user, auth::bearer(request.headers())) {
        (Some(user), _) => Some(user.clone()),
        (None, Some(token)) => shared.authorizer.user_of(token).await,
        (None, None) => None,
    };
    let Some(user) = user else { return text(StatusCode::UNAUTHORIZED, "Unauthorized") };
    if let Err(refused) = authorize(shared, &user, request.method(), request.uri().path()).await {
        return *refused;
    }
    let path: Vec<String> = request.uri().path().split('/').filter(|part| !part.is_empty()).map(unescape).collect();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    match path[..] {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] if get => text(StatusCode::OK, "ok"),
        ["pods"] | ["runningpods"] if get => pods(shared),
        ["configz"] if get => json_reply(&figures::configz(shared.handle.config())),
        ["stats", "summary"] if get => match figures::summary(&shared.handle).await {
            Ok(summary) => json_reply(&summary),
            Err(error) => failed(&error),
        },
        ["metrics"] if get => text(StatusCode::OK, figures::own(&shared.handle)),
        ["metrics", "resource"] if get => match figures::resource(&shared.handle).await {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(error) => failed(&error),
        },
        ["metrics", "cadvisor"] if get => match figures::cadvisor(&shared.handle).await {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(error) => failed(&error),
        },
        ["containerLogs", namespace, pod, container] if get => {
            logs(shared, &name(namespace, pod, None), container, &query).await
        }
        ["exec" | "attach" | "portForward", ..] => {
            let Ok(request) = timeout(shared.limits.body, drained(request)).await else {
                return text(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come");
            };
            streamed(shared, &path, &query, request).await.unwrap_or_else(|refused| *refused)
        }
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

async fn streamed(
    shared: &Shared,
    path: &[&str],
    query: &Query,
    request: Request<()>,
) -> Result<Response<Body>, Refused> {
    match *path {
        ["exec", namespace, pod, container] => {
            exec(shared, name(namespace, pod, None), container, query, request).await
        }
        ["exec", namespace, pod, uid, container] => {
            exec(shared, name(namespace, pod, Some(uid)), container, query, request).await
        }
        ["attach", namespace, pod, container] => {
            attach(shared, name(namespace, pod, None), container, query, request).await
        }
        ["attach", namespace, pod, uid, container] => {
            attach(shared, name(namespace, pod, Some(uid)), container, query, request).await
        }
        ["portForward", namespace, pod] => forward(shared, name(namespace, pod, None), query, request),
        ["portForward", namespace, pod, uid] => forward(shared, name(namespace, pod, Some(uid)), query, request),
        _ => Err(refuse(StatusCode::NOT_FOUND, "404 page not found")),
    }
}

async fn authorize(shared: &Shared, user: &User, method: &Method, path: &str) -> Result<(), Refused> {
    let node = &shared.handle.config().node_name;
    let verb = auth::verb(method);
    let rights = auth::subresources(path);
    for subresource in rights {
        let attributes = Attributes { user: user.clone(), verb, subresource, node: node.clone() };
        if shared.authorizer.allows(&attributes).await {
            return Ok(());
        }
    }
    let (user, rights) = (&user.name, rights.join(" or "));
    let message = format!("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{rights}])");
    Err(refuse(StatusCode::FORBIDDEN, message))
}

/// The request without its body, which no stream needs; a body larger than the limit is cut off with its connection.
async fn drained(mut request: Request<Incoming>) -> Request<()> {
    if !request.headers().contains_key(http::header::UPGRADE) {
        let _ignored = Limited::new(request.body_mut(), BODY_BYTES).collect().await;
    }
    request.map(drop)
}

fn name(namespace: &str, pod: &str, uid: Option<&str>) -> PodName {
    PodName { namespace: namespace.to_owned(), name: pod.to_owned(), uid: uid.map(str::to_owned) }
}

fn json_reply(document: &serde_json::Value) -> Response<Body> {
    reply(StatusCode::OK, "application/json", document.to_string())
}

pub(super) fn failed(error: &HandleError) -> Response<Body> {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    text(code, error.to_string())
}

fn pods(shared: &Shared) -> Response<Body> {
    let items: Vec<_> = shared.handle.pods().iter().filter_map(|pod| serde_json::to_value(&**pod).ok()).collect();
    json_reply(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

async fn logs(shared: &Shared, pod: &PodName, container: &str, query: &Query) -> Response<Body> {
    let options = match log_options(query, jiff::Timestamp::now()) {
        Ok(options) => options,
        Err(why) => return text(StatusCode::UNPROCESSABLE_ENTITY, why),
    };
    match shared.handle.logs(pod, container, options).await {
        Ok(lines) => {
            let body = StreamBody::new(lines.map(|part| part.map(Frame::data)));
            let mut response = Response::new(body.boxed_unsync());
            let plain = http::HeaderValue::from_static("text/plain");
            response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
            response
        }
        Err(error) => failed(&error),
    }
}

/// Upstream's PodLogOptions as query parameters.
pub(super) fn log_options(query: &Query, now: jiff::Timestamp) -> Result<LogOptions, String> {
    let number = |key: &str, least: u64| match query.get(key) {
        None => Ok(None),
        Some(text) => match text.parse::<u64>() {
            Ok(value) if value >= least => Ok(Some(value)),
            _ => Err(format!("{key}: Invalid value: {text:?}: must be an integer not below {least}")),
        },
    };
    let since_seconds = number("sinceSeconds", 1)?.and_then(|seconds| i64::try_from(seconds).ok());
    let since_time = match query.get("sinceTime") {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| format!("sinceTime: Invalid value: {text:?}: must be RFC 3339"))?),
    };
    if since_seconds.is_some() && since_time.is_some() {
        return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned());
    }
    let since = since_seconds.and_then(|seconds| now.checked_sub(SignedDuration::from_secs(seconds)).ok());
    Ok(LogOptions {
        follow: query.is("follow"),
        previous: query.is("previous"),
        tail_lines: number("tailLines", 0)?,
        since: since.or(since_time),
        timestamps: query.is("timestamps"),
        limit_bytes: number("limitBytes", 1)?,
        stderr: match query.get("stream") {
            Some("Stdout") => Some(false),
            Some("Stderr") => Some(true),
            _ => None,
        },
    })
}

async fn exec(
    shared: &Shared,
    pod: PodName,
    container: &str,
    query: &Query,
    request: Request<()>,
) -> Result<Response<Body>, Refused> {
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "you must specify at least 1 command for the container"));
    }
    let streams = stream_options(query)?;
    let upgrade = Upgrade::agree(request, &COMMANDS)?;
    let session = match shared.handle.exec(&pod, container, command, streams).await {
        Ok(session) => session,
        // The request was right and the container runs: that the process does not start is how it ended.
        Err(HandleError::Runtime(why)) => streaming::ended(Err(why)),
        Err(why) => return Err(Box::new(failed(&why))),
    };
    Ok(streaming::command(&shared.tasks, upgrade, session, streams))
}

async fn attach(
    shared: &Shared,
    pod: PodName,
    container: &str,
    query: &Query,
    request: Request<()>,
) -> Result<Response<Body>, Refused> {
    let streams = stream_options(query)?;
    let upgrade = Upgrade::agree(request, &COMMANDS)?;
    let mut session = shared.handle.attach(&pod, container, streams).await.map_err(|why| Box::new(failed(&why)))?;
    // How the container ended is told by its Pod; that its streams ended is no failure of attaching to them.
    session.exit = session.exit.map_ok(|_| 0).boxed();
    Ok(streaming::command(&shared.tasks, upgrade, session, streams))
}

/// A pod's ports, by what clients call it.
struct PodPorts {
    handle: Handle,
    pod: PodName,
}

impl Ports for PodPorts {
    fn connect(&self, port: u16) -> BoxFuture<'_, Result<Connection, String>> {
        let PodName { name, uid, .. } = &self.pod;
        let uid = uid.as_deref().unwrap_or_default();
        let words = move |why| format!("error forwarding port {port} to pod {name}, uid {uid}: {why}");
        self.handle.port_forward(&self.pod, port).map_err(words).boxed()
    }
}

fn forward(shared: &Shared, pod: PodName, query: &Query, request: Request<()>) -> Result<Response<Body>, Refused> {
    let upgrade = Upgrade::agree(request, &PORTS)?;
    let handle = shared.handle.clone();
    shared.handle.find(&pod).map_err(|why| Box::new(failed(&why)))?;
    streaming::forward(&shared.tasks, upgrade, Arc::new(PodPorts { handle, pod }), || listed_ports(query))
}

/// The ports of numbered channels, which the request names.
fn listed_ports(query: &Query) -> Result<Vec<u16>, Refused> {
    let listed = query.all("port").chain(query.all("ports")).flat_map(|list| list.split(','));
    let ports: Result<Vec<u16>, _> = listed.map(str::parse).collect();
    match ports {
        Ok(ports) if !ports.is_empty() && !ports.contains(&0) => Ok(ports),
        _ => Err(refuse(StatusCode::BAD_REQUEST, "query parameter \"port\" must name ports between 1 and 65535")),
    }
}

/// The kubelet's names (`input`) and the API's (`stdin`) for the streams that are wanted.
fn stream_options(query: &Query) -> Result<Streams, Refused> {
    let streams = Streams {
        stdin: query.is("input") || query.is("stdin"),
        stdout: query.is("output") || query.is("stdout"),
        stderr: query.is("error") || query.is("stderr"),
        tty: query.is("tty"),
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(refuse(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

/// Query parameters by name, in order.
pub(super) struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(unescape(key)).or_default().push(unescape(&value.replace('+', " ")));
        }
        Self(values)
    }

    fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next().filter(|value| !value.is_empty())
    }

    fn is(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True" | "t"))
    }
}

/// Undoes percent-encoding; what is malformed stays as it stands.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
