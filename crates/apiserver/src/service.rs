//! The chain that every request passes, whether it came from a socket or from a component in this process:
//! identity, permission, dispatch, answer; and what is true of each on the way: a place, time, figures, a form.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use api::status::{Status, Subject};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::HeaderValue;
use http::{HeaderMap, Request, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::time::timeout;
use tracing::error;

use crate::audit::{self, Trail};
use crate::authn::{Notes, PeerCertificates, User, impersonation};
use crate::authz::{self, Attributes};
use crate::flowcontrol::{Flow, FlowControl, Plainly};
use crate::metrics::{self, Record};
use crate::negotiate;
use crate::registry::{Call, Served, encode};
use crate::request::RequestInfo;
use crate::response::{self, Body, BoxError, Lengthy, Response};
use crate::routes::{self, Lost};
use crate::serve::Parting;
use crate::server::ApiServer;
use crate::shape::Shape;
use crate::websocket::Carrier;
use crate::{aggregation, discovery, limits, nonresource, reviews, streaming, subresources, websocket};

/// Larger bodies are refused, as upstream does.
pub(crate) const MAX_BODY: usize = 3 << 20;

/// The server as a tower service. Cheap to clone.
#[derive(Clone)]
pub struct ApiService {
    server: Arc<ApiServer>,
    /// Set for components in this process, which are known without credentials.
    identity: Option<Identity>,
}

/// A component in this process.
#[derive(Clone)]
struct Identity {
    user: User,
    program: &'static str,
}

/// What is known of a request beside what it asks for: the name under which it is recorded, and what is.
#[derive(Default)]
struct Known {
    /// Not set for components in this process, unless there is an audit log.
    id: Option<HeaderValue>,
    trail: Option<Trail>,
    /// Texts for `Warning` headers, of who sent it.
    warnings: Vec<String>,
    /// By what it was given its place.
    flow: Option<Flow>,
}

impl ApiService {
    /// For requests that bring their own credentials.
    pub fn new(server: Arc<ApiServer>) -> Self {
        Self { server, identity: None }
    }

    /// The transport of a component in this process: the full chain, as this user. What it writes is owned by
    /// `program`, as if that were a process of its own.
    pub fn of_component(server: Arc<ApiServer>, user: User, program: &'static str) -> Self {
        Self { server, identity: Some(Identity { user, program }) }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.clone().answer(request.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

impl ApiService {
    /// Of one type for all that send requests: what it calls is compiled here, once, as this crate is.
    fn answer(self, mut request: Request<Body>) -> BoxFuture<'static, Result<Response, Infallible>> {
        if let Some(identity) = &self.identity {
            let program = HeaderValue::from_static(identity.program);
            request.headers_mut().entry(header::USER_AGENT).or_insert(program);
        }
        Box::pin(metrics::noted(async move { Ok(self.respond(request).await) }))
    }

    /// Answers a request, whatever happens: a panic in one must not end the others.
    async fn respond(self, mut request: Request<Body>) -> Response {
        if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
            // Whoever stands between may have heard the other one.
            let mut answer = response::text(StatusCode::BAD_REQUEST, "400 Bad Request: too many Host headers");
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        let Some(info) = RequestInfo::parse(request.method(), request.uri().path(), &query) else {
            let why = "the request path is not valid percent-encoded UTF-8";
            return response::refusal(&Status::bad_request(why));
        };
        if info.is_cut_off() {
            let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
            return response::fault(
                asked,
                &format!("failed to create RequestInfo: unable to determine kind and namespace from url, {asked}"),
            );
        }
        let target = format!("{} {}", request.method(), request.uri().path());
        let record = Record::begin(&self.server, &info, &query, request.headers());
        let shape = Shape::asked(request.headers(), &info, &query);
        let carrier = Carrier::take(&mut request, &info);
        let accept = request.headers().get(header::ACCEPT).cloned();
        let server = self.server.clone();
        let named = self.identity.is_none() || server.audit.is_some();
        let mut known = Known { id: named.then(|| audit::id(request.headers())), ..Known::default() };
        let response = match AssertUnwindSafe(self.in_time(info, query, request, &mut known)).catch_unwind().await {
            Ok(Ok(response)) => known.answered(response).await,
            Ok(Err(status)) => known.answered(encode::refusal(&status, accept.as_ref())).await,
            Err(_) => {
                error!(target, "request handler panicked");
                known.panicked(&Status::internal("the request handler panicked: see the server's log"))
            }
        };
        let mut response = record.end(shape.apply(response).await);
        if by_chance(server.goaway_chance) {
            response.extensions_mut().insert(Parting);
        }
        match carrier {
            Some(carrier) => carrier.carry(&server, response),
            None => response,
        }
    }

    async fn in_time(
        self,
        info: RequestInfo,
        query: String,
        request: Request<Body>,
        known: &mut Known,
    ) -> Result<Response, Status> {
        if limits::is_long_running(&info) {
            return self.chain(info, query, request, known).await;
        }
        let allowed = limits::allowed_time(&query, self.server.times.request)?;
        let late = |_| {
            metrics::terminated();
            Err(Status::timeout("request did not complete within the allotted timeout"))
        };
        timeout(allowed, self.chain(info, query, request, known)).await.unwrap_or_else(late)
    }

    async fn chain(
        self,
        info: RequestInfo,
        query: String,
        request: Request<Body>,
        known: &mut Known,
    ) -> Result<Response, Status> {
        let server = self.server.clone();
        let peer = request.extensions().get::<PeerCertificates>().cloned();
        let mut notes = Notes::default();
        let user = self.user(request.headers(), peer, &info, &mut notes).await;
        known.begin(&server, &request, &info, &user, notes);
        let mut user = user?;
        known.received().await?;
        if let Some(acting) = impersonation::acting(&server.authorizer, &user, &info, request.headers()).await? {
            if let Some(trail) = &mut known.trail {
                trail.impersonates(&acting.user, acting.constraint);
            }
            user = acting.user;
        }
        let watching = info.verb == "watch";
        // Components of this process wait for each other: held back, they would hold back those whom they serve.
        let free = self.identity.is_some() || (limits::is_long_running(&info) && !watching);
        let place = match free {
            true => None,
            false if !server.flow_control.is_shared() => match FlowControl::enter_plainly(&server, &user, &info) {
                Plainly::Entered(place) => Some(place),
                Plainly::Uncounted => None,
                Plainly::Refused(refused) => {
                    metrics::terminated();
                    return Ok(*refused);
                }
            },
            false => {
                let flow = known.flow.insert(server.flow_control.classify(&user, &info));
                let most = server.times.request;
                let allowed = if watching { most } else { limits::allowed_time(&query, most)? };
                let begun = Instant::now();
                let entered = server.flow_control.enter(&server, flow, &user, &info, &query, allowed).await;
                metrics::elsewhere(begun.elapsed());
                match entered {
                    Ok(place) => Some(place),
                    Err(refused) => {
                        metrics::terminated();
                        return Ok(refused);
                    }
                }
            }
        };
        let attributes = Attributes::of(&user, &info);
        let begun = Instant::now();
        let decision = server.authorizer.authorize(&attributes).await;
        authz::attempt(&decision, begun.elapsed());
        if let Some(trail) = &mut known.trail {
            trail.authorized(&decision);
        }
        if !decision.allowed {
            return match &decision.error {
                Some(why) => {
                    let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
                    Ok(response::fault(asked, why))
                }
                None => Err(refusal(&info, &decision.refusal(&attributes))),
            };
        }
        if let Some(remote) = server.aggregation.owner(&info.path) {
            let (mut parts, body) = request.into_parts();
            // Both logs know the request by one name.
            parts.headers.extend(known.id.clone().map(|id| (audit::ID, id)));
            return Ok(aggregation::handle(&server, &user, &remote, parts, body).await);
        }
        match info.resource {
            None => self.nonresource(&info, &query, request.headers()).await,
            Some(_) => {
                let watching = if free { None } else { server.flow_control.watching(&info) };
                let answer = self.resource(user, info, query, request, known.trail.as_mut()).await?;
                if let Some(lengthy) = answer.extensions().get::<Lengthy>() {
                    lengthy.keep(place);
                }
                Ok(if watching.is_some() { response::keeping(answer, watching) } else { answer })
            }
        }
    }

    async fn nonresource(&self, info: &RequestInfo, query: &str, headers: &HeaderMap) -> Result<Response, Status> {
        let server = &self.server;
        let path = info.path.trim_end_matches('/');
        let form = discovery::Form::asked(path, headers, |group| server.registry.catalogue.has_routes(group));
        let can = form.as_ref().and_then(|form| form.as_ref().ok());
        let (reads, is_schema) = (matches!(info.verb, "get" | "head"), nonresource::is_schema(path));
        let mut answer = if !(reads || is_schema) || !server.aggregation.concerns(path) {
            nonresource::answer(server, info, query, headers, can).await?
        } else {
            // Whole: the rest is merged into it.
            let mut asked = headers.clone();
            asked.remove(header::IF_NONE_MATCH);
            match nonresource::answer(server, info, query, &asked, can).await {
                Err(status) if !status.is_not_found() => return Err(status),
                answer => {
                    let answer = answer.unwrap_or_else(|status| response::refusal(&status));
                    server.aggregation.merged(path, headers, answer).await
                }
            }
        };
        if is_schema && !reads && answer.status() == StatusCode::NOT_MODIFIED {
            // Who does not read asks that it be another than the one that he has.
            *answer.status_mut() = StatusCode::PRECONDITION_FAILED;
        }
        match form {
            Some(form) if answer.status() != StatusCode::NOT_FOUND => form?.write(answer).await,
            _ => Ok(answer),
        }
    }

    /// Who asks.
    async fn user(
        &self,
        headers: &HeaderMap,
        peer: Option<PeerCertificates>,
        info: &RequestInfo,
        notes: &mut Notes,
    ) -> Result<User, Status> {
        if let Some(identity) = &self.identity {
            return Ok(identity.user.clone());
        }
        let authenticator = &self.server.authenticator;
        match authenticator.authenticate(headers, peer.as_ref(), notes).await? {
            Some(user) => Ok(user),
            None if authenticator.anonymous.lets_in(&info.path) => Ok(User::anonymous()),
            None => Err(Status::unauthorized()),
        }
    }

    async fn resource(
        self,
        user: User,
        mut info: RequestInfo,
        query: String,
        request: Request<Body>,
        mut trail: Option<&mut Trail>,
    ) -> Result<Response, Status> {
        let server = &self.server;
        let served = match (routes::find(&server.registry.catalogue, &info), &mut info.resource) {
            (Ok(served), Some(target)) => {
                // Custom resources take it for no part of what is asked.
                if info.verb == "create" && served.custom.is_some() && target.subresource.is_empty() {
                    target.name.clear();
                }
                served
            }
            (Err(Lost::Refused(status)), _) => return Err(status),
            (_, Some(target)) if !server.registry.catalogue.has_routes(&target.group) => {
                return Ok(nonresource::nothing());
            }
            _ => return Err(Status::path_not_found()),
        };
        let (mut parts, body) = request.into_parts();
        websocket::without_bearer(&mut parts.headers);
        if let Some(target) = info.resource.as_ref().filter(|target| streaming::is_streamed(target)) {
            return streaming::handle(server, &served, &user, &info, target, &query, parts, body).await;
        }
        if parts.method == http::Method::HEAD && served.custom.is_none() {
            return Err(Status::method_not_allowed());
        }
        let body = read_body(body).await?;
        let mut call = Call::new(user, info, query, parts.headers, body).ok_or_else(Status::path_not_found)?;
        if let Some(trail) = &mut trail {
            trail.sent(&call);
        }
        // What is only created is answered as it is; what can be read has views, also where nothing is stored.
        let viewed = served.cache.is_some() || matches!(call.verb, "get" | "list");
        // Custom resources have no protobuf form; their scale is a kind like others.
        let routed = served.custom.is_none();
        let protobuf = routed || call.target.subresource == "scale";
        let offer = negotiate::Offer { routed, protobuf, views: viewed };
        let asked = match negotiate::negotiate(&call.headers, call.verb, offer) {
            Ok(asked) => asked,
            Err(status) => return Ok(refuse(&status, &served, &call)),
        };

        let outcome = if !call.target.subresource.is_empty() {
            subresources::handle(server, &served, &mut call).await
        } else if served.cache.is_none() {
            reviews::handle(server, &served, &mut call).await
        } else {
            server.registry.handle(&served, &mut call).await
        };
        if let Some(trail) = trail {
            trail.annotate_all(&call.annotations);
            if let Some(warning) = &served.version.deprecated {
                trail.deprecated(warning);
            }
        }
        let response = match outcome {
            Ok(outcome) => encode::answer(&served, outcome, asked, &call.query, server.times.request).await,
            Err(status) => Err(status),
        };
        let mut response = match response {
            Ok(response) => response,
            Err(status) => return Ok(refuse(&status, &served, &call)),
        };
        warn(&mut response, served.version.deprecated.iter().chain(&call.warnings));
        Ok(response)
    }
}

impl Known {
    /// Opens the trail of a request whose user was found out, or not.
    fn begin<B>(
        &mut self,
        server: &ApiServer,
        request: &Request<B>,
        info: &RequestInfo,
        user: &Result<User, Status>,
        notes: Notes,
    ) {
        self.warnings = notes.warnings;
        let (Some(audit), Some(id)) = (&server.audit, &self.id) else { return };
        let nobody = User::default();
        self.trail = audit.begin(id, request, info, user.as_ref().unwrap_or(&nobody));
        if let Some(trail) = &mut self.trail {
            trail.annotate_all(&notes.annotations);
        }
        if let (Some(trail), Err(_)) = (&mut self.trail, user) {
            trail.unauthenticated(request);
        }
    }

    /// Records that the request has come; what must be recorded and cannot be is not served.
    async fn received(&mut self) -> Result<(), Status> {
        let Some(trail) = &mut self.trail else { return Ok(()) };
        if trail.received().await {
            return Ok(());
        }
        audit::reject();
        Err(Status::internal("failed to store audit event"))
    }

    /// Records the answer, which gets the name of its request.
    async fn answered(self, response: Response) -> Response {
        let mut response = match self.trail {
            Some(trail) => trail.answered(response).await,
            None => response,
        };
        if let Some(flow) = &self.flow {
            flow.name_in(response.headers_mut());
        }
        warn(&mut response, &self.warnings);
        if let Some(id) = self.id {
            response.headers_mut().entry(audit::ID).or_insert(id);
        }
        response
    }

    /// The answer to a request whose handler panicked.
    fn panicked(mut self, status: &Status) -> Response {
        if let Some(trail) = &mut self.trail {
            trail.panicked();
        }
        let mut response = response::refusal(status);
        response.headers_mut().extend(self.id.map(|id| (audit::ID, id)));
        response
    }
}

/// True as often as `chance` says, of 1.
fn by_chance(chance: f64) -> bool {
    if chance <= 0.0 {
        return false;
    }
    let mut random = [0; 4];
    getrandom::fill(&mut random).is_ok() && f64::from(u32::from_le_bytes(random)) < chance * f64::from(u32::MAX)
}

async fn read_body(mut body: Body) -> Result<Bytes, Status> {
    let broken = |why| Status::bad_request(format!("the body of the request could not be read: {why}"));
    let (mut pieces, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(broken)?.into_data() else { continue };
        length += piece.len();
        if length > MAX_BODY {
            return Err(Status::too_large(MAX_BODY));
        }
        pieces.push(piece);
    }
    // Most come whole.
    Ok(if pieces.len() == 1 { pieces.remove(0) } else { pieces.concat().into() })
}

fn refusal(info: &RequestInfo, why: &str) -> Status {
    match &info.resource {
        None => Status::forbidden(Subject { group: "", resource: "" }, "", why),
        Some(target) => {
            let resource = match target.subresource.as_str() {
                "" => target.resource.clone(),
                sub => format!("{}/{sub}", target.resource),
            };
            let mut status =
                Status::forbidden(Subject { group: &target.group, resource: &resource }, &target.name, why);
            if let Some(details) = &mut status.details {
                details.kind.clone_from(&target.resource);
            }
            status
        }
    }
}

/// A refusal, with what the client is warned of all the same.
fn refuse(status: &Status, served: &Served, call: &Call) -> Response {
    let mut response = encode::refusal(status, call.headers.get(header::ACCEPT));
    // A body that no one reads is refused before it is known what would be deprecated.
    let unread = response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let deprecated = served.version.deprecated.iter().filter(|_| !unread);
    warn(&mut response, deprecated.chain(&call.warnings));
    response
}

/// Adds the texts that a client shows its user beside the answer (RFC 7234 section 5.5).
fn warn<'a>(response: &mut Response, texts: impl IntoIterator<Item = &'a String>) {
    let mut said: Vec<&String> = Vec::new();
    for text in texts {
        // A write that was tried twice has found the same twice.
        if said.contains(&text) {
            continue;
        }
        said.push(text);
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
