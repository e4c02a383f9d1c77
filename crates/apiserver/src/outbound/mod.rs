//! Calls to what extends the server: admission and conversion webhooks, and API servers that it stands in front of.
//!
//! ```text
//! address      where a call goes: a URL, or a Service and its endpoints
//! tls          whom to believe there
//! connections  connections that are kept, so that not every call begins with a handshake
//! error        why a call failed, in the words of Go's client, which people search for
//! ```

mod address;
mod connections;
mod error;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cache::ResourceCache;
use crate::streaming::NodeDialer;
use connections::{Connections, Key};

pub(crate) use address::Address;
pub(crate) use error::CallError;
pub(crate) use tls::client_config;

/// The largest answer that is read, as large as the largest object with room for what stands around it.
const MAX_ANSWER: usize = 8 << 20;
const AGENT: &str = "kube-apiserver-admission";

/// Somebody who can be called: where, and whom to believe there.
#[derive(Clone)]
pub(crate) struct Callee {
    pub(crate) address: Address,
    pub(crate) tls: Arc<ClientConfig>,
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

    /// Posts a JSON document and returns the answer's, within `limit`, which the callee is told as well.
    pub(crate) async fn post(&self, callee: &Callee, body: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        let target = format!("{}?timeout={}s", callee.address.path(), seconds(limit));
        let url = format!("https://{}{target}", callee.address.host());
        let request = || {
            Request::builder()
                .method(Method::POST)
                .uri(&target)
                .header(HOST, callee.address.host())
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json, */*")
                .header(USER_AGENT, AGENT)
                .body(Full::new(body.clone()))
        };
        let called = tokio::time::timeout(limit, async {
            let answer = self.exchange(callee, &request).await?;
            read(answer).await
        });
        match called.await {
            Ok(outcome) => outcome.map_err(|why| why.at("Post", &url)),
            Err(_late) => Err(CallError::late("Post", &url)),
        }
    }

    /// Sends a request, by a connection that is kept or a new one. One that was kept may have been closed meanwhile:
    /// that is no failure of the call.
    async fn exchange(
        &self,
        callee: &Callee,
        request: &(dyn Fn() -> http::Result<Request<Full<Bytes>>> + Send + Sync),
    ) -> Result<Response<Incoming>, CallError> {
        let places = self.resolve(&callee.address).await?;
        let key = Key::new(callee);
        while let Some(mut kept) = self.kept.take(&key, |address| places.iter().any(|place| place.address == address)) {
            if let Ok(answer) = kept.send(request().map_err(CallError::malformed)?).await {
                self.kept.keep(key, kept);
                return Ok(answer);
            }
        }
        let (stream, address) = self.open(&callee.address, &callee.tls, &places).await?;
        let mut fresh = self.kept.begin(stream, address, callee.tls.clone()).await.map_err(CallError::connection)?;
        let answer = fresh.send(request().map_err(CallError::malformed)?).await.map_err(CallError::connection)?;
        self.kept.keep(key, fresh);
        Ok(answer)
    }
}

async fn read(answer: Response<Incoming>) -> Result<Bytes, CallError> {
    let status = answer.status();
    let read = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(CallError::body)?;
    match status {
        StatusCode::OK | StatusCode::CREATED => Ok(read.to_bytes()),
        other => Err(CallError::refused(other, &read.to_bytes())),
    }
}

/// Whole seconds, none of them cut short.
fn seconds(limit: Duration) -> u64 {
    limit.as_secs() + u64::from(limit.subsec_nanos() > 0)
}
