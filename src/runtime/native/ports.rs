//! Published ports: listeners on the host, each connection passed on to the node from inside its own network, so that
//! a Service's NodePort answers as it does to anybody in the node.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use client::listener::Arrivals;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cluster::ports::Transport;
use crate::runtime::Publish;

/// Connections to one port at a time; more wait to be accepted.
const CONNECTIONS: usize = 4096;
/// A UDP client that is silent for so long is forgotten (RFC 4787, REQ-5: not less than two minutes).
const SILENCE: Duration = Duration::from_secs(120);
/// Clients of one UDP port.
const CLIENTS: usize = 1024;
const DATAGRAM: usize = 65_535;

/// Sockets bound on the host.
pub(super) struct Listeners {
    tcp: Vec<(std::net::TcpListener, u16)>,
    udp: Vec<(std::net::UdpSocket, u16)>,
}

impl Listeners {
    pub(super) fn bind(ports: &[Publish]) -> io::Result<Self> {
        let mut listeners = Self { tcp: Vec::new(), udp: Vec::new() };
        for publish in ports {
            let failed = |error: io::Error| {
                io::Error::new(error.kind(), format!("host port {}/{}: {error}", publish.host, publish.transport))
            };
            match publish.transport {
                Transport::Tcp => {
                    let socket = std::net::TcpListener::bind(publish.host).map_err(failed)?;
                    socket.set_nonblocking(true)?;
                    listeners.tcp.push((socket, publish.port));
                }
                Transport::Udp => {
                    let socket = std::net::UdpSocket::bind(publish.host).map_err(failed)?;
                    socket.set_nonblocking(true)?;
                    listeners.udp.push((socket, publish.port));
                }
            }
        }
        Ok(listeners)
    }

    /// Passes on what comes, as long as the tasks are kept.
    pub(super) fn serve(self, node: Ipv4Addr) -> io::Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for (socket, port) in self.tcp {
            tasks.spawn(accept(TcpListener::from_std(socket)?, SocketAddr::from((node, port))));
        }
        for (socket, port) in self.udp {
            tasks.spawn(relay(Arc::new(UdpSocket::from_std(socket)?), SocketAddr::from((node, port))));
        }
        Ok(tasks)
    }
}

async fn accept(listener: TcpListener, to: SocketAddr) {
    let (mut arrivals, mut connections) = (Arrivals::new(listener), JoinSet::new());
    loop {
        tokio::select! {
            (mut from, _) = arrivals.next(), if connections.len() < CONNECTIONS => {
                connections.spawn(async move {
                    let Ok(mut to) = TcpStream::connect(to).await else { return };
                    _ = from.set_nodelay(true);
                    _ = to.set_nodelay(true);
                    _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(host: Arc<UdpSocket>, to: SocketAddr) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers: JoinSet<SocketAddr> = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM];
    loop {
        tokio::select! {
            Some(Ok(silent)) = answers.join_next() => { clients.remove(&silent); }
            received = host.recv_from(&mut datagram) => {
                let Ok((length, client)) = received else { continue };
                let there = match clients.get(&client) {
                    Some(there) => Arc::clone(there),
                    None if clients.len() >= CLIENTS => continue,
                    None => {
                        let Ok(there) = dial(to).await.map(Arc::new) else { continue };
                        answers.spawn(answer(Arc::clone(&host), Arc::clone(&there), client));
                        clients.insert(client, Arc::clone(&there));
                        there
                    }
                };
                // Datagrams may be lost.
                _ = there.send(&datagram[..length]).await;
            }
        }
    }
}

async fn dial(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Passes answers back until there were none for long; returns whose they were.
async fn answer(host: Arc<UdpSocket>, there: Arc<UdpSocket>, client: SocketAddr) -> SocketAddr {
    let mut datagram = vec![0; DATAGRAM];
    while let Ok(Ok(length)) = timeout(SILENCE, there.recv(&mut datagram)).await {
        _ = host.send_to(&datagram[..length], client).await;
    }
    client
}
