//! How a whole answer is written: indented for people, compressed for the wire.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT, VARY};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::limits;
use crate::negotiate::JSON;
use crate::request::{RequestInfo, query_value, truthy};
use crate::response::{self, Response};

/// Smaller answers gain nothing by being compressed.
const WORTH_COMPRESSING: u64 = 128 << 10;
/// Agents that people read with.
const PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];

/// What a request wants of its answer's form.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    pretty: bool,
    gzip: bool,
}

impl Shape {
    pub(crate) fn asked(headers: &HeaderMap, info: &RequestInfo, query: &str) -> Self {
        if limits::is_long_running(info) {
            return Self::default();
        }
        let field = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let agent = field(USER_AGENT);
        let pretty = match query_value(query, "pretty") {
            None => PEOPLE.iter().any(|people| agent.starts_with(people)),
            asked => truthy(asked),
        };
        let mut encodings = field(ACCEPT_ENCODING).split(',').map(|it| it.split(';').next().unwrap_or_default().trim());
        let gzip = matches!(info.verb, "get" | "list") && encodings.any(|encoding| encoding == "gzip");
        Self { pretty, gzip }
    }

    /// Gives the answer its form; one that is not whole stays as it is.
    pub(crate) async fn apply(self, response: Response) -> Response {
        let Some(size) = response.body().size_hint().exact() else { return response };
        let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == JSON);
        let pretty = self.pretty && json;
        let compressed = response.extensions().get::<Compressed>().is_some();
        if compressed && (pretty || !self.gzip) {
            return Box::pin(self.apply(decompress(response).await)).await;
        }
        let gzip = self.gzip
            && size > WORTH_COMPRESSING
            && response.status() == StatusCode::OK
            && !response.headers().contains_key(CONTENT_ENCODING);
        if !pretty && !gzip {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let plain = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(why) => return response::refusal(&api::status::Status::internal(why)),
        };
        let plain = if pretty { indent(&plain).into() } else { plain };
        let body = match gzip {
            true => {
                parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
                compress(plain).await
            }
            false => plain,
        };
        Response::from_parts(parts, response::full(body))
    }
}

/// Marks an answer of ours that is kept compressed, and goes out otherwise to who cannot read that.
#[derive(Clone, Copy)]
struct Compressed;

/// The answer of which `response` carries the bytes that [`gzip`] made.
pub(crate) fn compressed(mut response: Response) -> Response {
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.extensions_mut().insert(Compressed);
    response
}

async fn decompress(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let mut plain = Vec::new();
    let read = match body.collect().await {
        Ok(body) => GzDecoder::new(&body.to_bytes()[..]).read_to_end(&mut plain),
        Err(why) => return response::refusal(&api::status::Status::internal(why)),
    };
    if let Err(why) = read {
        return response::refusal(&api::status::Status::internal(why));
    }
    parts.headers.remove(CONTENT_ENCODING);
    parts.extensions.remove::<Compressed>();
    Response::from_parts(parts, response::full(plain))
}

/// Away from the tasks of other requests: a large list takes milliseconds.
async fn compress(plain: Bytes) -> Bytes {
    let compressing = tokio::task::spawn_blocking(move || gzip(&plain));
    compressing.await.expect("compression does not panic").into()
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
}

/// The same JSON with two spaces a level, as Go indents it.
fn indent(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() * 2);
    let (mut depth, mut quoted, mut escaped, mut empty) = (0usize, false, false, false);
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    for &byte in plain {
        if quoted {
            quoted = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            out.push(byte);
            continue;
        }
        match byte {
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !empty {
                    line(&mut out, depth);
                }
                empty = false;
                out.push(byte);
                continue;
            }
            byte if byte.is_ascii_whitespace() => continue,
            _ => {}
        }
        if std::mem::take(&mut empty) {
            line(&mut out, depth);
        }
        out.push(byte);
        match byte {
            b'{' | b'[' => {
                depth += 1;
                empty = true;
            }
            b',' => line(&mut out, depth),
            b':' => out.push(b' '),
            b'"' => quoted = true,
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn json_is_indented_as_go_indents_it() {
        let document = json!({"a": {}, "b": [], "c": [1, {"d": "x, {\"y\": [\\]}"}], "e": null, "f": [[]]});
        let said = String::from_utf8(indent((document.to_string() + "\n").as_bytes())).unwrap();
        assert_eq!(said, serde_json::to_string_pretty(&document).unwrap());
    }

    fn asked(agent: &str, query: &str, encodings: &str) -> Shape {
        let headers =
            HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap()), (ACCEPT_ENCODING, encodings.parse().unwrap())]);
        let info = RequestInfo::parse(&Method::GET, "/api/v1/pods", query).unwrap();
        Shape::asked(&headers, &info, query)
    }

    #[test]
    fn people_and_slow_wires_are_told_by_what_they_ask() {
        assert_eq!(asked("kubectl/v1.36.3", "", "gzip"), Shape { pretty: false, gzip: true });
        assert_eq!(asked("kubectl/v1.36.3", "pretty=true", "br"), Shape { pretty: true, gzip: false });
        assert_eq!(asked("curl/8.0", "", "deflate, gzip;q=1.0"), Shape { pretty: true, gzip: true });
        assert_eq!(asked("curl/8.0", "pretty=false", ""), Shape::default());
        assert_eq!(asked("curl/8.0", "watch=true", "gzip"), Shape::default());
    }

    #[tokio::test]
    async fn only_long_answers_are_compressed() {
        let shape = Shape { pretty: false, gzip: true };
        for (length, compressed) in [(1000, false), (200_000, true)] {
            let document = Value::String("x".repeat(length));
            let answer = shape.apply(response::json(StatusCode::OK, &document)).await;
            assert_eq!(answer.headers().contains_key(CONTENT_ENCODING), compressed);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let mut plain = String::new();
            match compressed {
                true => GzDecoder::new(&body[..]).read_to_string(&mut plain).map(drop).unwrap(),
                false => plain.push_str(std::str::from_utf8(&body).unwrap()),
            }
            assert_eq!(plain, document.to_string() + "\n");
        }
    }

    #[tokio::test]
    async fn what_is_kept_compressed_goes_out_as_it_is_asked_for() {
        let kept = || compressed(response::bytes(StatusCode::OK, JSON, gzip(b"{}\n")));
        for (shape, encoded) in [(Shape { pretty: false, gzip: true }, true), (Shape::default(), false)] {
            let answer = shape.apply(kept()).await;
            assert_eq!(answer.headers().contains_key(CONTENT_ENCODING), encoded);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body == "{}\n", !encoded);
        }
    }
}
