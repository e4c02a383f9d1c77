//! A server: the datastore, the API server over it, and the components that work for it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apiserver::aggregation::FrontProxy;
use apiserver::authn::User;
use apiserver::encryption::SecretEncryption;
use apiserver::server::{ApiServer, Config, Settings, StartError};
use apiserver::service::ApiService;
use apiserver::{bootstrap, serve};
use client::listener::Limits;
use client::request::Requests;
use futures::try_join;
use ipnet::IpNet;
use store::sqlite::SqliteStore;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;
use tracing::info;

use crate::certificates::{Authority, CertificateError, Pair, Subject, signing_key};
use crate::components::node::{self, NodeError};
use crate::components::{self, published};
use crate::layout::Layout;
use crate::listen::{self, ListenError};
use crate::serving::{self, ServingError};
use crate::supervisor::{ClusterConfig, Mounted, NodePasswords, Secrets, Supervisor, serving_subject};
use crate::tunnel::Tunnels;
use crate::{VERSION, kubeconfig, node_password, tls, tokens};

/// What a server is told, all defaults filled in.
#[derive(Clone, Debug)]
pub struct Options {
    pub data_dir: PathBuf,
    pub bind: SocketAddr,
    /// Where others reach this server.
    pub advertise: IpAddr,
    /// Further names and addresses on the serving certificate.
    pub names: Vec<String>,
    /// What the nodes' pod ranges are cut from.
    pub cluster_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
    pub cluster_domain: String,
    pub kubeconfig: PathBuf,
    pub kubeconfig_mode: u32,
    pub node_name: String,
    /// Run the controllers.
    pub controllers: bool,
    /// Run the scheduler.
    pub scheduler: bool,
    pub cluster_dns: Vec<IpAddr>,
    /// The node beside the control plane; `None` runs none.
    pub node: Option<node::Options>,
    /// The secret with which nodes join; one is made if there is none.
    pub token: Option<String>,
    /// A further secret, with which only agents join.
    pub agent_token: Option<String>,
    /// What the API server is told beside all that.
    pub api: Settings,
}

/// A server that answers.
pub struct Server {
    pub api: Arc<ApiServer>,
    pub address: SocketAddr,
    store: Arc<SqliteStore>,
    tasks: TaskTracker,
    /// The components, which are stopped while the API still answers them.
    workers: TaskTracker,
    working: CancellationToken,
    listening: CancellationToken,
    following: CancellationToken,
    /// How long it serves on when it is to stop.
    delay: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("data directory {path}: {source}")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Serving(#[from] ServingError),
    #[error(transparent)]
    Open(#[from] store::sqlite::OpenError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("datastore {path} is damaged ({detail}): restore a snapshot, or move it away to start empty")]
    Damaged { path: PathBuf, detail: String },
    #[error("making the first objects: {0}")]
    Bootstrap(#[from] api::status::Status),
    #[error("the API's port: {0}: stop that, or take another with --bind-address and --https-listen-port")]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    #[error("no randomness from the system: {0}")]
    Random(getrandom::Error),
    #[error("node password {path}: {source}")]
    Password { path: PathBuf, source: std::io::Error },
    #[error("token {path}: {source}")]
    Token { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("writing {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
}

/// The authorities of a cluster.
struct Authorities {
    server: Arc<Authority>,
    client: Arc<Authority>,
    /// Of servers that speak for users.
    front: Arc<Authority>,
}

impl Server {
    /// Starts everything; returns when the API is ready.
    pub async fn start(options: Options) -> Result<Self, ServerError> {
        if options.node.is_some() {
            node::requirements::check().map_err(NodeError::from)?;
        }
        let layout = Layout::new(&options.data_dir);
        layout.create_server().map_err(|source| ServerError::DataDir { path: options.data_dir.clone(), source })?;
        let store = Arc::new(SqliteStore::open(layout.database())?);
        let authorities = authorities(&layout)?;
        let token = tokens::ensure(&layout, options.token.as_deref(), authorities.server.pem())
            .map_err(|source| ServerError::Token { path: layout.root().join("server/token"), source })?;
        let names = serving_names(&options);
        let serving = serving_certificate(&layout, &authorities.server, &names)?;
        let clients = [authorities.client.der(), authorities.front.der()].concat();
        let (tasks, listening, following) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let own = tls::Certificate::new(&serving)?;
        let shown = serving::certificates(&options.api.tls, own, &tasks, &listening)?;
        let tls = Arc::new(tls::api_server(serving::protocols(&options.api.tls)?, shown, &clients));
        let tunnels = Tunnels::new(tasks.clone(), listening.clone());
        let audience = format!("https://kubernetes.default.svc.{}", options.cluster_domain);
        let config = Config {
            version: VERSION.to_owned(),
            client_cas: authorities.client.der(),
            client_authority: authorities.client.pem().to_owned(),
            front_proxy: Some(front_proxy(&layout, &authorities)?),
            tokens: Vec::new(),
            service_account_key: signing_key(&layout.tls("service.key"))?,
            issuer: audience.clone(),
            audiences: vec![audience, "k3s".to_owned()],
            external_address: SocketAddr::new(options.advertise, options.bind.port()).to_string(),
            hostname: options.node_name.clone(),
            service_cidrs: options.service_cidrs.clone(),
            node_ports: options.node_ports.clone(),
            transformer: Arc::new(secret_encryption(&layout)?),
            dialer: Arc::new(dialer(&layout, &authorities, tunnels.clone())?),
            settings: options.api.clone(),
        };
        let api =
            ApiServer::start(config, store.clone(), &tasks, following.clone()).await.map_err(|why| match why {
                StartError::Store(store::Error::Corrupt(detail)) => {
                    ServerError::Damaged { path: layout.database(), detail }
                }
                other => other.into(),
            })?;
        try_join!(bootstrap::run(&api), published::allow_nodes(&api))?;
        api.extend();
        let (history, of_history) = (options.api.history, store.clone());
        let forget = move |run| components::run_compaction(of_history.clone(), history, run);
        tasks.spawn(components::keep(api.clone(), "compaction", following.clone(), forget));

        // Until then `kubernetes.default.svc` leads nowhere.
        let reachable = api.health.hook("bootstrap-controller");
        let listener = listen::on(options.bind).await?;
        let failed = |source| ListenError::Failed { address: options.bind, source };
        let address = listener.local_addr().map_err(failed)?;
        let passwords = node_passwords(&api, &options).await?;
        let supervisor = Supervisor::new(
            authorities.server.clone(),
            authorities.client.clone(),
            Secrets::new(&token.secret, options.agent_token.as_deref()).map_err(ServerError::Random)?,
            cluster_config(&options),
            passwords,
            tunnels,
            names,
            components::client(&api, supervisor_user(), "k3rs"),
        );
        let mounted = Mounted { supervisor: Arc::new(supervisor), api: ApiService::new(api.clone()) };
        let handler = Arc::new(move |request| mounted.clone().call(request));
        serve::serve(listener, tls, handler, Limits::default(), &tasks, listening.clone());
        let (working, workers) = (CancellationToken::new(), TaskTracker::new());
        if options.controllers {
            let settings = controllers::Settings {
                root_ca: authorities.server.pem().to_owned(),
                cluster_cidrs: options.cluster_cidrs.clone(),
                signer: Some(Arc::new(components::Signer::new(authorities.client.clone(), authorities.server.clone()))),
                tokens: Some(Arc::new(components::TokenMaker(api.clone()))),
                ..controllers::Settings::default()
            };
            let (policies, of_policies) = (api.clone(), tasks.clone());
            let check = move |run| policies.clone().check_policies(of_policies.clone(), run);
            let name = "validatingadmissionpolicy-status-controller";
            workers.spawn(components::keep(api.clone(), name, working.clone(), check));
            let (identity, tasks) = (options.node_name.clone(), tasks.clone());
            workers.spawn(components::run_controllers(api.clone(), settings, identity, tasks, working.clone()));
        }
        if options.scheduler {
            let (identity, tasks) = (options.node_name.clone(), tasks.clone());
            workers.spawn(components::run_scheduler(api.clone(), identity, tasks, working.clone()));
        }
        published::publish(&api, &addresses(&options, address)).await?;
        reachable.done();
        if let Some(node) = options.node.clone() {
            let access = node_access(&layout, &authorities, &api, &node, &tasks, &working)?;
            layout.create_agent().map_err(|source| ServerError::DataDir { path: layout.root().to_owned(), source })?;
            let requests = Requests::new(components::client(&api, supervisor_user(), "k3rs"));
            let (informers, name) = (api.informers(tasks.clone(), working.clone()), node.name.clone());
            let mark = move |run| components::role::run(informers.clone(), requests.clone(), name.clone(), run);
            workers.spawn(components::keep(api.clone(), "node-role-controller", working.clone(), mark));
            node::start(node, cluster_config(&options), access, &layout, &workers, working.clone()).await?;
        }
        workers.close();
        write_kubeconfig(&layout, &authorities, &options, address)?;
        info!(%address, "API server is ready");
        let delay = options.api.shutdown_delay;
        Ok(Self { api, address, store, tasks, workers, working, listening, following, delay })
    }

    /// Stops in reverse order; returns when the datastore is closed.
    pub async fn stop(self) -> Result<(), store::Error> {
        self.api.health.shut_down();
        // Who balances requests among servers hears of it, and asks this one no more.
        sleep_until(Instant::now() + self.delay).await;
        self.working.cancel();
        self.workers.wait().await;
        self.listening.cancel();
        self.following.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await
    }
}

fn authorities(layout: &Layout) -> Result<Authorities, CertificateError> {
    let load = |name: &str| {
        let (certificate, key) = (layout.tls(&format!("{name}.crt")), layout.tls(&format!("{name}.key")));
        Authority::load_or_create(&certificate, &key, &format!("k3s-{name}")).map(Arc::new)
    };
    Ok(Authorities { server: load("server-ca")?, client: load("client-ca")?, front: load("request-header-ca")? })
}

/// The names and addresses that this server answers to.
fn serving_names(options: &Options) -> Vec<String> {
    let mut names: Vec<String> =
        [tls::API_SERVER, "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .into();
    names.push(format!("kubernetes.default.svc.{}", options.cluster_domain));
    names.push(options.advertise.to_string());
    names.extend(options.service_cidrs.iter().filter_map(|cidr| cidr.hosts().next()).map(|ip| ip.to_string()));
    names.extend(options.names.iter().cloned());
    names
}

fn serving_certificate(layout: &Layout, authority: &Authority, names: &[String]) -> Result<Pair, CertificateError> {
    let subject = Subject::server("kube-apiserver", names.iter().cloned());
    authority.ensure(&layout.tls("serving-kube-apiserver.crt"), &layout.tls("serving-kube-apiserver.key"), &subject)
}

/// What agents are told.
fn cluster_config(options: &Options) -> ClusterConfig {
    ClusterConfig {
        cluster_cidrs: options.cluster_cidrs.clone(),
        service_cidrs: options.service_cidrs.clone(),
        cluster_dns: options.cluster_dns.clone(),
        cluster_domain: options.cluster_domain.clone(),
    }
}

/// Who the supervisor is to the API, k3s's name.
fn supervisor_user() -> User {
    User::component("system:k3s-supervisor", &["system:masters"])
}

/// The passwords of nodes, with this server's own node among them, whose name nobody else may take.
async fn node_passwords(api: &Arc<ApiServer>, options: &Options) -> Result<Arc<NodePasswords>, ServerError> {
    let own = options.node.as_ref().map(|node| node.name.clone());
    let passwords = Arc::new(NodePasswords::new(components::client(api, supervisor_user(), "k3rs"), own));
    if let Some(node) = &options.node {
        let password = node_password::ensure(&node.password)
            .map_err(|source| ServerError::Password { path: node.password.clone(), source })?;
        passwords.claim(&node.name, &password).await?;
    }
    Ok(passwords)
}

/// How kubelets are reached, as a client that they know.
fn dialer(
    layout: &Layout,
    authorities: &Authorities,
    tunnels: Arc<Tunnels>,
) -> Result<components::KubeletDialer, ServerError> {
    let subject = Subject::client("system:apiserver", &["system:masters"]);
    let (certificate, key) = (layout.tls("client-kube-apiserver.crt"), layout.tls("client-kube-apiserver.key"));
    let identity = authorities.client.ensure(&certificate, &key, &subject)?;
    let tls = tls::client(&authorities.server.der(), Some(tls::Certificate::new(&identity)?), &[])?;
    Ok(components::KubeletDialer::new(tls, tunnels))
}

/// How the API server and those behind it know each other; the names are k3s's.
fn front_proxy(layout: &Layout, authorities: &Authorities) -> Result<FrontProxy, ServerError> {
    let name = "system:auth-proxy";
    let (certificate, key) = (layout.tls("client-auth-proxy.crt"), layout.tls("client-auth-proxy.key"));
    let identity = authorities.front.ensure(&certificate, &key, &Subject::client(name, &[]))?;
    Ok(FrontProxy {
        authority: authorities.front.pem().to_owned(),
        allowed_names: vec![name.to_owned()],
        certificate: tls::certified(&identity)?,
    })
}

/// What the cluster's own Services point to.
fn addresses(options: &Options, bound: SocketAddr) -> published::Addresses {
    let first = options.service_cidrs.first().and_then(|range| range.hosts().next());
    published::Addresses {
        server: options.advertise,
        server_port: bound.port(),
        api_service: first.unwrap_or(options.advertise),
        dns: options.cluster_dns.clone(),
    }
}

/// How the server's own node reaches the API: in process, as the user that an agent's certificate would name.
fn node_access(
    layout: &Layout,
    authorities: &Authorities,
    api: &Arc<ApiServer>,
    options: &node::Options,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<node::Access, ServerError> {
    let subject = serving_subject(&options.name, &options.ips);
    let serving =
        authorities.server.ensure(&layout.tls("serving-kubelet.crt"), &layout.tls("serving-kubelet.key"), &subject)?;
    let user = User::component(&format!("system:node:{}", options.name), &["system:nodes"]);
    Ok(node::Access {
        kubelet: components::client(api, user, "kubelet"),
        informers: api.informers(tasks.clone(), stop.clone()),
        tls: Arc::new(tls::server(tls::Certificate::new(&serving)?, &authorities.client.der(), tls::HTTP1)?),
    })
}

/// The key of Secrets at rest, made at the first start.
fn secret_encryption(layout: &Layout) -> Result<SecretEncryption, ServerError> {
    let path = layout.cred("encryption.key");
    let failed = |source| ServerError::Write { path: path.clone(), source };
    if !path.exists() {
        let mut key = [0u8; 32];
        getrandom::fill(&mut key).map_err(|why| failed(std::io::Error::other(why.to_string())))?;
        linux::files::write_atomic(&path, &key, 0o600).map_err(failed)?;
    }
    let key = std::fs::read(&path).map_err(failed)?;
    SecretEncryption::new(&key).map_err(|why| failed(std::io::Error::other(why.to_string())))
}

fn write_kubeconfig(
    layout: &Layout,
    authorities: &Authorities,
    options: &Options,
    address: SocketAddr,
) -> Result<(), ServerError> {
    let admin = Subject::client("system:admin", &["system:masters"]);
    let pair = authorities.client.ensure(&layout.tls("client-admin.crt"), &layout.tls("client-admin.key"), &admin)?;
    let host = if address.is_ipv6() { "[::1]" } else { "127.0.0.1" };
    let server = format!("https://{host}:{}", address.port());
    let host = options.api.tls.certificate.as_ref().map(|_| tls::API_SERVER);
    let document = kubeconfig::document("default", &server, host, authorities.server.pem(), &pair);
    let failed = |source| ServerError::Write { path: options.kubeconfig.clone(), source };
    let text = api::codec::yaml::write(&document).map_err(|why| failed(std::io::Error::other(why.to_string())))?;
    if let Some(parent) = options.kubeconfig.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    linux::files::write_atomic(&options.kubeconfig, text.as_bytes(), options.kubeconfig_mode).map_err(failed)
}
