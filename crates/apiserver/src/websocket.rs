//! Logs and watches as the messages of a websocket, for those who can read no endless body: browsers, and the
//! conformance suite (upstream: `k8s.io/streaming/pkg/httpstream/wsstream`).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::negotiate::JSON;
use crate::request::RequestInfo;
use crate::response::{self, Body, Response};
use crate::server::ApiServer;

/// RFC 6455's constant, hashed with the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";
/// Before a bearer token in base64url: browsers can set no other header of a websocket.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// A client has nothing to say here.
const MOST_HEARD: usize = 4096;
/// How long a client gets to hang up after the last message.
const LINGER: Duration = Duration::from_secs(10);

/// A websocket that is to carry the answer's body.
pub(crate) struct Carrier {
    upgrading: OnUpgrade,
    accept: String,
    /// What was agreed on, if anything was offered.
    protocol: Option<&'static str>,
}

/// How pieces of a body become messages.
#[derive(Clone, Copy)]
enum Framing {
    Text,
    Binary,
    Base64,
}

impl Carrier {
    /// Takes the wish for a websocket out of a request for a log or a watch.
    pub(crate) fn take<B>(request: &mut Request<B>, info: &RequestInfo) -> Option<Self> {
        let log = info.resource.as_ref().is_some_and(|target| target.subresource == "log");
        let asked = request.headers().get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
        if !asked || !(log || info.verb == "watch") {
            return None;
        }
        let key = request.headers().get(SEC_WEBSOCKET_KEY)?.to_str().ok()?;
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
        let protocol = offered(request.headers()).find_map(|word| match word {
            BINARY => Some(BINARY),
            BASE64 => Some(BASE64),
            _ => None,
        });
        let upgrading = request.extensions_mut().remove::<OnUpgrade>()?;
        for name in [UPGRADE, CONNECTION] {
            request.headers_mut().remove(name);
        }
        Some(Self { upgrading, accept: STANDARD.encode(digest), protocol })
    }

    /// Sends the body of a good answer as messages; a refusal is told as it is.
    pub(crate) fn carry(self, server: &ApiServer, response: Response) -> Response {
        if response.status() != StatusCode::OK {
            return response;
        }
        let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == JSON);
        let framing = match self.protocol {
            Some(BASE64) => Framing::Base64,
            _ if json => Framing::Text,
            _ => Framing::Binary,
        };
        let body = response.into_body();
        server.streams.spawn(server.stop.clone().run_until_cancelled_owned(async move {
            if let Ok(upgraded) = self.upgrading.await {
                send(upgraded, body, framing).await;
            }
        }));
        let mut answer = http::Response::new(response::full(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = answer.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        if let Some(protocol) = self.protocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        answer
    }
}

/// The subprotocols that a client offers.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim)
}

/// The bearer token among the subprotocols, if there is one and it is not the only one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<String> {
    let encoded = offered(headers).find_map(|word| word.strip_prefix(BEARER))?;
    let others = offered(headers).any(|word| !word.starts_with(BEARER));
    let token = URL_SAFE_NO_PAD.decode(encoded).ok().filter(|_| others)?;
    String::from_utf8(token).ok().filter(|token| !token.is_empty())
}

/// Takes the bearer token out of the subprotocols: it is for this server alone.
pub(crate) fn without_bearer(headers: &mut HeaderMap) {
    let others: Vec<&str> = offered(headers).filter(|word| !word.starts_with(BEARER)).collect();
    match HeaderValue::from_str(&others.join(", ")) {
        Ok(others) if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) && !others.is_empty() => {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
        }
        _ => {
            headers.remove(SEC_WEBSOCKET_PROTOCOL);
        }
    }
}

async fn send(upgraded: Upgraded, mut body: Body, framing: Framing) {
    let mut limits = WebSocketConfig::default();
    limits.max_message_size = Some(MOST_HEARD);
    limits.max_frame_size = Some(MOST_HEARD);
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
    let (mut sink, mut heard) = socket.split();
    let sending = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else { continue };
            if sink.send(message(data, framing)).await.is_err() {
                return;
            }
        }
        let done = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        let _gone = sink.send(Message::Close(Some(done))).await;
    };
    let mut hearing = std::pin::pin!(async { while let Some(Ok(_)) = heard.next().await {} });
    tokio::select! {
        () = sending => {}
        () = &mut hearing => return,
    }
    let _late = timeout(LINGER, hearing).await;
}

fn message(data: Bytes, framing: Framing) -> Message {
    match framing {
        Framing::Binary => Message::Binary(data),
        Framing::Base64 => Message::text(STANDARD.encode(&data)),
        Framing::Text => match Utf8Bytes::try_from(data.clone()) {
            Ok(text) => Message::Text(text),
            // JSON is UTF-8; a piece that is not is cut inside a letter.
            Err(_) => Message::Binary(data),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_among_the_subprotocols_is_for_this_server_alone() {
        let fields = |text: &str| HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, text.parse().unwrap())]);
        let mut headers = fields("base64url.bearer.authorization.k8s.io.c2VjcmV0, v4.channel.k8s.io");
        assert_eq!(bearer(&headers).as_deref(), Some("secret"));
        without_bearer(&mut headers);
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "v4.channel.k8s.io");
        assert_eq!(bearer(&headers), None);
        let mut alone = fields("base64url.bearer.authorization.k8s.io.c2VjcmV0");
        assert_eq!(bearer(&alone), None);
        without_bearer(&mut alone);
        assert!(!alone.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }
}
