//! A node that joins a server: it proves itself, gets certificates, and runs what every node runs, as a client of the
//! API over the wire.
//!
//! ```text
//! trust      is it the right server
//! exchange   HTTP to it
//! identity   keys and certificates on disk
//! join       all of that until it succeeds
//! renewal    certificates before they end
//! servers    which server, when there are several or the first is away
//! ```

mod exchange;
mod identity;
mod join;
mod renewal;
mod servers;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;

use client::clock::SystemClock;
use client::informer::Informers;
use client::remote::RemoteInformers;
use http::Uri;
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Layer;

use self::identity::Files;
use self::servers::Servers;
use crate::certificates::certificates;
use crate::components::node::{self, NodeError};
use crate::layout::Layout;
use crate::tls::{self, Certificate, TlsError};
use crate::tokens::Token;
use crate::{node_password, tunnel};

pub use servers::{NotAServer, ServerUrl};

/// Where the list of servers is kept below the agent's directory, k3s's place.
const SERVERS: &str = "etc/k3s-agent-load-balancer.json";

/// What an agent is told, all defaults filled in.
#[derive(Clone, Debug)]
pub struct Options {
    pub data_dir: PathBuf,
    pub server: ServerUrl,
    pub token: Token,
    pub node: node::Options,
}

/// An agent whose node runs.
pub struct Agent {
    tasks: TaskTracker,
    workers: TaskTracker,
    working: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("data directory {}: {source}", path.display())]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error("node password {}: {source}", path.display())]
    Password { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl Agent {
    /// Joins, however long that takes, and starts the node.
    ///
    /// An agent that has joined before starts by what it has on disk while no server answers. Pods that run are left
    /// running; which pods there are only the API tells, so until it answers none is started, and one that ends is not
    /// started again. Upstream's kubelet is no further: without the API it knows static pods alone.
    pub async fn start(options: Options) -> Result<Self, AgentError> {
        node::requirements::check().map_err(NodeError::from)?;
        let layout = Layout::new(&options.data_dir);
        layout.create_agent().map_err(|source| AgentError::DataDir { path: options.data_dir.clone(), source })?;
        let password = node_password::ensure(&options.node.password)
            .map_err(|source| AgentError::Password { path: options.node.password.clone(), source })?;
        let servers = Servers::open(options.server.clone(), layout.agent(SERVERS));
        let files = Files {
            layout: layout.clone(),
            node: options.node.name.clone(),
            addresses: options.node.ips.clone(),
            password,
        };
        let joined = join::join(&servers, &options.token, &files).await;

        let (client, serving) =
            (Certificate::new(&joined.identity.client)?, Certificate::new(&joined.identity.serving)?);
        let to_servers = tls::client(&certificates(&joined.server_ca), Some(client.clone()), &[])?;
        let kubelet = tls::server(serving.clone(), &certificates(&joined.client_ca), tls::HTTP1)?;
        let (tasks, workers, working) = (TaskTracker::new(), TaskTracker::new(), CancellationToken::new());
        let api = kube_client(&servers, to_servers.clone());
        let informers: Arc<dyn Informers> =
            RemoteInformers::new(api.clone(), SystemClock::shared(), tasks.clone(), working.clone());
        workers.spawn(servers::follow(servers.clone(), informers.clone(), working.clone()));
        let keeper = tunnel::Keeper {
            tls: Arc::new(tls::client(&certificates(&joined.server_ca), Some(client.clone()), tls::HTTP1)?),
            kubelet: options.node.port,
            tasks: tasks.clone(),
        };
        workers.spawn(keeper.run(servers.watch(), working.clone()));
        let renewal = renewal::Renewal {
            exchange: exchange::Exchange::new(&servers, to_servers, None),
            files,
            server_ca: joined.server_ca,
            client_ca: joined.client_ca,
            client,
            serving,
        };
        workers.spawn(renewal.run(joined.identity.left, working.clone()));
        let access = node::Access { kubelet: api, informers, tls: Arc::new(kubelet) };
        node::start(options.node, joined.config, access, &layout, &workers, working.clone()).await?;
        workers.close();
        Ok(Self { tasks, workers, working })
    }

    /// Stops; the pods run on.
    pub async fn stop(self) {
        self.working.cancel();
        self.workers.wait().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The API, at whichever server answers.
fn kube_client(servers: &Arc<Servers>, tls: rustls::ClientConfig) -> kube::Client {
    let base = Uri::builder().scheme("https").authority(tls::API_SERVER).path_and_query("/").build();
    let base = base.expect("a scheme, a name and a path are a URI");
    kube::Client::new(BaseUriLayer::new(base).layer(exchange::client::<Body>(servers, tls)), "default")
}
