//! Which protocol a client wants a stream in, and the switch to it.

use std::fmt;

use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::{Body, Refused, Tasks, refuse};

/// RFC 6455's constant, hashed with the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What SPDY is called in an upgrade.
const SPDY: &str = "SPDY/3.1";
/// What is spoken over SPDY: several fields, or several words in one.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What would have been understood.
const ACCEPTED_PROTOCOLS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What a path speaks, the better first.
pub struct Offer {
    pub(crate) websocket: &'static [&'static str],
    /// The last is for clients that name none.
    pub(crate) spdy: &'static [&'static str],
}

/// How the streams travel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Carrier {
    WebSocket,
    Spdy,
}

/// A switch that both sides can make.
pub struct Upgrade {
    pub(crate) carrier: Carrier,
    pub(crate) protocol: &'static str,
    headers: HeaderMap,
    upgrading: OnUpgrade,
}

impl Upgrade {
    /// Agrees on a protocol; otherwise what to answer instead.
    pub fn agree(mut request: Request<()>, offer: &Offer) -> Result<Self, Refused> {
        let asked = request.headers().get(header::UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
        let refused = |why: &str| Err(refuse(StatusCode::BAD_REQUEST, why));
        let (carrier, protocol, headers) = if asked.eq_ignore_ascii_case(b"websocket") {
            let (protocol, headers) = websocket(request.headers(), offer.websocket)?;
            (Carrier::WebSocket, protocol, headers)
        } else if asked.eq_ignore_ascii_case(SPDY.as_bytes()) {
            let (protocol, headers) = spdy(request.headers(), offer.spdy)?;
            (Carrier::Spdy, protocol, headers)
        } else {
            return refused("this path is a stream: Upgrade: websocket or SPDY/3.1 is required");
        };
        match request.extensions_mut().remove::<OnUpgrade>() {
            Some(upgrading) => Ok(Self { carrier, protocol, headers, upgrading }),
            None => refused("the connection cannot be upgraded"),
        }
    }

    /// Switches, and does `work` on what the connection becomes.
    pub(crate) fn switch<F>(
        self,
        tasks: &Tasks,
        work: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    ) -> Response<Body>
    where
        F: Future<Output = ()> + Send,
    {
        let (token, upgrading) = (tasks.token.clone(), self.upgrading);
        tasks.tracker.spawn(async move {
            let serving = async {
                if let Ok(upgraded) = upgrading.await {
                    work(TokioIo::new(upgraded)).await;
                }
            };
            let _ended = token.run_until_cancelled(serving).await;
        });
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = self.headers;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        response
    }
}

fn websocket(asked: &HeaderMap, known: &[&'static str]) -> Result<(&'static str, HeaderMap), Refused> {
    let Some(key) = asked.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok()) else {
        return Err(refuse(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is required"));
    };
    let offered = words(asked, &header::SEC_WEBSOCKET_PROTOCOL);
    let agreed = known.iter().copied().find(|known| offered.contains(known));
    let unnamed = known.last().copied().filter(|_| offered.is_empty());
    let Some(protocol) = agreed.or(unnamed) else {
        let why = format!("no subprotocol in common: one of {} is required", known.join(", "));
        return Err(refuse(StatusCode::BAD_REQUEST, why));
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if agreed.is_some() {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    if let Ok(accept) = HeaderValue::from_str(&accept_key(key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok((protocol, headers))
}

fn spdy(asked: &HeaderMap, known: &[&'static str]) -> Result<(&'static str, HeaderMap), Refused> {
    let offered = words(asked, &STREAM_PROTOCOL);
    let mut headers = HeaderMap::new();
    headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
    if offered.is_empty() {
        return Ok((known.last().copied().unwrap_or_default(), headers));
    }
    match known.iter().copied().find(|known| offered.contains(known)) {
        Some(protocol) => {
            headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
            Ok((protocol, headers))
        }
        None => {
            let why = format!("unable to upgrade: unable to negotiate protocol: client supports {}", List(&offered));
            let mut response = refuse(StatusCode::FORBIDDEN, why);
            for protocol in known {
                response.headers_mut().append(ACCEPTED_PROTOCOLS, HeaderValue::from_static(protocol));
            }
            Err(response)
        }
    }
}

/// Words in brackets, as Go prints them.
struct List<'a>(&'a [&'a str]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0.join(" "))
    }
}

/// The words of all the fields of one name.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let fields = headers.get_all(name).iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).map(str::trim).filter(|word| !word.is_empty()).collect()
}

fn accept_key(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}
