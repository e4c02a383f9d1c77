//! Clients at sockets who ask and do not read: what the server holds for each of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use store::memory::MemoryStore;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use super::listener::Listening;
use crate::harness::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A list of 8 MiB, larger than what systems keep on the way.
const OBJECTS: usize = 400;
const SIZE: usize = 20 << 10;
const LISTERS: usize = 300;
/// For a list that nobody reads, at both ends: a piece or two, and what is encrypted of it.
const FOR_A_LIST: usize = 640 << 10;

/// Watchers over as few connections as can be, and over one each.
const STREAMS: usize = 100;
const CONNECTIONS: usize = 80;
const ALONE: usize = 2_000;
const WATCHERS: usize = STREAMS * CONNECTIONS + ALONE;
/// For a watcher, at both ends, those with a connection of their own among them.
const FOR_A_WATCHER: usize = 32 << 10;
/// What happens to each of them. The kernel takes as much for each connection before the server feels it.
const CHANGES: usize = 64;
const CHANGE: usize = 2 << 10;

/// A client that was given the head of an answer, and reads nothing more: whatever keeps its connection open.
type Stuck = Box<dyn Send>;

/// Both ends of some thousand sockets are in this process.
fn open_many() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit }).unwrap();
}

async fn start() -> Listening {
    open_many();
    let tokens = vec![("admin".to_owned(), User::new("admin", &["system:masters"]))];
    let cluster = Cluster::start_over(Arc::new(MemoryStore::new()), tokens, Settings::default()).await;
    Listening::over(cluster).await
}

/// One request over HTTP/1.1. As little as can be is on the way.
async fn alone(server: &Listening, target: &str) -> Stuck {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let mut stream = server.secured(socket.connect(server.address).await.unwrap()).await.unwrap();
    let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer admin\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut code = [0; 12];
    stream.read_exact(&mut code).await.unwrap();
    assert_eq!(&code, b"HTTP/1.1 200");
    Box::new(stream)
}

/// So many requests over HTTP/2, whose heads are read, and of whose bodies no more than one window is taken for all.
async fn many(server: &Listening, target: &str, count: usize) -> Stuck {
    let (mut asking, deaf, requests) = ask(server, target, count, (1 << 16) - 1).await;
    let mut answers = Vec::with_capacity(count);
    while let Some(answer) = asking.join_next().await {
        let answer = answer.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        answers.push(answer);
    }
    Box::new((answers, deaf, requests))
}

/// The same of a client with as much room as can be, that stops reading the connection itself once it is answered at all.
async fn many_deaf(server: &Listening, target: &str, count: usize) -> Stuck {
    let (mut asking, deaf, requests) = ask(server, target, count, (1 << 31) - 1).await;
    let first = asking.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(first.status(), 200);
    deaf.store(true, Ordering::Relaxed);
    Box::new((first, asking, deaf, requests))
}

type Asking = JoinSet<hyper::Result<Response<Incoming>>>;

async fn ask(
    server: &Listening,
    target: &str,
    count: usize,
    window: u32,
) -> (Asking, Arc<AtomicBool>, SendRequest<Full<Bytes>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let stream = server.secured_as(b"h2", socket.connect(server.address).await.unwrap()).await.unwrap();
    let deaf = Arc::new(AtomicBool::new(false));
    let (mut requests, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .handshake(TokioIo::new(Deaf { stream, deaf: deaf.clone() }))
        .await
        .unwrap();
    TaskTracker::new().spawn(connection);
    let mut asking = JoinSet::new();
    for _ in 0..count {
        requests.ready().await.unwrap();
        let request = Request::get(format!("https://localhost{target}")).header("authorization", "Bearer admin");
        asking.spawn(requests.send_request(request.body(Full::new(Bytes::new())).unwrap()));
    }
    (asking, deaf, requests)
}

/// A stream from which nothing is read any more once that is said.
struct Deaf<S> {
    stream: S,
    deaf: Arc<AtomicBool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Deaf<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.deaf.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deaf<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who asks for much and reads nothing of it gets no more than what is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_39_lists_over_sockets_that_nobody_reads() {
    let _turn = super::turn().await;
    let server = start().await;
    let text = "x".repeat(SIZE);
    for at in 0..OBJECTS {
        let object = json!({"metadata": {"name": format!("m{at}")}, "data": {"text": text}});
        server.cluster.send("POST", MAPS, object).await.expect(201);
    }
    server.cluster.server.registry.caches.reach_current().await;
    let before = super::resident();
    let mut stuck = Vec::new();
    for _ in 0..LISTERS {
        stuck.push(alone(&server, MAPS).await);
    }
    serves_on(&server).await;
    let each = settled().await.saturating_sub(before) / LISTERS;
    eprintln!("HTTP/1.1: {} KiB for a list", each >> 10);
    assert!(each < FOR_A_LIST, "{} KiB for a list", each >> 10);

    let before = super::resident();
    for _ in 0..4 {
        stuck.push(many_deaf(&server, MAPS, LISTERS / 4).await);
    }
    serves_on(&server).await;
    let each = settled().await.saturating_sub(before) / LISTERS;
    eprintln!("HTTP/2: {} KiB for a list", each >> 10);
    assert!(each < FOR_A_LIST, "{} KiB for a list", each >> 10);
}

/// Ten thousand watchers that never read take their places and what is on its way to them, and hold up nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_37_watchers_over_sockets_that_never_read() {
    let _turn = super::turn().await;
    let server = start().await;
    server.cluster.send("POST", MAPS, json!({"metadata": {"name": "a"}})).await.expect(201);
    server.cluster.server.registry.caches.reach_current().await;
    let target = format!("{MAPS}?watch=true&resourceVersion=0");
    // What others have left is given back by then.
    let (before, begun) = (settled().await, Instant::now());
    let mut stuck = Vec::new();
    for _ in 0..CONNECTIONS {
        stuck.push(many(&server, &target, STREAMS).await);
    }
    let multiplexed = super::resident().saturating_sub(before) / (STREAMS * CONNECTIONS);
    for _ in 0..ALONE {
        stuck.push(alone(&server, &target).await);
    }
    let there = super::resident();
    eprintln!("{WATCHERS} watchers in {:?}: {multiplexed} bytes for a stream", begun.elapsed());
    eprintln!("{} bytes on average", there.saturating_sub(before) / WATCHERS);

    let (mut slowest, begun) = (Duration::ZERO, Instant::now());
    for n in 0..CHANGES {
        let change = json!({"metadata": {"name": "a"}, "data": {"n": n.to_string(), "text": "x".repeat(CHANGE)}});
        let sent = Instant::now();
        server.cluster.send("PUT", &format!("{MAPS}/a"), change).await.expect(200);
        slowest = slowest.max(sent.elapsed());
    }
    serves_on(&server).await;
    let each = settled().await.saturating_sub(before) / WATCHERS;
    eprintln!("{CHANGES} changes in {:?}, {slowest:?} at most: {each} bytes for a watcher", begun.elapsed());
    assert!(each < FOR_A_WATCHER, "{each} bytes for a watcher");
    assert!(slowest < Duration::from_secs(2), "a write waited for {slowest:?}");
}

/// What this process holds when nobody gets more.
async fn settled() -> usize {
    loop {
        let held = super::resident();
        sleep_until(Instant::now() + Duration::from_millis(300)).await;
        if super::resident() <= held + (1 << 20) {
            return super::resident();
        }
    }
}

/// Others are answered, over sockets as well.
async fn serves_on(server: &Listening) {
    let begun = Instant::now();
    server.serves_on().await;
    server.cluster.send("GET", &format!("{MAPS}?limit=1"), Value::Null).await.expect(200);
    assert!(begun.elapsed() < Duration::from_secs(5), "others waited for {:?}", begun.elapsed());
}
