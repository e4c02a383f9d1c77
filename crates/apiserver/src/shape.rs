//! How a whole answer is written: indented for people, compressed for the wire.

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT, VARY};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::limits;
use crate::negotiate::JSON;
use crate::request::{RequestInfo, query_value, truthy};
use crate::response::{self, Body, BoxError, Lengthy, Response};

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
        if response.extensions().get::<Lengthy>().is_some() {
            return self.apply_to_pieces(response);
        }
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
        let plain = if pretty { indented(&plain).into() } else { plain };
        let body = match gzip {
            true => {
                tell_gzip(&mut parts.headers);
                compress(plain).await
            }
            false => plain,
        };
        Response::from_parts(parts, response::full(body))
    }
}

impl Shape {
    /// The same for an answer that is made while it is sent.
    fn apply_to_pieces(self, response: Response) -> Response {
        let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == JSON);
        if !(self.gzip || self.pretty && json) {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let shaper = Shaper {
            body,
            indent: (self.pretty && json).then(Indent::default),
            encoder: self.gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
        };
        if self.gzip {
            tell_gzip(&mut parts.headers);
        }
        let pieces = stream::try_unfold(shaper, |mut shaper| async move {
            let piece = shaper.next().await?;
            Ok(piece.map(|piece| (piece, shaper)))
        });
        Response::from_parts(parts, response::try_stream(pieces))
    }
}

fn tell_gzip(headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// A body that gets its form piece by piece.
struct Shaper {
    body: Body,
    indent: Option<Indent>,
    /// Gone when its last piece is.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Shaper {
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        while let Some(frame) = self.body.frame().await {
            let Ok(mut piece) = frame?.into_data() else { continue };
            if let Some(indent) = &mut self.indent {
                let mut indented = Vec::with_capacity(piece.len() * 2);
                indent.write(&piece, &mut indented);
                piece = indented.into();
            }
            let Some(encoder) = &mut self.encoder else { return Ok(Some(piece)) };
            encoder.write_all(&piece)?;
            let made = std::mem::take(encoder.get_mut());
            // Others are served while this is at work.
            tokio::task::yield_now().await;
            if !made.is_empty() {
                return Ok(Some(made.into()));
            }
        }
        Ok(self.encoder.take().map(GzEncoder::finish).transpose()?.map(Bytes::from))
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
fn indented(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plain.len() * 2);
    Indent::default().write(plain, &mut out);
    out
}

/// Where in a document an indenter is.
#[derive(Default)]
struct Indent {
    depth: usize,
    quoted: bool,
    escaped: bool,
    /// A bracket was opened, and nothing stands behind it yet.
    empty: bool,
}

impl Indent {
    fn write(&mut self, plain: &[u8], out: &mut Vec<u8>) {
        for &byte in plain {
            if self.quoted {
                self.quoted = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                out.push(byte);
                continue;
            }
            match byte {
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.empty) {
                        self.line(out);
                    }
                    out.push(byte);
                    continue;
                }
                byte if byte.is_ascii_whitespace() => continue,
                _ => {}
            }
            if std::mem::take(&mut self.empty) {
                self.line(out);
            }
            out.push(byte);
            match byte {
                b'{' | b'[' => {
                    self.depth += 1;
                    self.empty = true;
                }
                b',' => self.line(out),
                b':' => out.push(b' '),
                b'"' => self.quoted = true,
                _ => {}
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn json_is_indented_as_go_indents_it() {
        let document = json!({"a": {}, "b": [], "c": [1, {"d": "x, {\"y\": [\\]}"}], "e": null, "f": [[]]});
        let (plain, expected) = (document.to_string() + "\n", serde_json::to_string_pretty(&document).unwrap());
        assert_eq!(String::from_utf8(indented(plain.as_bytes())).unwrap(), expected);
        let (mut indent, mut pieces) = (Indent::default(), Vec::new());
        plain.as_bytes().chunks(3).for_each(|piece| indent.write(piece, &mut pieces));
        assert_eq!(String::from_utf8(pieces).unwrap(), expected);
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
    async fn what_is_made_while_it_is_sent_gets_its_form_in_pieces() {
        let document = json!({"items": (0..5000).map(|it| json!({"name": it.to_string()})).collect::<Vec<_>>()});
        let text = document.to_string() + "\n";
        for (shape, pretty) in
            [(Shape { pretty: true, gzip: true }, true), (Shape { pretty: false, gzip: true }, false)]
        {
            let pieces: Vec<_> = text.as_bytes().chunks(1000).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
            let answer = response::lengthy(JSON, Some(text.len() as u64), Lengthy::default(), stream::iter(pieces));
            let answer = shape.apply(answer).await;
            assert_eq!(answer.headers()[CONTENT_ENCODING], "gzip");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let mut plain = String::new();
            GzDecoder::new(&body[..]).read_to_string(&mut plain).unwrap();
            assert_eq!(plain, if pretty { serde_json::to_string_pretty(&document).unwrap() } else { text.clone() });
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
