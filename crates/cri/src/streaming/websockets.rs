//! Websockets joined to processes and ports, and one that carries SPDY.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use api::cri::streams::{Connection, Input, Output, Session, TerminalSize};
use bytes::Bytes;
use futures::future::ready;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

use super::channels::{self, Received};
use super::{Ports, Streams, spdy};

/// No client of ours sends more in one message.
const MOST_BYTES: usize = 1 << 20;
/// Messages that wait to be written: a slow client stops its process, not the node.
const QUEUE: usize = 16;
/// How long a client gets to hang up after the last word; closing before it has read everything could lose the end.
const LINGER: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<TokioIo<Upgraded>>;
type Reading = SplitStream<Socket>;

async fn open(transport: TokioIo<Upgraded>) -> Socket {
    let mut limits = WebSocketConfig::default();
    limits.max_message_size = Some(MOST_BYTES);
    limits.max_frame_size = Some(MOST_BYTES);
    WebSocketStream::from_raw_socket(transport, Role::Server, Some(limits)).await
}

/// Joins the SPDY connection that the messages carry to ports of a pod (KEP-4006).
pub(crate) async fn serve_tunnel(transport: TokioIo<Upgraded>, forwarded: Arc<dyn Ports>) {
    let (sink, stream) = open(transport).await.split();
    let said = stream.filter_map(|message| async {
        match message {
            Ok(Message::Binary(data)) => Some(Ok(data)),
            Ok(_) => None,
            Err(error) => Some(Err(io::Error::other(error))),
        }
    });
    let sink = sink.sink_map_err(io::Error::other).with(|data| ready(Ok::<_, io::Error>(Message::Binary(data))));
    let writing = SinkWriter::new(CopyToBytes::new(sink));
    spdy::serve_ports(StreamReader::new(Box::pin(said)), Box::pin(writing), &*forwarded).await;
}

/// Copies until the process has ended and all its output is sent, or the client is gone; then the session is dropped,
/// which ends what it was for.
pub(crate) async fn serve_command(
    transport: TokioIo<Upgraded>,
    session: Session,
    streams: Streams,
    protocol: &'static str,
) {
    let v5 = protocol == channels::PROTOCOLS[0];
    let (sink, mut reading) = open(transport).await.split();
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
        let outcome = channels::told(&channels::outcome(&exit.await), protocol);
        if !outcome.is_empty() {
            let _gone = sender.send(channels::write(channels::ERROR, &outcome)).await;
        }
        drop(sender);
    };
    let input = read_session(&mut reading, stdin, resize);
    let writing = write_all(sink, receiver);
    tokio::select! {
        // The output side ends by itself, with everything written.
        ((), ()) = futures::future::join(output, writing) => {}
        () = input => return,
    }
    hang_up(reading).await;
}

/// Waits for the client to close what was closed here.
async fn hang_up(mut reading: Reading) {
    let _late = timeout(LINGER, async { while let Some(Ok(_)) = reading.next().await {} }).await;
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
    reading: &mut Reading,
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
            Received::Resize(size) => {
                let _behind = resize.try_send(size);
            }
            Received::Nothing => {}
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
pub(crate) async fn serve_ports(transport: TokioIo<Upgraded>, forwarded: Arc<dyn Ports>, ports: Vec<u16>) {
    let (sink, mut reading) = open(transport).await.split();
    let (sender, receiver) = mpsc::channel(QUEUE.max(2 * ports.len()));
    let mut inputs: Vec<Option<Input>> = Vec::new();
    let mut outputs = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let data = u8::try_from(2 * index).unwrap_or(u8::MAX);
        for channel in [data, data + 1] {
            let _full = sender.try_send(channels::write(channel, &port.to_le_bytes()));
        }
        match forwarded.connect(*port).await {
            Ok(Connection { input, output }) => {
                inputs.push(Some(input));
                let sender = sender.clone();
                outputs.push(async move { copy_out(Some(output), data, &sender).await });
            }
            Err(why) => {
                inputs.push(None);
                let _gone = sender.send(channels::write(data + 1, why.as_bytes())).await;
            }
        }
    }
    drop(sender);
    let hearing = async {
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
    // The queue ends when all connections have ended, with everything written.
    let saying = futures::future::join(futures::future::join_all(outputs), write_all(sink, receiver));
    tokio::select! {
        _ = saying => {}
        () = hearing => return,
    }
    hang_up(reading).await;
}
