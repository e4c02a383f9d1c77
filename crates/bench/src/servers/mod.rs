//! API servers that stand alone, ours and upstream's, each with a fresh datastore and the same authorities.

pub(crate) mod node;
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
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "k3rs",
            Self::Upstream(_) => "upstream",
        }
    }

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
    kind: Kind,
    /// Whether it has a core to itself.
    apart: bool,
    place: Place,
    _directory: tempfile::TempDir,
}

/// How somebody else calls a server as its administrator; all but the host is PEM.
pub(crate) struct Credentials {
    pub(crate) host: String,
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Server {
    /// Starts it below `directory`, on a core of its own, and waits until it is ready.
    pub(crate) async fn start(kind: &Kind, directory: &Path) -> Result<Self> {
        Self::start_on(kind, directory, true).await
    }

    /// The same on the cores that all have.
    pub(crate) async fn start_beside(kind: &Kind, directory: &Path) -> Result<Self> {
        Self::start_on(kind, directory, false).await
    }

    async fn start_on(kind: &Kind, directory: &Path, apart: bool) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("server-").tempdir_in(directory)?;
        let place = Place::prepare(directory.path())?;
        let access = place.access()?;
        let mut server = Self {
            access,
            ready_after: Duration::ZERO,
            daemons: Vec::new(),
            kind: kind.clone(),
            apart,
            place,
            _directory: directory,
        };
        server.begin().await?;
        Ok(server)
    }

    /// Ends its processes by force and starts them over the same data.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.daemons.clear();
        self.begin().await
    }

    async fn begin(&mut self) -> Result<()> {
        if self.apart {
            processes::pin(SERVER_CORE)?;
        }
        let begun = match &self.kind {
            Kind::Ours(program) => ours::start(program, &self.place),
            Kind::Upstream(programs) => upstream::start(programs, &self.place).await,
        };
        if self.apart {
            processes::pin(CLIENT_CORE)?;
        }
        let (daemons, began) = begun?;
        self.daemons = daemons;
        let log = self.place.directory.join("log");
        let last_words =
            || std::fs::read_to_string(&log).unwrap_or_default().lines().last().unwrap_or_default().to_owned();
        while !is_ready(&self.access).await {
            check_interrupted()?;
            for daemon in &mut self.daemons {
                daemon.check().with_context(last_words)?;
            }
            if began.elapsed() > PATIENCE {
                bail!("the server is not ready after {PATIENCE:?}: {}", last_words());
            }
            tokio::time::sleep_until(Instant::now() + LOOK_AGAIN).await;
        }
        self.ready_after = began.elapsed();
        Ok(())
    }

    /// For clients that are programs of their own.
    pub(crate) fn credentials(&self) -> Result<Credentials> {
        let Pair { certificate, key } = self.place.administrator()?;
        let host = format!("https://127.0.0.1:{}", self.place.port);
        Ok(Credentials { host, authority: self.place.server.pem().to_owned(), certificate, key })
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

    fn administrator(&self) -> Result<Pair> {
        Ok(self.client.issue(&Subject::client("system:admin", &["system:masters"]))?)
    }

    fn access(&self) -> Result<Access> {
        let Pair { certificate, key } = self.administrator()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        Access::new(address, self.server.pem().as_bytes(), certificate.as_bytes(), key.as_bytes())
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
