//! The sockets: datagrams answered in the receive loop as far as the zone goes, streams of two-byte lengths.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use client::listener::Arrivals;
use hickory_proto::op::{Message, Query};
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{self, Reply};
use super::forward::Forwarder;
use super::zone::Zone;

/// How long a stream may be silent.
const IDLE: Duration = Duration::from_secs(10);
const STREAMS: usize = 256;
/// Datagrams that wait for an upstream resolver.
const WAITING: usize = 4096;

/// What all sockets answer from.
pub(super) struct Service {
    /// None until all names are known.
    pub(super) zone: RwLock<Option<Arc<Zone>>>,
    pub(super) forwarder: Forwarder,
}

impl Service {
    fn reply(&self, query: &[u8]) -> Reply {
        let zone = self.zone.read().clone();
        answer::reply(query, zone.as_deref())
    }

    /// The bytes of the reply to `query`, for which others had to be asked.
    async fn ask(&self, reply: Reply, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        match reply {
            Reply::Ready(reply) => reply.to_vec().ok(),
            Reply::Silence => None,
            Reply::Forward(asked) => match self.forwarder.ask(query, stream).await {
                Some(answer) => Some(answer),
                None => answer::failed(&asked).to_vec().ok(),
            },
            Reply::Complete(mut reply, target) => {
                let mut question = Message::query();
                question.metadata.recursion_desired = true;
                let asked = reply.queries.first().map(Query::query_type)?;
                question.add_query(Query::query(target, asked));
                let answer = self.forwarder.ask(&question.to_vec().ok()?, stream).await;
                match answer.and_then(|answer| Message::from_vec(&answer).ok()) {
                    Some(answer) => {
                        reply.metadata.response_code = answer.metadata.response_code;
                        reply.add_answers(answer.answers);
                    }
                    None => *reply = answer::failed(&reply),
                }
                reply.to_vec().ok()
            }
        }
    }
}

/// The sockets of one address.
pub(super) struct Sockets {
    datagrams: UdpSocket,
    streams: TcpListener,
}

impl Sockets {
    pub(super) async fn bind(address: SocketAddr) -> io::Result<Self> {
        let datagrams = UdpSocket::bind(address).await?;
        // With port 0 the stream's follows the datagrams': both have one.
        let streams = TcpListener::bind(datagrams.local_addr()?).await?;
        Ok(Self { datagrams, streams })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.datagrams.local_addr()
    }

    /// Serves until `token` is cancelled.
    pub(super) fn serve(self, service: &Arc<Service>, tasks: &TaskTracker, token: &CancellationToken) {
        let (datagrams, of_datagrams, token_of_datagrams) = (Arc::new(self.datagrams), service.clone(), token.clone());
        let waiting = tasks.clone();
        tasks.spawn(async move {
            token_of_datagrams.run_until_cancelled(serve_datagrams(datagrams, of_datagrams, waiting)).await;
        });
        let (of_streams, token, waiting) = (service.clone(), token.clone(), tasks.clone());
        tasks.spawn(async move {
            let streams = serve_streams(self.streams, of_streams, waiting, token.clone());
            token.run_until_cancelled(streams).await;
        });
    }
}

async fn serve_datagrams(socket: Arc<UdpSocket>, service: Arc<Service>, tasks: TaskTracker) {
    let waiting = Arc::new(Semaphore::new(WAITING));
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer's recipient was unreachable, or memory is short: the next datagram is another's.
            Err(error) => {
                tracing::debug!(%error, "DNS datagram not received");
                continue;
            }
        };
        let query = &buffer[..length];
        match service.reply(query) {
            Reply::Silence => {}
            Reply::Ready(reply) => {
                if let Some(bytes) = answer::datagram(&reply, answer::datagram_limit(query)) {
                    send(&socket, &bytes, from).await;
                }
            }
            pending => {
                // What is dropped here is asked again by its client.
                let Ok(permit) = waiting.clone().try_acquire_owned() else { continue };
                let (socket, service, query) = (socket.clone(), service.clone(), query.to_vec());
                tasks.spawn(async move {
                    if let Some(bytes) = service.ask(pending, &query, false).await {
                        send(&socket, &fitting(bytes, answer::datagram_limit(&query)), from).await;
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// An upstream answer as it is, unless it is longer than the client takes.
fn fitting(bytes: Vec<u8>, limit: u16) -> Vec<u8> {
    if bytes.len() <= usize::from(limit) {
        return bytes;
    }
    let cut = Message::from_vec(&bytes).ok().and_then(|answer| answer::datagram(&answer, limit));
    cut.unwrap_or(bytes)
}

async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, to).await {
        tracing::debug!(%to, %error, "DNS answer not sent");
    }
}

async fn serve_streams(listener: TcpListener, service: Arc<Service>, tasks: TaskTracker, token: CancellationToken) {
    let free = Arc::new(Semaphore::new(STREAMS));
    let mut arrivals = Arrivals::new(listener);
    loop {
        let Ok(permit) = free.clone().acquire_owned().await else { return };
        let (stream, _) = arrivals.next().await;
        let (service, token) = (service.clone(), token.clone());
        tasks.spawn(async move {
            token.run_until_cancelled(serve_stream(stream, &service)).await;
            drop(permit);
        });
    }
}

/// Answers one query after the other until the client goes or is silent.
async fn serve_stream(mut stream: TcpStream, service: &Service) -> Option<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await.ok()?.ok()?;
        let mut query = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut query)).await.ok()?.ok()?;
        let answer = service.ask(service.reply(&query), &query, true).await?;
        let length = u16::try_from(answer.len()).ok()?;
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(IDLE, stream.write_all(&framed)).await.ok()?.ok()?;
    }
}

/// The addresses as sockets' addresses.
pub(super) fn at_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::new(*address, port)).collect()
}
