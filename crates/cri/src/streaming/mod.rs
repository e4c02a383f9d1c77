//! Processes and ports over HTTP: what the kubelet's own API serves, and what a runtime serves at the URLs that it
//! hands out, are the same (upstream: `k8s.io/cri-streaming`).
//!
//! ```text
//! upgrade      agreeing on a protocol, and the switch to it
//! channels     what the protocols say; pure
//! websockets   one message a piece, its first byte names the stream
//! spdy/        a stream of its own for each
//! urls         single-use addresses of streams, and the listener behind them
//! dial         the client's end
//! ```

pub mod channels;
pub mod dial;
pub mod spdy;
mod upgrade;
mod urls;
mod websockets;

use std::io;
use std::sync::Arc;

use api::cri::streams::{Connection, Session};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use upgrade::Upgrade;
pub use urls::{Asked, Urls, serve as serve_url};

use upgrade::{Carrier, Offer};

pub type Body = UnsyncBoxBody<Bytes, io::Error>;
/// The answer to a request that is not served.
pub type Refused = Box<Response<Body>>;

/// What exec and attach speak.
pub const COMMANDS: Offer = Offer { websocket: &channels::PROTOCOLS, spdy: &channels::SPDY_PROTOCOLS };
/// What port-forward speaks: SPDY, in a websocket or bare, and before that numbered channels.
pub const PORTS: Offer = Offer { websocket: &[TUNNEL, "v4.channel.k8s.io"], spdy: &[PORT_FORWARD] };
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD: &str = "portforward.k8s.io";
/// Ports in one websocket with numbered channels.
const MOST_PORTS: usize = 64;

/// Which streams of a process are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// What ports are forwarded to.
pub trait Ports: Send + Sync + 'static {
    /// One connection to a port; else the words that the client gets.
    fn connect(&self, port: u16) -> BoxFuture<'_, Result<Connection, String>>;
}

/// Where what was switched to is served, and until when.
#[derive(Clone, Default)]
pub struct Tasks {
    pub tracker: TaskTracker,
    pub token: CancellationToken,
}

/// A process that has ended, or never was.
pub fn ended(exit: api::cri::Result<i32>) -> Session {
    let (resize, _) = futures::channel::mpsc::channel(1);
    Session { stdin: None, stdout: None, stderr: None, resize, exit: ready(exit).boxed() }
}

/// Joins a process to the client that agreed to one of [`COMMANDS`].
pub fn command(tasks: &Tasks, upgrade: Upgrade, session: Session, streams: Streams) -> Response<Body> {
    let protocol = upgrade.protocol;
    match upgrade.carrier {
        Carrier::WebSocket => {
            upgrade.switch(tasks, move |socket| websockets::serve_command(socket, session, streams, protocol))
        }
        Carrier::Spdy => upgrade.switch(tasks, move |socket| spdy::serve_command(socket, session, streams, protocol)),
    }
}

/// Joins ports to the client that agreed to one of [`PORTS`]; `listed` are those that the request names, for numbered
/// channels.
pub fn forward(
    tasks: &Tasks,
    upgrade: Upgrade,
    ports: Arc<dyn Ports>,
    listed: impl FnOnce() -> Result<Vec<u16>, Refused>,
) -> Result<Response<Body>, Refused> {
    Ok(match (upgrade.carrier, upgrade.protocol) {
        (Carrier::Spdy, _) => upgrade.switch(tasks, |socket| async move {
            let (reading, writing) = tokio::io::split(socket);
            spdy::serve_ports(reading, writing, &*ports).await;
        }),
        (Carrier::WebSocket, TUNNEL) => upgrade.switch(tasks, |socket| websockets::serve_tunnel(socket, ports)),
        (Carrier::WebSocket, _) => {
            let listed = listed()?;
            if listed.len() > MOST_PORTS {
                return Err(refuse(StatusCode::BAD_REQUEST, format!("at most {MOST_PORTS} ports in one connection")));
            }
            upgrade.switch(tasks, |socket| websockets::serve_ports(socket, ports, listed))
        }
    })
}

pub fn text(code: StatusCode, text: impl Into<String>) -> Response<Body> {
    reply(code, "text/plain; charset=utf-8", text.into())
}

pub fn refuse(code: StatusCode, why: impl Into<String>) -> Refused {
    Box::new(text(code, why))
}

pub fn reply(code: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
