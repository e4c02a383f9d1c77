//! HTTP to servers: the client that everything of an agent shares, and questions to the supervisor.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use serde::Deserialize;
use tokio::time::timeout;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::servers::{Connector, Servers};
use crate::tls;

/// For a connection with its TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// For one question with its answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A connection is asked for a sign of life after this much silence, and given up without one; then another server is
/// asked, well before a node is taken for dead (40 s).
const PING_AFTER: Duration = Duration::from_secs(15);
const PING_WAIT: Duration = Duration::from_secs(10);
/// A watch must not be held up by its window.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
const MAX_ANSWER: usize = 1 << 20;

/// Requests to whichever server answers, over one connection.
pub(super) type HttpClient<B> = BoxCloneSyncService<Request<B>, Response<Incoming>, legacy::Error>;

/// A client whose connections are secured by `tls`, which names no protocols.
pub(super) fn client<B>(servers: &Arc<Servers>, tls: ClientConfig) -> HttpClient<B>
where
    B: HttpBody + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2();
    let connector = https.wrap_connector(Connector(servers.clone())).map_future(|connected| {
        Box::pin(async {
            match timeout(CONNECT, connected).await {
                Ok(connected) => connected,
                Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        })
    });
    let client = legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_WAIT)
        .http2_keep_alive_while_idle(true)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .build(connector);
    BoxCloneSyncService::new(client)
}

/// Why the supervisor did not give what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    #[error("{0}")]
    Unreachable(String),
    #[error("the server refuses {path} with {code}: {message}")]
    Refused { path: String, code: u16, message: String },
}

/// Asks the supervisor.
pub(super) struct Exchange {
    http: HttpClient<Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

impl Exchange {
    pub(super) fn new(servers: &Arc<Servers>, tls: ClientConfig, authorization: Option<&str>) -> Self {
        // A secret that cannot be a header is none that a server has.
        let authorization = authorization.and_then(|text| text.parse().ok()).map(|mut value: HeaderValue| {
            value.set_sensitive(true);
            value
        });
        Self { http: client(servers, tls), authorization }
    }

    pub(super) async fn get(&self, path: &str) -> Result<String, ExchangeError> {
        self.ask(Method::GET, path, HeaderMap::new(), Bytes::new()).await
    }

    pub(super) async fn post(&self, path: &str, headers: HeaderMap, body: Bytes) -> Result<String, ExchangeError> {
        self.ask(Method::POST, path, headers, body).await
    }

    async fn ask(&self, method: Method, path: &str, headers: HeaderMap, body: Bytes) -> Result<String, ExchangeError> {
        let unreachable = |why: &(dyn std::error::Error + 'static)| ExchangeError::Unreachable(cause(why));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = format!("https://{}{path}", tls::API_SERVER)
            .parse()
            .map_err(|why: http::uri::InvalidUri| unreachable(&why))?;
        *request.headers_mut() = headers;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let answered = timeout(ANSWER, async {
            let response = self.http.clone().oneshot(request).await.map_err(|why| unreachable(&why))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|why| unreachable(&*why))?;
            Ok((parts.status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        });
        let (status, text) = match answered.await {
            Ok(answered) => answered?,
            Err(_) => return Err(ExchangeError::Unreachable(format!("no answer for {path} within {ANSWER:?}"))),
        };
        match status.is_success() {
            true => Ok(text),
            false => Err(ExchangeError::Refused { path: path.to_owned(), code: status.as_u16(), message: said(&text) }),
        }
    }
}

/// The message of a Status, or whatever else a server said.
fn said(text: &str) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    match serde_json::from_str::<Status>(text) {
        Ok(status) => status.message,
        Err(_) => text.lines().next().unwrap_or_default().chars().take(200).collect(),
    }
}

/// The innermost reason: what wraps it says only that something failed.
fn cause(why: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = why;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
