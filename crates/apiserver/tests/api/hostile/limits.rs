//! Clients that take their time, or come in crowds: what a listener bounds, with bounds short enough to wait for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use client::listener::Limits;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::listener::Listening;
use crate::harness::Cluster;

const SHORT: Duration = Duration::from_millis(300);
/// What a limit may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";

async fn server(limits: Limits) -> Listening {
    let admin = ("opensesame".to_owned(), User::component("admin", &["system:masters"]));
    let cluster = Cluster::start_known(vec![admin], Settings::default()).await;
    Listening::start_with(cluster, &[], limits).await
}

/// Reads until the other side ends the connection; fails if it does not.
async fn ended(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut told = Vec::new();
    // A connection that is cut off in the middle of TLS has ended as well.
    let _cut = timeout(PATIENCE, stream.read_to_end(&mut told)).await.expect("the server holds on to it");
    String::from_utf8_lossy(&told).into_owned()
}

#[tokio::test]
async fn input_9_who_does_not_shake_hands() {
    let server = server(Limits { handshake: SHORT, ..Limits::default() }).await;
    for sent in [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        ended(&mut stream).await;
    }
    server.serves_on().await;
}

#[tokio::test]
async fn input_9_who_asks_slowly_or_nothing() {
    let server = server(Limits { head: SHORT, idle: 2 * SHORT, ..Limits::default() }).await;
    let check = async |sent: &[u8], answers: usize, least: Duration| {
        let mut stream = server.connect_as(b"http/1.1", None).await.unwrap();
        let begun = Instant::now();
        stream.write_all(sent).await.unwrap();
        let told = ended(&mut stream).await;
        assert_eq!(told.matches("HTTP/1.1 200").count(), answers, "{told}");
        assert!(begun.elapsed() >= least, "cut off after {:?}", begun.elapsed());
    };
    check(b"", 0, 2 * SHORT).await;
    check(b"GET /healthz HTTP/1.1\r\nHo", 0, SHORT).await;
    check(HEALTH, 1, 2 * SHORT).await;
    check(&HEALTH.repeat(3), 3, 2 * SHORT).await;

    // One byte now and then is no reason to wait longer.
    let mut stream = server.connect_as(b"http/1.1", None).await.unwrap();
    let begun = Instant::now();
    for byte in HEALTH.iter().cycle().take(10_000) {
        if stream.write_all(&[*byte | 0x20]).await.is_err() || begun.elapsed() > PATIENCE {
            break;
        }
        let _nothing = timeout(SHORT / 20, stream.read_u8()).await;
    }
    assert!(begun.elapsed() < PATIENCE, "a slow head was read to its end");

    // Over HTTP/2 as well.
    let stream = server.connect_as(b"h2", None).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut requests, connection) = handshake.await.unwrap();
    let driven = tokio_util::task::TaskTracker::new().spawn(connection);
    let request = Request::get("https://localhost/healthz").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(requests.send_request(request).await.unwrap().status(), 200);
    timeout(PATIENCE, driven).await.expect("the server holds on to it").unwrap().unwrap();
    server.serves_on().await;
}

#[tokio::test]
async fn input_9_a_body_that_does_not_come() {
    let server = server(Limits::default()).await;
    let mut stream = server.connect_as(b"http/1.1", None).await.unwrap();
    let head = "POST /api/v1/namespaces?timeout=300ms HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer opensesame\r\n\
                Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"metadata\"";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut told = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut told)).await.unwrap().unwrap();
    assert_eq!(&told, b"HTTP/1.1 504");
    server.serves_on().await;
}

#[tokio::test]
async fn input_9_who_is_answered_is_not_idle() {
    let server = server(Limits { head: SHORT, idle: SHORT, ..Limits::default() }).await;
    let mut stream = server.connect_as(b"http/1.1", None).await.unwrap();
    let watch = "GET /api/v1/namespaces?watch=true&timeoutSeconds=2 HTTP/1.1\r\nHost: a\r\n\
                 Authorization: Bearer opensesame\r\n\r\n";
    let begun = Instant::now();
    stream.write_all(watch.as_bytes()).await.unwrap();
    let told = ended(&mut stream).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "cut off after {:?}", begun.elapsed());
    assert!(told.starts_with("HTTP/1.1 200") && told.ends_with("\r\n0\r\n\r\n"), "{told}");
}

#[tokio::test]
async fn input_9_crowds() {
    let limits = Limits { connections: 5, of_one_address: 3, ..Limits::default() };
    let server = server(limits).await;
    let crowd = [server.connect_as(b"http/1.1", None).await, server.connect_as(b"http/1.1", None).await];
    let third = server.connect_as(b"http/1.1", None).await;
    assert!(server.connect_as(b"http/1.1", None).await.is_err(), "a fourth of one address");
    let from = async |last: u8| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0)).unwrap();
        let stream = socket.connect(server.address).await.unwrap();
        timeout(Duration::from_secs(1), server.secured(stream)).await
    };
    let others = [from(2).await.unwrap().unwrap(), from(3).await.unwrap().unwrap()];
    assert!(from(4).await.is_err(), "there is no room for a sixth");
    drop(others);
    let fourth = from(4).await.unwrap();
    assert!(fourth.is_ok());
    drop((crowd, third, fourth));
    // Until the server has seen that they are gone there is no room for others.
    let again = async { while server.connect_as(b"http/1.1", None).await.is_err() {} };
    timeout(PATIENCE, again).await.expect("whoever has gone leaves no place");
}
