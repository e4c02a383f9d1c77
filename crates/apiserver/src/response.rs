//! Answers: bodies that are whole or streamed, and what every answer carries.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use api::status::Status;
use api::validation::quote;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use parking_lot::Mutex;
use serde_json::Value;

use crate::negotiate::JSON;

/// Why a body ended early.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Every answer.
pub type Response = http::Response<Body>;

/// A body whose bytes are there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body whose chunks are sent as they come.
pub fn stream(chunks: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))).boxed_unsync()
}

/// The same of chunks that may fail to come.
pub(crate) fn try_stream(chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    StreamBody::new(chunks.fuse().map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// What an answer's bytes are known by.
pub(crate) fn tag(bytes: &[u8]) -> HeaderValue {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    HeaderValue::try_from(format!("\"{digits}\"")).expect("digits in quotes are a header's value")
}

/// Whether a client says that it has what `tag` stands for.
pub(crate) fn is_known(tag: &HeaderValue, headers: &HeaderMap) -> bool {
    let known = headers.get_all(IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|one| one.trim().trim_start_matches("W/"));
    known.any(|known| known == "*" || known == tag)
}

/// Marks an answer whose body is made while it is sent, and keeps what is to be kept as long as that lasts.
#[derive(Clone, Default)]
pub(crate) struct Lengthy(Arc<Mutex<Option<Box<dyn Send>>>>);

impl Lengthy {
    pub(crate) fn keep(&self, until_sent: impl Send + 'static) {
        *self.0.lock() = Some(Box::new(until_sent));
    }

    /// It is sent, or nobody takes it.
    pub(crate) fn let_go(&self) {
        let kept = self.0.lock().take();
        drop(kept);
    }
}

/// What lasts as long as the body that holds this.
#[derive(Default)]
pub(crate) struct Lifetime(Arc<Mutex<Vec<Box<dyn Send>>>>);

/// The way to a body's [`Lifetime`], which its answer carries as an extension.
#[derive(Clone)]
pub(crate) struct Lasting(Weak<Mutex<Vec<Box<dyn Send>>>>);

impl Lifetime {
    pub(crate) fn lasting(&self) -> Lasting {
        Lasting(Arc::downgrade(&self.0))
    }
}

/// A long answer, made while it is sent. Its length is told if it is known.
pub(crate) fn lengthy(
    media_type: &'static str,
    length: Option<u64>,
    lengthy: Lengthy,
    pieces: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Response {
    let body = Measured { body: try_stream(pieces), left: length }.boxed_unsync();
    let mut response = with_body(StatusCode::OK, media_type, body);
    response.extensions_mut().insert(lengthy);
    response
}

/// A body of known length.
struct Measured {
    body: Body,
    left: Option<u64>,
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let (Some(left), Some(Ok(frame))) = (&mut this.left, &frame) {
            *left -= frame.data_ref().map_or(0, |data| (data.len() as u64).min(*left));
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}

/// An answer with a whole body.
pub fn bytes(code: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response {
    with_body(code, media_type, full(body))
}

/// An answer with any body.
pub fn with_body(code: StatusCode, media_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// A JSON document.
pub fn json(code: StatusCode, document: &Value) -> Response {
    bytes(code, JSON, document.to_string() + "\n")
}

/// An answer without a body.
pub fn empty(code: StatusCode) -> Response {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = code;
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Plain text, as health checks answer.
pub fn text(code: StatusCode, body: impl Into<Bytes>) -> Response {
    bytes(code, "text/plain; charset=utf-8", body)
}

/// What upstream says where it cannot even be found out what a request, `asked` for by its target, is about or whether
/// it may be made (`responsewriters.InternalError`).
pub(crate) fn fault(asked: &str, why: &str) -> Response {
    let said = format!("Internal Server Error: {}: {why}\n", quote(asked));
    let said = said.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text(StatusCode::INTERNAL_SERVER_ERROR, said)
}

/// Keeps `until` for as long as the body of an answer is there.
pub fn keeping(response: Response, until: impl Send + Unpin + 'static) -> Response {
    // A body within a body costs at each of its frames.
    if let Some(lifetime) = response.extensions().get::<Lasting>().and_then(|lasting| lasting.0.upgrade()) {
        lifetime.lock().push(Box::new(until));
        return response;
    }
    response.map(|body| Keeping { body, _until: until }.boxed_unsync())
}

struct Keeping<T> {
    body: Body,
    _until: T,
}

impl<T: Unpin> HttpBody for Keeping<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A refusal.
pub fn refusal(status: &Status) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &status.to_json());
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
