//! Calls to what extends the server: admission and conversion webhooks, and API servers that it stands in front of.
//!
//! ```text
//! address      where a call goes: a URL, or a Service and its endpoints
//! tls          whom to believe there
//! answers      what was answered, believed for a while
//! connections  connections that are kept, so that not every call begins with a handshake
//! kubeconfig   whom to call, where flags name webhooks
//! error        why a call failed, in the words of Go's client, which people search for
//! ```

mod address;
mod answers;
mod connections;
mod error;
mod kubeconfig;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::aggregation::RemoteUser;
use crate::authn::User;
use crate::cache::ResourceCache;
use crate::response::{self, Body};
use crate::streaming::NodeDialer;
use address::Place;
use connections::{Connection, Connections, Key};

pub(crate) use address::{Address, ServiceReference};
pub(crate) use answers::Answers;
pub(crate) use error::CallError;
pub(crate) use kubeconfig::kubeconfig;
pub use tls::{TlsError, client_config, host_authorities, unverified_config};

/// The largest answer that is read, as large as the largest object with room for what stands around it.
const MAX_ANSWER: usize = 8 << 20;
const AGENT: &str = "kube-apiserver-admission";

/// Somebody who can be called: where, and whom to believe there.
#[derive(Clone)]
pub(crate) struct Callee {
    pub(crate) address: Address,
    pub(crate) tls: Arc<ClientConfig>,
}

/// The body of a request.
pub(crate) enum Payload {
    Whole(Bytes),
    /// On its way through this server: it can be sent once.
    Passing(Body),
}

/// The way out. Shared by all who call.
pub(crate) struct Outbound {
    dialer: Arc<dyn NodeDialer>,
    services: Arc<ResourceCache>,
    slices: Arc<ResourceCache>,
    nodes: Arc<ResourceCache>,
    kept: Connections,
}

/// What of the cluster a call needs to find its way.
pub(crate) struct Places {
    pub(crate) services: Arc<ResourceCache>,
    pub(crate) slices: Arc<ResourceCache>,
    pub(crate) nodes: Arc<ResourceCache>,
}

impl Outbound {
    /// Connections run on `tasks` until `stop`.
    pub(crate) fn new(
        dialer: Arc<dyn NodeDialer>,
        places: Places,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let Places { services, slices, nodes } = places;
        Arc::new(Self { dialer, services, slices, nodes, kept: Connections::new(tasks, stop) })
    }

    /// The same ways, by connections of its own that run on `tasks` until `stop`: for who has something to say when the
    /// server has stopped.
    pub(crate) fn until(&self, tasks: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        let (services, slices, nodes) = (self.services.clone(), self.slices.clone(), self.nodes.clone());
        Arc::new(Self { dialer: self.dialer.clone(), services, slices, nodes, kept: Connections::new(tasks, stop) })
    }

    /// All EndpointSlices.
    pub(crate) fn slices(&self) -> &ResourceCache {
        &self.slices
    }

    /// Posts a JSON document and returns the answer's, within `limit`, which the callee is told as well.
    pub(crate) async fn post(&self, callee: &Callee, body: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        let target = format!("{}?timeout={}s", callee.address.path(), seconds(limit));
        self.post_to(callee, &target, body, limit).await
    }

    /// [`Self::post`] to those who are not told.
    pub(crate) async fn post_untold(&self, callee: &Callee, body: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        self.post_to(callee, callee.address.path(), body, limit).await
    }

    /// Posts as whoever `authorization` says, to those who are not told how long they have.
    pub(crate) async fn post_as(
        &self,
        callee: &Callee,
        authorization: Option<&HeaderValue>,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let mut head = head(Method::POST, callee.address.path(), callee)?;
        head.headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
        self.within(callee, head, body, limit).await
    }

    /// Asks for a document as nobody in particular.
    pub(crate) async fn fetch(&self, callee: &Callee, limit: Duration) -> Result<Bytes, CallError> {
        let head = head(Method::GET, callee.address.path(), callee)?;
        self.within(callee, head, Bytes::new(), limit).await
    }

    async fn within(&self, callee: &Callee, head: Parts, body: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        let verb = if head.method == Method::GET { "Get" } else { "Post" };
        let url = format!("https://{}{}", callee.address.host(), head.uri);
        let called =
            tokio::time::timeout(limit, async { read(self.send(callee, head, Payload::Whole(body)).await?).await });
        match called.await {
            Ok(outcome) => outcome.map_err(|why| why.at(verb, &url)),
            Err(_late) => Err(CallError::late(verb, &url)),
        }
    }

    async fn post_to(&self, callee: &Callee, target: &str, body: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        self.within(callee, head(Method::POST, target, callee)?, body, limit).await
    }

    /// Asks for a document as `user`, whom the callee must be ready to hear of from this server.
    pub(crate) async fn get(
        &self,
        callee: &Callee,
        path: &str,
        user: &User,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let url = format!("https://{}{path}", callee.address.host());
        let called = tokio::time::timeout(limit, async {
            let mut head = head(Method::GET, path, callee)?;
            RemoteUser::write(user, &mut head.headers);
            let answer = self.send(callee, head, Payload::Whole(Bytes::new())).await?;
            let status = answer.status();
            Ok((status, whole(answer).await?))
        });
        match called.await {
            Ok(outcome) => outcome.map_err(|why: CallError| why.at("Get", &url)),
            Err(_late) => Err(CallError::late("Get", &url)),
        }
    }

    /// Sends a request, by a connection that is kept or a new one. One that was kept may have been closed meanwhile,
    /// which is no failure of the call: what is there whole can be said again.
    pub(crate) async fn send(
        &self,
        callee: &Callee,
        head: Parts,
        payload: Payload,
    ) -> Result<Response<Incoming>, CallError> {
        let places = self.resolve(&callee.address).await?;
        let key = Key::new(callee);
        if let Payload::Whole(body) = &payload {
            let current = |address| places.iter().any(|place| place.address == address);
            while let Some(mut kept) = self.kept.take(&key, current) {
                let request = Request::from_parts(head.clone(), response::full(body.clone()));
                if let Ok(answer) = kept.send(request).await {
                    self.kept.keep(key, kept);
                    return Ok(answer);
                }
            }
        }
        let mut fresh = self.begin(callee, &places).await?;
        let answer = fresh.send(Request::from_parts(head, payload.into_body())).await.map_err(CallError::connection)?;
        self.kept.keep(key, fresh);
        Ok(answer)
    }

    /// Sends a request by a connection of its own, which may become something else than HTTP.
    pub(crate) async fn send_alone(
        &self,
        callee: &Callee,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, CallError> {
        let places = self.resolve(&callee.address).await?;
        self.begin(callee, &places).await?.send(request).await.map_err(CallError::connection)
    }

    async fn begin(&self, callee: &Callee, places: &[Place]) -> Result<Connection, CallError> {
        let (stream, address) = self.open(&callee.address, &callee.tls, places).await?;
        self.kept.begin(stream, address, callee.tls.clone()).await.map_err(CallError::connection)
    }
}

impl Payload {
    fn into_body(self) -> Body {
        match self {
            Self::Whole(bytes) => response::full(bytes),
            Self::Passing(body) => body,
        }
    }
}

fn head(method: Method, target: &str, callee: &Callee) -> Result<Parts, CallError> {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, callee.address.host())
        .header(CONTENT_TYPE, "application/json")
        .header(ACCEPT, "application/json, */*")
        .header(USER_AGENT, AGENT)
        .body(());
    request.map(|request| request.into_parts().0).map_err(CallError::malformed)
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, CallError> {
    Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map(|body| body.to_bytes()).map_err(CallError::body)
}

async fn read(answer: Response<Incoming>) -> Result<Bytes, CallError> {
    match answer.status() {
        status if status.is_success() => whole(answer).await,
        other => Err(CallError::refused(other)),
    }
}

/// Whole seconds, none of them cut short.
fn seconds(limit: Duration) -> u64 {
    limit.as_secs() + u64::from(limit.subsec_nanos() > 0)
}
