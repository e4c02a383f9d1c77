//! What comes over the wire: requests that two readers would read differently, heads without end, streams that are
//! reset as soon as they are opened.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apiserver::authn::x509::AnyCertificate;
use apiserver::serve;
use apiserver::server::Settings;
use apiserver::service::ApiService;
use bytes::Bytes;
use client::listener::Limits;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::harness::Cluster;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server at a port, until this is dropped.
pub(super) struct Listening {
    pub(super) cluster: Cluster,
    pub(super) address: SocketAddr,
    certificate: CertificateDer<'static>,
    stop: CancellationToken,
}

impl Listening {
    pub(super) async fn start() -> Self {
        Self::over(Cluster::start().await).await
    }

    pub(super) async fn over(cluster: Cluster) -> Self {
        Self::start_with(cluster, &[], Limits::default()).await
    }

    /// A server that asks for certificates of `authorities`.
    pub(super) async fn start_with(cluster: Cluster, authorities: &[CertificateDer<'static>], limits: Limits) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let certificate = made.cert.der().clone();
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(Arc::new(AnyCertificate::new(authorities)))
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, stop, tasks) = (listener.local_addr().unwrap(), CancellationToken::new(), TaskTracker::new());
        let service = ApiService::new(cluster.server.clone());
        let handler = Arc::new(move |request| service.clone().call(request));
        serve::serve(listener, Arc::new(tls), handler, limits, &tasks, stop.clone());
        Self { cluster, address, certificate, stop }
    }

    pub(super) async fn connect(&self, protocol: &[u8]) -> TlsStream<TcpStream> {
        self.connect_as(protocol, None).await.unwrap()
    }

    fn tls(&self, protocol: &[u8], client: Option<Arc<CertifiedKey>>) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match client {
            Some(client) => tls.with_client_cert_resolver(Arc::new(Shown(client))),
            None => tls.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![protocol.to_vec()];
        tls
    }

    /// Connects as somebody, or as nobody.
    pub(super) async fn connect_as(
        &self,
        protocol: &[u8],
        client: Option<Arc<CertifiedKey>>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let tls = self.tls(protocol, client);
        let socket = TcpStream::connect(self.address).await.unwrap();
        self.secure(tls, socket).await
    }

    /// Shakes hands as nobody.
    pub(super) async fn secured(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.secured_as(b"http/1.1", socket).await
    }

    pub(super) async fn secured_as(&self, protocol: &[u8], socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.secure(self.tls(protocol, None), socket).await
    }

    async fn secure(&self, tls: rustls::ClientConfig, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, socket).await
    }

    /// What comes over a connection, until the server has no more to say.
    pub(super) async fn told(stream: &mut TlsStream<TcpStream>) -> String {
        let mut told = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(2), stream.read(&mut buffer)).await {
            told.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8_lossy(&told).into_owned()
    }

    /// Sends these bytes; all that is answered, until the server has no more to say.
    async fn answers(&self, sent: &[u8]) -> String {
        let mut stream = self.connect(b"http/1.1").await;
        // A server that has heard enough does not read on.
        let _cut_off = stream.write_all(sent).await;
        Self::told(&mut stream).await
    }

    pub(super) async fn serves_on(&self) {
        let told = self.answers(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    }
}

/// A certificate that is shown whatever is asked for.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn input_8_requests_that_are_read_in_two_ways() {
    let server = Listening::start().await;
    let check = async |head: &str, allowed: &[&str]| {
        // Whatever follows is no request of its own, unless the first one has ended.
        let smuggled = "GET /healthz?smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let told = server.answers(format!("{head}{smuggled}").as_bytes()).await;
        let codes: Vec<&str> = told.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(codes, allowed, "{head:?}: {told}");
    };
    check("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", &["400"]).await;
    check("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello", &["400"]).await;
    check("POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5x\r\n\r\nhello", &["400"]).await;
    check("POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n", &["400"]).await;
    check("GET /healthz HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", &["400"]).await;
    check("GET /healthz HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", &["400"]).await;
    check("GET /heal thz HTTP/1.1\r\nHost: a\r\n\r\n", &["400"]).await;
    check("GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n", &["400"]).await;
    check("\0\0\0\0\r\n\r\n", &["400"]).await;
    check("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &["400"]).await;
    // Lines that are folded (RFC 7230 section 3.2.4), sizes that are none, chunks that do not end where they say.
    check("GET /healthz HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", &["400"]).await;
    check("GET /healthz HTTP/1.1\r\nHost: a\r\n A: b\r\n\r\n", &["400"]).await;
    check("GET /healthz HTTP/1.1\r\nHost: a\rA: b\r\n\r\n", &["400"]).await;
    check("GET /healthz HTTP/1.1\r\n\r\nHost: a\r\n\r\n", &["200", "400"]).await;
    let chunked = |body: &str| format!("POST /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    check(&chunked("5\r\nhello\r\n0\r\n\r\n"), &["401", "200"]).await;
    for wrong in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\nhello\n0\n\n",
    ] {
        check(&chunked(wrong), &["401"]).await;
    }
    // Where both lengths are told, the chunks count, and nothing that comes behind them is believed.
    check(
        "POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &["401"],
    )
    .await;
    check("GET http://elsewhere/version HTTP/1.1\r\nHost: a\r\n\r\n", &["401", "200"]).await;
    server.serves_on().await;
}

#[tokio::test]
async fn input_8_heads_without_end() {
    let server = Listening::start().await;
    let long = format!("GET /healthz HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "x".repeat(2 << 20));
    let many = format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100_000));
    let path = format!("GET /healthz?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(200_000));
    for (head, code) in [(long, "431"), (many, "431"), (path, "414")] {
        let told = server.answers(head.as_bytes()).await;
        assert!(told.starts_with(&format!("HTTP/1.1 {code}")), "{told}");
    }
    // What upstream takes is taken: long selectors are made by programs.
    let told = server
        .answers(format!("GET /version?labelSelector={} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(60_000)).as_bytes())
        .await;
    assert!(told.starts_with("HTTP/1.1 401"), "{told}");
    server.serves_on().await;
}

#[tokio::test]
async fn input_10_streams_reset_as_they_are_opened() {
    let _turn = super::turn().await;
    let server = Listening::start().await;
    let open = async || {
        let stream = server.connect(b"h2").await;
        let (requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let tasks = TaskTracker::new();
        tasks.spawn(connection);
        requests
    };
    let request =
        |path: &str| Request::builder().uri(format!("https://localhost{path}")).body(Full::new(Bytes::new())).unwrap();
    let before = super::resident();
    for _ in 0..4 {
        let mut requests = open().await;
        for _ in 0..5_000 {
            if requests.ready().await.is_err() {
                // Enough of it, says the server.
                break;
            }
            drop(requests.send_request(request("/healthz")));
        }
    }
    let grown = super::resident().saturating_sub(before);
    assert!(grown < 128 << 20, "resets left {} MiB", grown >> 20);
    let mut requests = open().await;
    let answer = timeout(PATIENCE, requests.send_request(request("/healthz"))).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    let long = format!("/version?labelSelector={}", "x".repeat(60_000));
    let answer = timeout(PATIENCE, requests.send_request(request(&long))).await.unwrap().unwrap();
    assert_eq!(answer.status(), 401);
    server.serves_on().await;
}

#[tokio::test]
async fn connections_end_as_often_as_it_is_said() {
    for (chance, ends) in [(1.0, true), (0.0, false)] {
        let settings = Settings { goaway_chance: chance, ..Settings::default() };
        let server = Listening::over(Cluster::start_set(settings).await).await;
        let stream = server.connect(b"h2").await;
        let (mut requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let tasks = TaskTracker::new();
        let connection = tasks.spawn(connection);
        let request = || Request::builder().uri("https://localhost/healthz").body(Full::new(Bytes::new())).unwrap();
        assert_eq!(requests.send_request(request()).await.unwrap().status(), 200);
        match ends {
            true => drop(timeout(PATIENCE, connection).await.expect("the server ends the connection")),
            false => assert_eq!(requests.send_request(request()).await.unwrap().status(), 200),
        }
    }
}
