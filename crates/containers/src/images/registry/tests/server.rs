//! A registry of the tests' own: what it has is in memory, and it fails as it is told to.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::images::digests;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// `me:secret`
const PASSWORD: &str = "Basic bWU6c2VjcmV0";

#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Lock {
    #[default]
    Open,
    Password,
    /// Tokens, which `me` gets.
    Token,
    /// Tokens, which everybody gets.
    AnyToken,
}

/// How it fails.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) lock: Lock,
    /// What the next requests are answered with, and whether they are asked to wait.
    pub(super) refuse: VecDeque<(u16, Option<u64>)>,
    /// The next blobs are cut off after so many bytes.
    pub(super) cut: VecDeque<usize>,
    pub(super) ignores_ranges: bool,
    /// Blobs begin, and never go on.
    pub(super) stalls: bool,
    /// Blobs are to be fetched there.
    pub(super) redirect: Option<String>,
    /// Questions without answers are not known.
    pub(super) no_head: bool,
}

/// What was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) what: String,
    pub(super) range: Option<String>,
    pub(super) authorization: Option<String>,
}

#[derive(Default)]
struct State {
    /// By `PATH/manifests/REFERENCE` and `PATH/blobs/DIGEST`.
    objects: Mutex<BTreeMap<String, (String, Bytes)>>,
    faults: Mutex<Faults>,
    asked: Mutex<Vec<Asked>>,
    tokens: Mutex<Vec<String>>,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    /// Ends the server.
    _stop: tokio_util::sync::DropGuard,
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(super) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, stop) = (Arc::<State>::default(), tokio_util::sync::CancellationToken::new());
        let (tasks, serving, token) = (TaskTracker::new(), Arc::clone(&state), stop.clone());
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let state = Arc::clone(&serving);
                let answer = service_fn(move |request| {
                    let state = Arc::clone(&state);
                    async move { Ok::<_, Infallible>(state.answer(&request, address)) }
                });
                let builder = hyper::server::conn::http1::Builder::new();
                let tls = tls.clone();
                tasks.spawn(token.clone().run_until_cancelled_owned(async move {
                    // Clients may go when they like.
                    match tls {
                        None => _ = builder.serve_connection(TokioIo::new(socket), answer).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                _ = builder.serve_connection(TokioIo::new(socket), answer).await;
                            }
                        }
                    }
                }));
            }
        }));
        Self { address, state, _stop: stop.drop_guard() }
    }

    pub(super) fn fail(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.faults.lock());
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.asked.lock())
    }

    /// Methods and paths, without the beginning that all have.
    pub(super) fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|it| it.what.replace("/v2/", "")).collect()
    }

    pub(super) fn blob(&self, path: &str, bytes: &[u8]) -> String {
        let digest = digests::of(bytes);
        self.lie(&format!("{path}/blobs/{digest}"), bytes);
        digest
    }

    /// A manifest by its digest, and by `tag`.
    pub(super) fn manifest(&self, path: &str, tag: &str, media_type: &str, bytes: &[u8]) -> String {
        let digest = digests::of(bytes);
        for reference in [tag, &digest] {
            let object = (media_type.to_owned(), Bytes::copy_from_slice(bytes));
            self.state.objects.lock().insert(format!("{path}/manifests/{reference}"), object);
        }
        digest
    }

    /// Gives `bytes` for whatever they are asked as.
    pub(super) fn lie(&self, object: &str, bytes: &[u8]) {
        let object = object.to_owned();
        let media_type = "application/octet-stream".to_owned();
        self.state.objects.lock().insert(object, (media_type, Bytes::copy_from_slice(bytes)));
    }
}

impl State {
    fn answer(&self, request: &Request<Incoming>, address: SocketAddr) -> Response<Body> {
        let text = |name| request.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
        let (authorization, range) = (text(AUTHORIZATION), text(RANGE));
        let what = format!("{} {}", request.method(), request.uri());
        self.asked.lock().push(Asked { what, range: range.clone(), authorization: authorization.clone() });
        let mut faults = self.faults.lock();
        if request.uri().path() == "/token" {
            return self.token(faults.lock, authorization.as_deref());
        }
        if let Some((status, wait)) = faults.refuse.pop_front() {
            let mut refused = plain(
                StatusCode::from_u16(status).unwrap(),
                &json!({"errors": [
                    {"code": "UNWELL", "message": "come back"},
                ]})
                .to_string(),
            );
            refused.headers_mut().extend(wait.map(|it| (RETRY_AFTER, it.into())));
            return refused;
        }
        let let_in = match faults.lock {
            Lock::Open => true,
            Lock::Password => authorization.as_deref() == Some(PASSWORD),
            _ => authorization.is_some_and(|it| self.tokens.lock().contains(&it)),
        };
        if !let_in {
            let challenge = match faults.lock {
                Lock::Password => "Basic realm=\"here\"".to_owned(),
                _ => format!("Bearer realm=\"http://{address}/token\",service=\"tests\""),
            };
            let mut refused = plain(StatusCode::UNAUTHORIZED, "");
            refused.headers_mut().insert(WWW_AUTHENTICATE, challenge.parse().unwrap());
            return refused;
        }
        let path = request.uri().path().trim_start_matches("/v2/");
        if let Some(there) = faults.redirect.as_ref().filter(|_| path.contains("/blobs/")) {
            let mut redirected = plain(StatusCode::TEMPORARY_REDIRECT, "");
            redirected.headers_mut().insert(LOCATION, format!("{there}/v2/{path}?signature=x").parse().unwrap());
            return redirected;
        }
        let Some((media_type, bytes)) = self.objects.lock().get(path).cloned() else {
            return plain(StatusCode::NOT_FOUND, "");
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, media_type.parse().unwrap());
        if request.method() == Method::HEAD {
            if faults.no_head {
                return plain(StatusCode::METHOD_NOT_ALLOWED, "");
            }
            headers.insert("docker-content-digest", digests::of(&bytes).parse().unwrap());
            return with(StatusCode::OK, headers, Full::new(Bytes::new()).map_err(|it| match it {}).boxed_unsync());
        }
        let start = range.filter(|_| !faults.ignores_ranges);
        let start = start.map(|it| it.trim_start_matches("bytes=").trim_end_matches('-').parse::<usize>().unwrap());
        let status = if start.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let start = start.unwrap_or_default();
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            headers.insert(CONTENT_RANGE, range.parse().unwrap());
        }
        let rest = bytes.slice(start..);
        headers.insert(CONTENT_LENGTH, rest.len().into());
        let is_blob = path.contains("/blobs/") && rest.len() > 100;
        let body = match (is_blob && faults.stalls, if is_blob { faults.cut.pop_front() } else { None }) {
            (true, _) => stream::iter([Ok(Frame::data(rest.slice(..100)))]).chain(stream::pending()).boxed(),
            (_, Some(length)) => {
                let cut = io::Error::from(io::ErrorKind::ConnectionReset);
                let begun = rest.slice(..length.min(rest.len()));
                // Separately, so that what has begun is sent.
                let end = stream::once(async {
                    tokio::task::yield_now().await;
                    Err(cut)
                });
                stream::iter([Ok(Frame::data(begun))]).chain(end).boxed()
            }
            (_, None) => stream::iter([Ok(Frame::data(rest))]).boxed(),
        };
        with(status, headers, BodyExt::boxed_unsync(StreamBody::new(body)))
    }

    fn token(&self, lock: Lock, authorization: Option<&str>) -> Response<Body> {
        if lock == Lock::Token && authorization != Some(PASSWORD) {
            return plain(StatusCode::UNAUTHORIZED, "");
        }
        let mut tokens = self.tokens.lock();
        let token = format!("token-{}", tokens.len());
        tokens.push(format!("Bearer {token}"));
        plain(StatusCode::OK, &json!({"token": token}).to_string())
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::copy_from_slice(text.as_bytes())).map_err(|it| match it {});
    with(status, HeaderMap::new(), body.boxed_unsync())
}

fn with(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
