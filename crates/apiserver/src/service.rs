//! The chain that every request passes, whether it came from a socket or from a component in this process:
//! identity, permission, dispatch, answer.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::status::{Status, Subject};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::HeaderValue;
use http::{Request, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tracing::error;

use crate::authn::{PeerCertificates, User};
use crate::authz::Attributes;
use crate::negotiate;
use crate::registry::{Call, Served, encode};
use crate::request::{RequestInfo, query_value, truthy};
use crate::response::{self, BoxError, Response};
use crate::server::ApiServer;
use crate::{health, nonresource, reviews, streaming, subresources};

/// Larger bodies are refused, as upstream does.
const MAX_BODY: usize = 3 << 20;

/// The server as a tower service. Cheap to clone.
#[derive(Clone)]
pub struct ApiService {
    server: Arc<ApiServer>,
    /// Set for components in this process, which are known without credentials.
    identity: Option<User>,
}

impl ApiService {
    /// For requests that bring their own credentials.
    pub fn new(server: Arc<ApiServer>) -> Self {
        Self { server, identity: None }
    }

    /// The transport of a component in this process: the full chain, as this user.
    pub fn of_component(server: Arc<ApiServer>, user: User) -> Self {
        Self { server, identity: Some(user) }
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
        let service = self.clone();
        Box::pin(async move { Ok(service.respond(request).await) })
    }
}

impl ApiService {
    /// Answers a request, whatever happens: a panic in one must not end the others.
    async fn respond<B>(self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let target = format!("{} {}", request.method(), request.uri().path());
        match AssertUnwindSafe(self.chain(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(status)) => response::refusal(&status),
            Err(_) => {
                error!(target, "request handler panicked");
                response::refusal(&Status::internal("the request handler panicked: see the server's log"))
            }
        }
    }

    async fn chain<B>(self, request: Request<B>) -> Result<Response, Status>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let server = &self.server;
        let query = request.uri().query().unwrap_or_default().to_owned();
        let info = RequestInfo::parse(request.method(), request.uri().path(), &query)
            .ok_or_else(|| Status::bad_request("the request path is not valid percent-encoded UTF-8"))?;

        let user = self.user(&request, &info)?;
        let attributes = Attributes::of(&user, &info);
        if !server.authorizer.authorize(&attributes).allowed {
            return Err(refusal(&info, &attributes.refusal()));
        }
        match info.resource {
            None => nonresource::answer(server, &info, &query, request.headers()),
            Some(_) => self.resource(user, info, query, request).await,
        }
    }

    /// Who asks. Health is told to anybody.
    fn user<B>(&self, request: &Request<B>, info: &RequestInfo) -> Result<User, Status> {
        if let Some(user) = &self.identity {
            return Ok(user.clone());
        }
        let peer = request.extensions().get::<PeerCertificates>();
        match self.server.authenticator.authenticate(request.headers(), peer)? {
            Some(user) => Ok(user),
            None if health::is_path(&info.path) => Ok(User::anonymous()),
            None => Err(Status::unauthorized()),
        }
    }

    async fn resource<B>(
        self,
        user: User,
        info: RequestInfo,
        query: String,
        request: Request<B>,
    ) -> Result<Response, Status>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let server = &self.server;
        let served = find(server, &info)?;
        let (parts, body) = request.into_parts();
        if let Some(target) = info.resource.as_ref().filter(|target| streaming::is_streamed(target)) {
            let body = body.map_err(Into::into).boxed_unsync();
            return streaming::handle(server, &user, &info, target, &query, parts, body).await;
        }
        let body = read_body(body).await?;
        let mut call = Call::new(user, info, query, parts.headers, body).ok_or_else(Status::path_not_found)?;
        let mut asked = negotiate::negotiate(&call.headers, !served.custom, served.cache.is_some())?;
        asked.pretty = truthy(query_value(&call.query, "pretty"));

        let outcome = if !call.target.subresource.is_empty() {
            subresources::handle(server, &served, &mut call).await
        } else if served.cache.is_none() {
            reviews::handle(server, &served, &mut call).await
        } else {
            server.registry.handle(&served, &mut call).await
        };
        let mut response = match outcome {
            Ok(outcome) => encode::answer(&served, outcome, asked, &call.query)?,
            Err(status) => response::refusal(&status),
        };
        warn(&mut response, &served, &call.warnings);
        Ok(response)
    }
}

fn find(server: &ApiServer, info: &RequestInfo) -> Result<Arc<Served>, Status> {
    let target = info.resource.as_ref().ok_or_else(Status::path_not_found)?;
    let served = server
        .registry
        .catalogue
        .find(&target.group, &target.version, &target.resource)
        .ok_or_else(Status::path_not_found)?;
    let verbs = match target.subresource.as_str() {
        "" => served.row.verbs,
        name => served.version.subresource(name).ok_or_else(Status::path_not_found)?.verbs,
    };
    // Where a namespaced object is named there must be a namespace, and the other way round.
    let named = !target.name.is_empty() && !info.is_collection();
    let misplaced = served.row.namespaced && target.namespace.is_empty() && (named || info.verb == "create");
    let scoped = !served.row.namespaced && !target.namespace.is_empty() && target.resource != "namespaces";
    if misplaced || scoped {
        return Err(Status::path_not_found());
    }
    if !verbs.contains(info.verb) {
        return Err(Status::method_not_allowed());
    }
    Ok(served)
}

async fn read_body<B>(body: B) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let read = Limited::new(body, MAX_BODY).collect().await;
    read.map(http_body_util::Collected::to_bytes).map_err(|why| match why.downcast_ref::<LengthLimitError>() {
        Some(_) => Status::too_large(MAX_BODY),
        None => Status::bad_request(format!("the body of the request could not be read: {why}")),
    })
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

/// Adds the texts that a client shows its user beside the answer (RFC 7234 section 5.5).
fn warn(response: &mut Response, served: &Served, warnings: &[String]) {
    for text in served.version.deprecated.iter().chain(warnings) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
