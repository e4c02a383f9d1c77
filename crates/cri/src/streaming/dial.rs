//! The client's end of a runtime's URLs, as streams. SPDY, since every runtime speaks it.

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::cri::streams::{Connection, Input, Output, Session, TerminalSize};
use api::cri::{Code, Error, Result};
use bytes::Bytes;
use futures::channel::mpsc as channel;
use futures::{FutureExt as _, Sink, StreamExt as _, stream};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::PollSender;
use tokio_util::task::TaskTracker;

use super::spdy::{self, Frame, Headers, Reader, Stream};
use super::{PORT_FORWARD, Streams, channels};

/// Until a runtime on the same node has switched.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a refusal, which is told.
const MOST_WORDS: usize = 4096;
/// What a server says of an end.
const MOST_OUTCOME: usize = 64 * 1024;
/// Sizes that wait to be told.
const SIZES: usize = 4;

/// The process behind a URL of exec or attach.
pub async fn command(url: &str, streams: Streams, tasks: &TaskTracker) -> Result<Session> {
    let protocol = channels::V4;
    let socket = open(url, protocol, tasks).await?;
    let wanted = [
        ("error", true),
        ("stdin", streams.stdin),
        ("stdout", streams.stdout),
        ("stderr", streams.stderr && !streams.tty),
        ("resize", streams.tty),
    ];
    let wanted = wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| kind);
    let asked: Vec<Headers> = wanted.map(|kind| vec![("streamtype".to_owned(), kind.to_owned())]).collect();
    let (reading, writing) = tokio::io::split(socket);
    let (opened, driving) = spdy::dial(reading, writing, asked);
    tasks.spawn(driving);

    let (resize, sizes) = channel::channel(SIZES);
    let mut sizes = Some(sizes);
    let mut session = Session { stdin: None, stdout: None, stderr: None, resize, exit: pending().boxed() };
    for stream in opened {
        match stream.header("streamtype").unwrap_or_default() {
            "stdin" => session.stdin = Some(input(stream)),
            "stdout" => session.stdout = Some(output(stream)),
            "stderr" => session.stderr = Some(output(stream)),
            "error" => session.exit = exit(stream).boxed(),
            _ => {
                if let Some(sizes) = sizes.take() {
                    tasks.spawn(tell_sizes(sizes, stream));
                }
            }
        }
    }
    Ok(session)
}

/// One connection to a port behind a URL of port-forward.
pub async fn port(url: &str, port: u16, tasks: &TaskTracker) -> Result<Connection> {
    let socket = open(url, PORT_FORWARD, tasks).await?;
    let headers = |kind: &str| {
        [("streamtype", kind), ("port", &port.to_string()), ("requestid", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    let (reading, writing) = tokio::io::split(socket);
    let (opened, driving) = spdy::dial(reading, writing, vec![headers("error"), headers("data")]);
    tasks.spawn(driving);
    let mut opened = opened.into_iter();
    let (Some(errors), Some(data)) = (opened.next(), opened.next()) else { return Err(gone()) };
    let Stream { reader, writer, .. } = data;
    // Nothing is said on the stream of errors, and what comes of it follows the data.
    errors.writer.finish().await;
    let failed = stream::once(words(errors.reader)).filter_map(|words| async move {
        let words = words.ok().filter(|words| !words.is_empty())?;
        Some(Err(Error::internal(String::from_utf8_lossy(&words))))
    });
    let said = Said::new(&writer);
    Ok(Connection { input: Box::pin(said), output: heard(reader).chain(failed).boxed() })
}

/// Switches to SPDY at a URL.
async fn open(url: &str, protocol: &'static str, tasks: &TaskTracker) -> Result<TokioIo<Upgraded>> {
    let (address, path) = place(url)?;
    let failed = |what: &str, why: &dyn std::fmt::Display| {
        Error::new(Code::Unavailable, format!("the runtime's stream at {address} {what}: {why}"))
    };
    let opening = async {
        let stream = TcpStream::connect(address).await.map_err(|why| failed("cannot be reached", &why))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|why| failed("does not answer", &why))?;
        let connection = connection.with_upgrades();
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
        let request = Request::post(path)
            .header(header::HOST, address.to_string())
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "SPDY/3.1")
            .header("x-stream-protocol-version", protocol)
            .body(Empty::<Bytes>::new())
            .map_err(|why| failed("cannot be asked for", &why))?;
        let response = sender.send_request(request).await.map_err(|why| failed("does not answer", &why))?;
        let code = response.status();
        if code != StatusCode::SWITCHING_PROTOCOLS {
            let words = Limited::new(response.into_body(), MOST_WORDS).collect().await;
            let words = words.map(|it| it.to_bytes()).unwrap_or_default();
            return Err(failed("was refused", &format!("{code}: {}", String::from_utf8_lossy(&words).trim())));
        }
        hyper::upgrade::on(response).await.map(TokioIo::new).map_err(|why| failed("did not switch", &why))
    };
    let opened = timeout(PATIENCE, opening).await;
    opened.unwrap_or_else(|_| Err(Error::new(Code::DeadlineExceeded, format!("no stream at {address} in time"))))
}

/// Where a URL leads, which is on this node.
fn place(url: &str) -> Result<(SocketAddr, Uri)> {
    let refused = |why: &str| Error::new(Code::Unimplemented, format!("the runtime's stream {url:?} {why}"));
    let uri: Uri = url.parse().map_err(|_| refused("is no URL"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(refused("needs TLS, which is not spoken to runtimes: let it serve plain streams")),
        _ => return Err(refused("is no URL of HTTP")),
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let ip: IpAddr = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse().map_err(|_| refused("names a host: let the runtime listen at an address"))?,
    };
    // What listens everywhere listens here.
    let ip = if ip.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { ip };
    Ok((SocketAddr::new(ip, uri.port_u16().unwrap_or(80)), uri))
}

fn gone() -> Error {
    Error::new(Code::Unavailable, "the runtime's stream broke off")
}

/// What a process says. Servers in Go end their streams by hanging up: whether all was heard, the outcome tells.
fn output(stream: Stream) -> Output {
    let Stream { reader, writer, .. } = stream;
    // The connection is open as long as somebody may write, and this is read.
    stream::unfold((reader, writer), |(mut reader, writer)| async move {
        let data = reader.next().await.ok().flatten()?;
        Some((Ok(data), (reader, writer)))
    })
    .boxed()
}

fn heard(reader: Reader) -> Output {
    stream::unfold(Some(reader), |reader| async move {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(data)) => Some((Ok(data), Some(reader))),
            Ok(None) => None,
            Err(_) => Some((Err(gone()), None)),
        }
    })
    .boxed()
}

/// All that is said on a stream which says little, until it ends or the server hangs up.
async fn words(mut reader: Reader) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(data)) => said.extend_from_slice(&data),
            Ok(None) => return Ok(said),
            Err(_) if said.is_empty() => return Err(gone()),
            Err(_) => return Ok(said),
        }
        if said.len() > MOST_OUTCOME {
            return Err(Error::internal("the runtime says more than there is to say"));
        }
    }
}

async fn exit(stream: Stream) -> Result<i32> {
    let Stream { reader, writer, .. } = stream;
    let said = words(reader).await;
    drop(writer);
    channels::exit_code(&said?)
}

async fn tell_sizes(mut sizes: channel::Receiver<TerminalSize>, stream: Stream) {
    while let Some(TerminalSize { columns, rows }) = sizes.next().await {
        let size = json!({"Width": columns, "Height": rows}).to_string();
        if stream.writer.send(size.into()).await.is_err() {
            return;
        }
    }
}

fn input(stream: Stream) -> Input {
    Box::pin(Said::new(&stream.writer))
}

/// What is said on a stream; closing it says that this was everything, dropping it says nothing.
struct Said {
    stream: u32,
    frames: PollSender<Frame>,
    closed: bool,
}

impl Said {
    fn new(writer: &spdy::Writer) -> Self {
        let (stream, frames) = writer.parts();
        Self { stream, frames: PollSender::new(frames), closed: false }
    }

    fn send(&mut self, data: Bytes, fin: bool) -> Result<()> {
        self.frames.send_item(Frame::Data { stream: self.stream, fin, data }).map_err(|_| gone())
    }
}

impl Sink<Bytes> for Said {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.frames.poll_reserve(context).map_err(|_| gone())
    }

    fn start_send(mut self: Pin<&mut Self>, data: Bytes) -> Result<()> {
        self.send(data, false)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        // What is queued is written without being asked.
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.closed {
            ready!(self.frames.poll_reserve(context)).map_err(|_| gone())?;
            self.send(Bytes::new(), true)?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_util::codec::{FramedRead, FramedWrite};

    use super::*;
    use crate::streaming::spdy::{FrameDecoder, FrameEncoder};

    /// A server that says `outcome` of a process, if anything, and hangs up as Go's do.
    async fn hang_up(outcome: Option<&'static str>) -> Result<i32> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/exec/t", listener.local_addr().unwrap());
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\r\n";
            stream.write_all(switch).await.unwrap();
            let (reading, writing) = stream.split();
            let mut source = FramedRead::new(reading, FrameDecoder::default());
            let mut sink = FramedWrite::new(writing, FrameEncoder::default());
            for _ in 0..2 {
                let Frame::Open { stream, .. } = source.next().await.unwrap().unwrap() else { panic!("no stream") };
                sink.send(Frame::Reply { stream, fin: false, headers: Vec::new() }).await.unwrap();
            }
            if let Some(outcome) = outcome {
                sink.send(Frame::Data { stream: 1, fin: false, data: outcome.into() }).await.unwrap();
            }
        };
        let tasks = TaskTracker::new();
        let streams = Streams { stdout: true, ..Streams::default() };
        let (session, ()) = tokio::join!(command(&url, streams, &tasks), serving);
        let session = session.unwrap();
        assert_eq!(session.stdout.unwrap().count().await, 0);
        session.exit.await
    }

    #[tokio::test]
    async fn servers_may_hang_up_instead_of_ending_streams_but_not_without_a_word() {
        assert_eq!(hang_up(Some("{\"status\":\"Success\"}")).await, Ok(0));
        assert_eq!(hang_up(None).await.unwrap_err().code, Code::Unavailable);
    }

    #[test]
    fn urls_lead_to_addresses_of_this_node() {
        let check = |url: &str, expected: &str| {
            let found =
                place(url).map_or_else(|why| why.code.to_string(), |(address, uri)| format!("{address}{}", uri.path()));
            assert_eq!(found, expected, "{url}");
        };
        check("http://127.0.0.1:37/exec/t", "127.0.0.1:37/exec/t");
        check("http://[::1]:37/exec/t", "[::1]:37/exec/t");
        check("http://localhost:37/exec/t", "127.0.0.1:37/exec/t");
        check("http://0.0.0.0:37/exec/t", "127.0.0.1:37/exec/t");
        check("https://127.0.0.1:37/exec/t", "Unimplemented");
        check("http://node.example/exec/t", "Unimplemented");
        check("/exec/t", "Unimplemented");
    }
}
