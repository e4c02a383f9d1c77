//! Upstream's kube-apiserver over its etcd, with their own defaults. Both make what they acknowledge durable, as ours
//! does.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Result, bail};
use k3rs::certificates::Subject;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{LOOK_AGAIN, PATIENCE, Place, free_port};
use crate::programs::{Daemon, command};

/// The moment is that of kube-apiserver's start, when its etcd already listens.
pub(super) async fn start(programs: &Path, place: &Place) -> Result<(Vec<Daemon>, Instant)> {
    let port = free_port()?;
    let etcd = start_etcd(&programs.join("etcd"), place, port)?;
    await_listener(port).await?;
    let began = Instant::now();
    let apiserver = start_apiserver(&programs.join("kube-apiserver"), place, port)?;
    Ok((vec![apiserver, etcd], began))
}

fn start_etcd(program: &Path, place: &Place, port: u16) -> Result<Daemon> {
    let (clients, peers) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
    let mut etcd = command(program);
    etcd.arg(format!("--data-dir={}", place.directory.join("etcd").display()))
        .arg(format!("--listen-client-urls={clients}"))
        .arg(format!("--advertise-client-urls={clients}"))
        .arg(format!("--listen-peer-urls={peers}"))
        .arg(format!("--initial-advertise-peer-urls={peers}"))
        .arg(format!("--initial-cluster=default={peers}"))
        .arg("--log-level=error");
    Daemon::start(&mut etcd, &place.directory.join("etcd.log"))
}

async fn await_listener(port: u16) -> Result<()> {
    let began = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        if began.elapsed() > PATIENCE {
            bail!("etcd does not listen after {PATIENCE:?}");
        }
        tokio::time::sleep_until(Instant::now() + LOOK_AGAIN).await;
    }
    Ok(())
}

fn start_apiserver(program: &Path, place: &Place, etcd: u16) -> Result<Daemon> {
    let tls = place.directory.join("server/tls");
    let file = |name: &str| tls.join(name).display().to_string();
    let names = ["127.0.0.1", "localhost"].map(str::to_owned);
    let (certificate, key) = (tls.join("serving.crt"), tls.join("serving.key"));
    place.server.ensure(&certificate, &key, &Subject::server("kube-apiserver", names))?;
    let mut apiserver = command(program);
    apiserver
        .arg(format!("--etcd-servers=http://127.0.0.1:{etcd}"))
        .arg("--bind-address=127.0.0.1")
        // It refuses to tell others of a loopback address, and there is nobody to tell.
        .arg("--advertise-address=192.0.2.1")
        .arg("--endpoint-reconciler-type=none")
        .arg(format!("--secure-port={}", place.port))
        .arg(format!("--tls-cert-file={}", file("serving.crt")))
        .arg(format!("--tls-private-key-file={}", file("serving.key")))
        .arg(format!("--client-ca-file={}", file("client-ca.crt")))
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        // Tokens are not asked for here: any key will do.
        .arg(format!("--service-account-key-file={}", file("serving.crt")))
        .arg(format!("--service-account-signing-key-file={}", file("serving.key")))
        .arg("--authorization-mode=Node,RBAC")
        .arg("--service-cluster-ip-range=10.43.0.0/16");
    Daemon::start(&mut apiserver, &place.directory.join("log"))
}
