//! The slim `k3rs` binary for production hosts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use k3rs::server::{Options, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    rustls::crypto::ring::default_provider().install_default().ok();
    let dir = std::env::args().nth(1).unwrap_or_else(|| "data".to_owned());
    let options = Options {
        data_dir: dir.clone().into(),
        bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 6443)),
        advertise: IpAddr::from(Ipv4Addr::LOCALHOST),
        names: Vec::new(),
        service_cidrs: vec!["10.43.0.0/16".parse()?],
        node_ports: 30000..=32767,
        cluster_domain: "cluster.local".to_owned(),
        kubeconfig: format!("{dir}/kubeconfig.yaml").into(),
        kubeconfig_mode: 0o600,
    };
    let server = Server::start(options).await?;
    tokio::signal::ctrl_c().await?;
    server.stop().await?;
    Ok(())
}
