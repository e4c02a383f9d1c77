//! Answers: bodies that are whole or streamed, and what every answer carries.

use api::status::Status;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
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

/// Keeps `until` for as long as the body of an answer is there.
pub fn keeping(response: Response, until: impl Send + 'static) -> Response {
    response.map(|body| {
        body.map_frame(move |frame| {
            let _until_the_end = &until;
            frame
        })
        .boxed_unsync()
    })
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
