//! Websockets joined to processes and ports.

use api::cri::streams::{Connection, Input, Output, Session, TerminalSize};
use base64::Engine as _;
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::channels::{self, Received};
use super::{Body, Shared, text};
use crate::handle::{Handle, PodName, Streams};

/// RFC 6455's constant, hashed with the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// No client of ours sends more in one message.
const MOST_BYTES: usize = 1 << 20;
/// Messages that wait to be written: a slow client stops its process, not the node.
const QUEUE: usize = 16;
/// Ports in one connection.
const MOST_PORTS: usize = 64;

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Reading = SplitStream<Socket>;

/// Switches to a websocket and joins it to a process.
pub(super) fn session(shared: &Shared, request: Request<()>, session: Session, streams: Streams) -> Response<Body> {
    upgrade(shared, request, move |socket, v5| run_session(socket, session, streams, v5))
}

/// Switches to a websocket and joins it to ports of a pod: two channels a port, for data and for errors.
pub(super) fn ports(shared: &Shared, request: Request<()>, pod: PodName, ports: Vec<u16>) -> Response<Body> {
    if ports.len() > MOST_PORTS {
        return text(StatusCode::BAD_REQUEST, format!("at most {MOST_PORTS} ports in one connection"));
    }
    let handle = shared.handle.clone();
    upgrade(shared, request, move |socket, _| run_ports(socket, handle, pod, ports))
}

fn upgrade<F>(
    shared: &Shared,
    mut request: Request<()>,
    work: impl FnOnce(Socket, bool) -> F + Send + 'static,
) -> Response<Body>
where
    F: Future<Output = ()> + Send,
{
    let field = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let asked = field(header::UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    let Some(key) = field(header::SEC_WEBSOCKET_KEY).filter(|_| asked) else {
        return text(StatusCode::BAD_REQUEST, "this path is a websocket: Upgrade: websocket is required");
    };
    let offered: Vec<&str> =
        field(header::SEC_WEBSOCKET_PROTOCOL).into_iter().flat_map(|list| list.split(',')).map(str::trim).collect();
    let Some(protocol) = channels::PROTOCOLS.into_iter().find(|known| offered.contains(known)) else {
        let known = channels::PROTOCOLS.join(", ");
        return text(StatusCode::BAD_REQUEST, format!("no subprotocol in common: one of {known} is required"));
    };
    let accept = accept_key(key);
    let Some(upgrading) = request.extensions_mut().remove::<OnUpgrade>() else {
        return text(StatusCode::BAD_REQUEST, "the connection cannot be upgraded");
    };
    let token = shared.token.clone();
    shared.tasks.spawn(async move {
        let serving = async {
            let Ok(upgraded) = upgrading.await else { return };
            let mut limits = WebSocketConfig::default();
            limits.max_message_size = Some(MOST_BYTES);
            limits.max_frame_size = Some(MOST_BYTES);
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
            work(socket, protocol == channels::PROTOCOLS[0]).await;
        };
        let _ended = token.run_until_cancelled(serving).await;
    });
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

fn accept_key(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

/// Copies until the process has ended and all its output is sent, or the client is gone; then the session is dropped,
/// which ends what it was for.
async fn run_session(socket: Socket, session: Session, streams: Streams, v5: bool) {
    let (sink, reading) = socket.split();
    let (sender, receiver) = mpsc::channel(QUEUE);
    let Session { stdin, stdout, stderr, resize, exit } = session;
    // Version 4 clients wait for these, to know that the channels are there.
    for channel in [channels::STDOUT, channels::STDERR, channels::ERROR] {
        if !v5 && (channel != channels::STDERR || (streams.stderr && !streams.tty)) {
            let _full = sender.try_send(channels::write(channel, b""));
        }
    }
    let output = async {
        let copy = futures::future::join(
            copy_out(stdout, channels::STDOUT, &sender),
            copy_out(stderr, channels::STDERR, &sender),
        );
        copy.await;
        let outcome = channels::outcome(&exit.await).to_string();
        let _gone = sender.send(channels::write(channels::ERROR, outcome.as_bytes())).await;
        drop(sender);
    };
    let input = read_session(reading, stdin, resize);
    let writing = write_all(sink, receiver);
    tokio::select! {
        // The output side ends by itself, with everything written.
        ((), ()) = futures::future::join(output, writing) => {}
        () = input => {}
    }
}

async fn copy_out(output: Option<Output>, channel: u8, sender: &mpsc::Sender<Bytes>) {
    let Some(mut output) = output else { return };
    while let Some(Ok(part)) = output.next().await {
        if sender.send(channels::write(channel, &part)).await.is_err() {
            return;
        }
    }
}

/// Takes in what the client sends; returns when it is gone.
async fn read_session(
    mut reading: Reading,
    mut stdin: Option<Input>,
    mut resize: futures::channel::mpsc::Sender<TerminalSize>,
) {
    while let Some(Ok(message)) = reading.next().await {
        let data = match message {
            Message::Binary(data) => data,
            Message::Close(_) => return,
            _ => continue,
        };
        match channels::read(data) {
            Received::Stdin(data) => {
                if let Some(input) = &mut stdin
                    && input.send(data).await.is_err()
                {
                    // The process reads no more; its output goes on.
                    stdin = None;
                }
            }
            Received::StdinClosed => {
                if let Some(mut input) = stdin.take() {
                    let _gone = input.close().await;
                }
            }
            Received::Resize { columns, rows } if columns > 0 && rows > 0 => {
                let _behind = resize.try_send(TerminalSize { columns, rows });
            }
            Received::Resize { .. } | Received::Nothing => {}
            Received::Unknown(channel) => {
                tracing::debug!(channel, "client wrote to a channel that is not its own");
                return;
            }
        }
    }
}

async fn write_all(mut sink: SplitSink<Socket, Message>, mut receiver: mpsc::Receiver<Bytes>) {
    while let Some(message) = receiver.recv().await {
        if sink.send(Message::Binary(message)).await.is_err() {
            return;
        }
    }
    // Clients take an end without a code for a broken connection.
    let done = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    let _gone = sink.send(Message::Close(Some(done))).await;
    let _gone = sink.close().await;
}

/// Joins each port's channels to a connection inside the pod. Each channel begins with the port's number.
async fn run_ports(socket: Socket, handle: Handle, pod: PodName, ports: Vec<u16>) {
    let (sink, mut reading) = socket.split();
    let (sender, receiver) = mpsc::channel(QUEUE.max(2 * ports.len()));
    let mut inputs: Vec<Option<Input>> = Vec::new();
    let mut outputs = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let data = u8::try_from(2 * index).unwrap_or(u8::MAX);
        for channel in [data, data + 1] {
            let _full = sender.try_send(channels::write(channel, &port.to_le_bytes()));
        }
        match handle.port_forward(&pod, *port).await {
            Ok(Connection { input, output }) => {
                inputs.push(Some(input));
                outputs.push(copy_out(Some(output), data, &sender));
            }
            Err(error) => {
                inputs.push(None);
                let why = format!("error forwarding port {port} to pod {}: {error}", pod.name);
                let _gone = sender.send(channels::write(data + 1, why.as_bytes())).await;
            }
        }
    }
    let reading = async {
        while let Some(Ok(message)) = reading.next().await {
            let mut message = match message {
                Message::Binary(message) if !message.is_empty() => message,
                Message::Close(_) => return,
                _ => continue,
            };
            let data = message.split_off(1);
            // Data channels are even; nobody writes errors to us.
            let input = inputs.get_mut(usize::from(message[0] / 2)).filter(|_| message[0] % 2 == 0);
            if let Some(slot) = input
                && let Some(input) = slot
                && input.send(data).await.is_err()
            {
                *slot = None;
            }
        }
    };
    let copying = futures::future::join_all(outputs);
    let writing = write_all(sink, receiver);
    tokio::select! {
        _ = copying => {}
        () = writing => {}
        () = reading => {}
    }
}
