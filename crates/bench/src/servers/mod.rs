//! API servers that stand alone, ours and upstream's, each with a fresh datastore and the same authorities.

mod ours;
mod upstream;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k3rs::certificates::{Authority, Pair, Subject};
use tokio::time::Instant;

use crate::http::{Access, Call};
use crate::processes;
use crate::programs::{Daemon, check_interrupted};

/// Servers share one core and the client has the other, so that neither hides behind the other's.
const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;
/// Longer than any of them takes here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks whether a server answers: it has no way to call.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Which server.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// `k3rs server` without a node: datastore, API server, controllers and scheduler. The path is k3rs-dev's.
    Ours(PathBuf),
    /// kube-apiserver and etcd, from this directory.
    Upstream(PathBuf),
}

impl Kind {
    /// Upstream's, if it is there.
    pub(crate) fn upstream(directory: &Path) -> Option<Self> {
        let all = ["etcd", "kube-apiserver"].iter().all(|name| directory.join(name).is_file());
        all.then(|| Self::Upstream(directory.to_owned()))
    }
}

/// A server that answers. Its processes end and its data go with it.
pub(crate) struct Server {
    pub(crate) access: Access,
    /// From the start of the process that serves the API to its first 200 of /readyz.
    pub(crate) ready_after: Duration,
    daemons: Vec<Daemon>,
    _directory: tempfile::TempDir,
}

impl Server {
    /// Starts it below `directory` and waits until it is ready.
    pub(crate) async fn start(kind: &Kind, directory: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("server-").tempdir_in(directory)?;
        let place = Place::prepare(directory.path())?;
        let access = place.access()?;
        processes::pin(SERVER_CORE)?;
        let begun = match kind {
            Kind::Ours(program) => ours::start(program, &place),
            Kind::Upstream(programs) => upstream::start(programs, &place).await,
        };
        processes::pin(CLIENT_CORE)?;
        let (mut daemons, began) = begun?;
        let words = |log: &str| std::fs::read_to_string(directory.path().join(log)).unwrap_or_default();
        while !is_ready(&access).await {
            check_interrupted()?;
            for daemon in &mut daemons {
                daemon.check().with_context(|| words("log").lines().last().unwrap_or_default().to_owned())?;
            }
            if began.elapsed() > PATIENCE {
                bail!(
                    "the server is not ready after {PATIENCE:?}: {}",
                    words("log").lines().last().unwrap_or_default()
                );
            }
            tokio::time::sleep_until(Instant::now() + LOOK_AGAIN).await;
        }
        let ready_after = began.elapsed();
        Ok(Self { access, ready_after, daemons, _directory: directory })
    }

    /// All processes of it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.daemons.iter().map(Daemon::pid).collect()
    }
}

async fn is_ready(access: &Access) -> bool {
    match access.connect().await {
        Ok(mut connection) => connection.send(&Call::get("/readyz")).await.is_ok(),
        Err(_) => false,
    }
}

/// A server's directory, port and authorities, which are there before it starts, so that its first answer is understood.
struct Place {
    directory: PathBuf,
    port: u16,
    server: Authority,
    client: Authority,
}

impl Place {
    fn prepare(directory: &Path) -> Result<Self> {
        let tls = directory.join("server/tls");
        std::fs::create_dir_all(&tls)?;
        let authority = |name: &str| {
            let (certificate, key) = (tls.join(format!("{name}.crt")), tls.join(format!("{name}.key")));
            Authority::load_or_create(&certificate, &key, &format!("k3s-{name}"))
        };
        let (server, client) = (authority("server-ca")?, authority("client-ca")?);
        Ok(Self { directory: directory.to_owned(), port: free_port()?, server, client })
    }

    fn access(&self) -> Result<Access> {
        let Pair { certificate, key } = self.client.issue(&Subject::client("system:admin", &["system:masters"]))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        Access::new(address, self.server.pem().as_bytes(), certificate.as_bytes(), key.as_bytes())
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
