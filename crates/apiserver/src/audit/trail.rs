//! One request's events, from its arrival to the end of its answer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::codec::json::parse;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyDataStream, BodyExt as _};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use super::event::{Event, TRUNCATED};
use super::policy::{Decision, Level, Stage};
use super::{Audit, EVENTS};
use crate::authn::{PeerCertificates, User};
use crate::authz;
use crate::limits;
use crate::negotiate::JSON;
use crate::registry::{Call, sent};
use crate::request::{RequestInfo, query_value};
use crate::response::{self, Body, BoxError, Lengthy, Response};
use crate::streaming::PeerAddress;

const MAX_AGENT: usize = 1024;

/// A request that leaves its traces in the log.
pub(crate) struct Trail {
    audit: Audit,
    event: Box<Event>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
    long_running: bool,
}

/// What an object says of itself, as far as the log names it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    metadata: Metadata,
}

impl Trail {
    pub(super) fn begin<B>(
        audit: Audit,
        decision: Decision,
        id: &HeaderValue,
        request: &Request<B>,
        info: &RequestInfo,
        user: &User,
    ) -> Self {
        let id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        let mut event = Box::new(Event::new(decision.level, id, info, user));
        event.uri = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        event.user_agent = agent(request.headers());
        event.sources = sources(request.headers(), request.extensions().get::<PeerAddress>());
        Self {
            audit,
            event,
            omit_stages: decision.omit_stages,
            omit_managed_fields: decision.omit_managed_fields,
            long_running: limits::is_long_running(info),
        }
    }

    /// Tells that the request has come; false if it must not be served, since that cannot be recorded.
    pub(crate) async fn received(&mut self) -> bool {
        self.emit(Stage::RequestReceived).await
    }

    /// Says with what a client tried to be somebody. Such a request has one event, with the refusal.
    pub(crate) fn unauthenticated<B>(&mut self, request: &Request<B>) {
        self.event.response_status = Some(json!({"metadata": {}, "message": attempted(request)}));
        self.omit_stages.push(Stage::ResponseComplete);
        self.long_running = true;
    }

    /// The user as whom the real one acts, and the verb of the right by which he does so in a constrained way.
    pub(crate) fn impersonates(&mut self, user: &User, constraint: &str) {
        self.event.impersonated_user = Some(user.info());
        if !constraint.is_empty() {
            self.event.authentication_metadata = Some(json!({"impersonationConstraint": constraint}));
        }
    }

    /// What the authorizers said.
    pub(crate) fn authorized(&mut self, decision: &authz::Decision) {
        if !decision.allowed && decision.error.is_some() {
            return self.annotate("authorization.k8s.io/reason", "internal error");
        }
        let word = if decision.allowed { "allow" } else { "forbid" };
        self.annotate("authorization.k8s.io/decision", word);
        self.annotate("authorization.k8s.io/reason", &decision.reason);
    }

    /// Adds an annotation; the first word on each counts.
    pub(crate) fn annotate(&mut self, key: &str, value: &str) {
        self.event.annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// What others noted on the way.
    pub(crate) fn annotate_all(&mut self, annotations: &BTreeMap<String, String>) {
        for (key, value) in annotations {
            self.annotate(key, value);
        }
    }

    /// The version that is asked for is deprecated, in the words of this warning.
    pub(crate) fn deprecated(&mut self, warning: &str) {
        self.annotate("k8s.io/deprecated", "true");
        let release = crate::metrics::removed_release(warning);
        if !release.is_empty() {
            self.annotate("k8s.io/removed-release", &release);
        }
    }

    /// What the client sent.
    pub(crate) fn sent(&mut self, call: &Call) {
        if call.body.is_empty() || !matches!(call.verb, "create" | "update" | "patch" | "delete" | "deletecollection") {
            return;
        }
        if matches!(call.verb, "create" | "update") {
            self.complete(named(&call.headers, &call.body));
        }
        if self.event.level >= Level::Request {
            self.event.request_object = self.recorded(&call.headers, &call.body, call.verb == "patch");
        }
    }

    /// Completes the reference by what the object says of itself.
    fn complete(&mut self, said: Metadata) {
        let Some(reference) = &mut self.event.object_ref else { return };
        for (known, said) in [
            (&mut reference.name, said.name),
            (&mut reference.namespace, said.namespace),
            (&mut reference.uid, said.uid),
            (&mut reference.resource_version, said.resource_version),
        ] {
            if known.is_empty() {
                *known = said;
            }
        }
    }

    /// A body as JSON in one line; `None` for what is none.
    fn recorded(&self, headers: &HeaderMap, body: &Bytes, patch: bool) -> Option<Box<RawValue>> {
        let text = std::str::from_utf8(body).ok().map(str::trim_end).filter(|text| !text.contains('\n'));
        let json = patch || headers.get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(JSON.as_bytes()));
        if let Some(text) = text.filter(|_| json && !self.omit_managed_fields)
            && let Ok(raw) = serde_json::from_str::<&RawValue>(text)
        {
            return Some(raw.to_owned());
        }
        let mut value = if patch { patch_document(body)? } else { sent(headers, body).ok()? };
        if self.omit_managed_fields {
            without_managed_fields(&mut value);
        }
        to_raw_value(&value).ok()
    }

    /// Tells that the handler of the request has panicked.
    pub(crate) fn panicked(&mut self) {
        self.event.response_status = Some(json!({
            "metadata": {}, "status": "Failure", "message": "APIServer panic'd: see the server's log",
            "reason": "InternalError", "code": 500,
        }));
        self.emit_unheard(Stage::Panic);
    }

    /// Tells what the request came to; at once, or when the body of its answer ends.
    pub(crate) async fn answered(mut self, response: Response) -> Response {
        let code = response.status();
        let response = self.read(response).await;
        let status = self.event.response_status.get_or_insert_with(|| json!({"metadata": {}}));
        status["code"] = json!(code.as_u16());
        if !self.long_running {
            self.emit(Stage::ResponseComplete).await;
            return response;
        }
        self.emit(Stage::ResponseStarted).await;
        response::keeping(response, Lasting(self))
    }

    /// Reads an answer as far as the log tells of it.
    async fn read(&mut self, response: Response) -> Response {
        let lengthy = response.extensions().get::<Lengthy>().is_some();
        let whole = lengthy || response.body().size_hint().exact().is_some();
        let whole_object = self.event.level == Level::RequestResponse && self.event.object_ref.is_some();
        // Deletions are answered by a Status as well.
        let may_be_status = is_refusal(response.status()) || matches!(self.event.verb, "delete" | "deletecollection");
        if !whole || !(whole_object || may_be_status) {
            return response;
        }
        let (parts, body) = response.into_parts();
        let bytes = match whole_up_to(body, self.audit.most_of_an_answer()).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(long)) => {
                if whole_object {
                    self.annotate(TRUNCATED, "true");
                }
                return Response::from_parts(parts, long);
            }
            Err(_lost) => {
                return response::refusal(&api::status::Status::internal("the body of the answer was lost"));
            }
        };
        if may_be_status
            && let Ok(document) = sent(&parts.headers, &bytes)
            && document["kind"] == "Status"
        {
            self.event.response_status = Some(bounded_status(document));
        }
        if whole_object {
            self.event.response_object = self.recorded(&parts.headers, &bytes, false);
        }
        Response::from_parts(parts, response::full(bytes))
    }

    /// Reaches a stage; the event to be recorded of it, unless none is.
    fn reach(&mut self, stage: Stage) -> Option<Box<Event>> {
        if self.omit_stages.contains(&stage) {
            return None;
        }
        self.event.stage = stage;
        self.event.reached = if stage == Stage::RequestReceived { self.event.received } else { Timestamp::now() };
        EVENTS.add(&[], 1.0);
        Some(self.event.clone())
    }

    async fn emit(&mut self, stage: Stage) -> bool {
        match self.reach(stage) {
            Some(event) => self.audit.clone().record(event).await,
            None => true,
        }
    }

    fn emit_unheard(&mut self, stage: Stage) {
        if let Some(event) = self.reach(stage) {
            self.audit.record_unheard(event);
        }
    }
}

/// A trail that ends with the body of an answer.
struct Lasting(Trail);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.emit_unheard(Stage::ResponseComplete);
    }
}

fn is_refusal(code: StatusCode) -> bool {
    code.is_client_error() || code.is_server_error()
}

/// The fields of a Status that cannot grow without bound.
fn bounded_status(status: Value) -> Value {
    let mut out = Map::from_iter([("metadata".to_owned(), json!({}))]);
    let Value::Object(mut fields) = status else { return Value::Object(out) };
    for field in ["status", "message", "reason", "details", "code"] {
        if let Some(value) = fields.remove(field) {
            out.insert(field.to_owned(), value);
        }
    }
    Value::Object(out)
}

/// A body that is no longer than this; a longer one as it was, still to be read.
async fn whole_up_to(mut body: Body, most: usize) -> Result<Result<Bytes, Body>, BoxError> {
    if body.size_hint().lower() > most as u64 {
        return Ok(Err(body));
    }
    let (mut pieces, mut size) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        size += piece.len();
        pieces.push(piece);
        if size > most {
            let read = stream::iter(pieces.into_iter().map(Ok));
            return Ok(Err(response::try_stream(read.chain(BodyDataStream::new(body)))));
        }
    }
    Ok(Ok(match pieces.as_mut_slice() {
        [whole] => std::mem::take(whole),
        pieces => pieces.concat().into(),
    }))
}

/// Patches are JSON, but for those of server-side apply.
fn patch_document(body: &[u8]) -> Option<Value> {
    match parse(body) {
        Ok(read) => Some(read.value),
        Err(_) => api::codec::yaml::parse(std::str::from_utf8(body).ok()?).ok(),
    }
}

/// What the object in a body says of itself; of JSON the rest is passed over unread.
fn named(headers: &HeaderMap, body: &[u8]) -> Metadata {
    let read = serde_json::from_slice::<Named>(body).ok();
    let read = read.or_else(|| {
        let mut value = sent(headers, body).ok()?;
        Some(Named { metadata: serde_json::from_value(value["metadata"].take()).ok()? })
    });
    read.unwrap_or_default().metadata
}

/// Takes out who owns which field: of an object, of a list's items, of what stands in a Table's rows.
fn without_managed_fields(value: &mut Value) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    for list in ["items", "rows"] {
        for item in value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let object = if list == "rows" { item.get_mut("object") } else { Some(item) };
            let metadata = object.and_then(|object| object.get_mut("metadata")).and_then(Value::as_object_mut);
            if let Some(metadata) = metadata {
                metadata.remove("managedFields");
            }
        }
    }
}

fn agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    match agent.get(..MAX_AGENT) {
        Some(beginning) if beginning.len() < agent.len() => format!("{beginning}...TRUNCATED"),
        _ => agent.to_owned(),
    }
}

/// Where a request comes from, the nearest last; all but that is the client's word.
fn sources(headers: &HeaderMap, peer: Option<&PeerAddress>) -> Vec<String> {
    let stated = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok();
    let mut found: Vec<IpAddr> = stated("x-forwarded-for").split(',').filter_map(parse).collect();
    found.extend(parse(stated("x-real-ip")).filter(|real| !found.contains(real)).as_slice());
    let peer = peer.map(|PeerAddress(address)| address.ip().to_canonical());
    found.extend(peer.filter(|peer| found.last() != Some(peer)).as_slice());
    found.iter().map(ToString::to_string).collect()
}

/// The ways in that a client tried.
fn attempted<B>(request: &Request<B>) -> String {
    let stated = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let scheme = stated.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let in_query = query_value(request.uri().query().unwrap_or_default(), "access_token");
    let certified = request.extensions().get::<PeerCertificates>().is_some_and(|peer| !peer.chain().is_empty());
    let methods: Vec<&str> = [
        ("basic", scheme == "basic"),
        ("bearer", scheme == "bearer"),
        ("access_token", in_query.is_some_and(|token| !token.trim().is_empty())),
        ("x509", certified),
    ]
    .into_iter()
    .filter_map(|(method, tried)| tried.then_some(method))
    .collect();
    match methods.as_slice() {
        [] => "Authentication failed, no credentials provided".to_owned(),
        methods => format!("Authentication failed, attempted: {}", methods.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_end_with_the_peer() {
        let check = |headers: &[(&'static str, &'static str)], peer: &str, expected: &[&str]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
            let peer = PeerAddress(peer.parse().unwrap());
            assert_eq!(sources(&headers.collect(), Some(&peer)), expected);
        };
        check(&[], "192.0.2.1:7", &["192.0.2.1"]);
        check(&[], "[::ffff:192.0.2.1]:7", &["192.0.2.1"]);
        check(
            &[("x-forwarded-for", "198.51.100.1, nonsense,2001:db8::1")],
            "192.0.2.1:7",
            &["198.51.100.1", "2001:db8::1", "192.0.2.1"],
        );
        let both = [("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.1")];
        check(&both, "192.0.2.1:7", &["192.0.2.1"]);
    }

    #[tokio::test]
    async fn long_bodies_are_given_back_as_they_were() {
        let pieces = || stream::iter(["ab", "cd", "ef"].map(|piece| Ok(Bytes::from(piece))));
        let whole = async |body: Body| body.collect().await.unwrap().to_bytes();
        assert_eq!(whole_up_to(response::try_stream(pieces()), 6).await.unwrap().unwrap(), "abcdef");
        let long = whole_up_to(response::try_stream(pieces()), 3).await.unwrap().unwrap_err();
        assert_eq!(whole(long).await, "abcdef");
        assert_eq!(whole_up_to(response::full("abc"), 3).await.unwrap().unwrap(), "abc");
        let known = whole_up_to(response::full("abcd"), 3).await.unwrap().unwrap_err();
        assert_eq!((known.size_hint().exact(), whole(known).await), (Some(4), Bytes::from("abcd")));
        let lost = response::try_stream(stream::iter([Ok(Bytes::from("a")), Err("gone".into())]));
        assert!(whole_up_to(lost, 3).await.is_err());
    }

    #[test]
    fn managed_fields_go_from_wherever_they_are() {
        let owned = || json!({"metadata": {"name": "a", "managedFields": []}});
        let bare = || json!({"metadata": {"name": "a"}});
        let check = |mut value: Value, expected: Value| {
            without_managed_fields(&mut value);
            assert_eq!(value, expected);
        };
        check(owned(), bare());
        check(json!({"items": [owned(), owned()]}), json!({"items": [bare(), bare()]}));
        check(json!({"rows": [{"object": owned()}]}), json!({"rows": [{"object": bare()}]}));
        check(json!([1]), json!([1]));
    }
}
