//! Both ends over a connection in memory.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::agent::{Keeper, upgraded};
use super::server::Tunnels;

/// Answers one connection as the supervisor does.
async fn supervise(tunnels: Arc<Tunnels>, connection: DuplexStream) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        let tunnels = tunnels.clone();
        async move {
            tunnels.accept("n1".to_owned(), request.extensions_mut().remove::<OnUpgrade>().unwrap());
            let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
            let response = response.header(CONNECTION, "upgrade").header(UPGRADE, super::PROTOCOL);
            Ok::<_, Infallible>(response.body(Empty::<Bytes>::new()).unwrap())
        }
    });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(connection), service);
    connection.with_upgrades().await.unwrap();
}

/// Says everything back, once.
async fn echo(listener: TcpListener) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = socket.read(&mut buffer).await {
            socket.write_all(&buffer[..length]).await.unwrap();
        }
    }
}

async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn streams_lead_to_the_kubelet_and_nowhere_else() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let tunnels = Tunnels::new(tasks.clone(), stop.clone());
    let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let address = kubelet.local_addr().unwrap();
    tasks.spawn(stop.clone().run_until_cancelled_owned(echo(kubelet)));
    let keeper = Keeper {
        tls: Arc::new(crate::tls::client(&[], None, &[]).unwrap()),
        kubelet: address.port(),
        tasks: tasks.clone(),
    };

    let dial = async |address: SocketAddr| tunnels.dial("n1", &address.to_string()).await;
    assert!(dial(address).await.is_none(), "there is no tunnel yet");
    let (of_agent, of_server) = tokio::io::duplex(64 << 10);
    tasks.spawn(supervise(tunnels.clone(), of_server));
    let tunnel = upgraded(of_agent).await.unwrap();
    let agent = tasks.spawn(async move { keeper.serve(tunnel).await });

    until("the tunnel is not open", async || dial(address).await.is_some()).await;
    let mut stream = dial(address).await.unwrap().unwrap();
    // More than any window, in both directions.
    let said: Vec<u8> = (0..3 << 20).map(|at: u32| at as u8).collect();
    let (mut reading, mut writing) = tokio::io::split(&mut stream);
    let mut heard = vec![0; said.len()];
    let (wrote, read) = tokio::join!(writing.write_all(&said), reading.read_exact(&mut heard));
    wrote.unwrap();
    read.unwrap();
    assert!(heard == said);
    let refused = dial(elsewhere).await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("403"), "{refused}");
    assert!(tunnels.dial("n2", &address.to_string()).await.is_none(), "another node's");

    drop(stream);
    agent.abort();
    until("the tunnel is still there", async || dial(address).await.is_none()).await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}
