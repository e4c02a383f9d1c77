//! `k3rs server`, without a node around it.

use std::path::Path;

use anyhow::Result;
use tokio::time::Instant;

use super::Place;
use crate::programs::{Daemon, command};

pub(super) fn start(program: &Path, place: &Place) -> Result<(Vec<Daemon>, Instant)> {
    let began = Instant::now();
    let mut server = command(program);
    server
        .args(["k3rs", "server", "--disable-agent", "--bind-address=127.0.0.1", "--node-name=bench"])
        .arg(format!("--https-listen-port={}", place.port))
        .arg(format!("--data-dir={}", place.directory.display()))
        .arg(format!("--write-kubeconfig={}", place.directory.join("kubeconfig").display()));
    let daemon = Daemon::start(&mut server, &place.directory.join("log"))?;
    Ok((vec![daemon], began))
}
