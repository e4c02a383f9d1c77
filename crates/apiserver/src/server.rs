//! The server put together: caches over a store, the chain's parts, and what is served.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use api::forms::FormName;
use api::object::ObjectKey;
use api::resource::Resource;
use ipnet::IpNet;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use store::Backend;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::admission::{
    self, Admission, AdmissionError, Configured, ImagePolicy, MutatingPolicies, MutatingWebhooks, PolicyParts, Sources,
    ValidatingPolicies, ValidatingWebhooks, WebhookParts, typechecking,
};
use crate::aggregation::{self, Aggregation, FrontProxy};
use crate::audit::{self, Audit, AuditError};
use crate::authn::serviceaccounts::{self, KeyError, ServiceAccountTokens};
use crate::authn::tokens::StaticTokens;
use crate::authn::x509::ClientCas;
use crate::authn::{self, AuthenticationError, Authenticator, BootstrapTokens, FrontProxies, User, tracking};
use crate::authz::{self, AuthorizationError, Authorizer, NodeAuthorizer, Rbac};
use crate::cache::{Caches, LocalInformers, ResourceCache, Transformer};
use crate::crds;
use crate::datastore::Measured;
use crate::discovery::Discovery;
use crate::encryption::{self, EncryptionError};
use crate::expiry;
use crate::flowcontrol::{self, Capacity, FlowControl};
use crate::health::Health;
use crate::identity;
use crate::limits::Times;
use crate::nonresource;
use crate::openapi::Documents;
use crate::outbound::{Outbound, Places};
use crate::registry::{Catalogue, Registry, Served};
use crate::reload::Follower;
use crate::serve::TlsOptions;
use crate::services::{self, Ranges, ServiceAddresses};
use crate::streaming::NodeDialer;

/// What a server is told.
pub struct Config {
    /// `v1.36.3+k3rs1`
    pub version: String,
    /// Whose client certificates name users.
    pub client_cas: Vec<CertificateDer<'static>>,
    /// Their authorities as PEM, as other servers are told of them.
    pub client_authority: String,
    /// How this server and those behind it know each other; without it there are none that want to know.
    pub front_proxy: Option<FrontProxy>,
    /// Bearer tokens that are known beforehand.
    pub tokens: Vec<(String, User)>,
    /// The P-256 key that signs ServiceAccount tokens, in PKCS #8.
    pub service_account_key: Vec<u8>,
    pub issuer: String,
    pub audiences: Vec<String>,
    /// `HOST:PORT` where others reach this server.
    pub external_address: String,
    /// Of the machine or node that the server runs on, by which it is told from others.
    pub hostname: String,
    /// Where ClusterIPs come from, primary family first.
    pub service_cidrs: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
    pub transformer: Arc<dyn Transformer>,
    /// How nodes are reached.
    pub dialer: Arc<dyn NodeDialer>,
    pub settings: Settings,
}

/// What upstream's kube-apiserver takes as flags and a cluster may want otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub audit: audit::Options,
    pub capacity: Capacity,
    pub authentication: authn::Options,
    pub authorization: authz::Options,
    pub encryption: encryption::Options,
    /// Where others find the keys of ServiceAccount tokens, if not at this server (`--service-account-jwks-uri`).
    pub keys_uri: Option<String>,
    /// How long history is kept at least, and twice as long at most; for ever where this is 0.
    pub history: Duration,
    pub admission: admission::Options,
    pub tokens: serviceaccounts::Options,
    /// What `/flagz` tells: the flags by name, with their values.
    pub flags: BTreeMap<&'static str, String>,
    pub times: Times,
    /// How many of the requests over HTTP/2 end their connection, of 1, so that clients spread over servers anew
    /// (`--goaway-chance`).
    pub goaway_chance: f64,
    /// How long the server serves on that is to end and says so (`--shutdown-delay-duration`).
    pub shutdown_delay: Duration,
    pub tls: TlsOptions,
    /// How long events stay after their last write (`--event-ttl`); for ever where this is 0.
    pub event_ttl: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            audit: audit::Options::default(),
            capacity: Capacity::default(),
            authentication: authn::Options::default(),
            authorization: authz::Options::default(),
            encryption: encryption::Options::default(),
            keys_uri: None,
            history: HISTORY,
            admission: admission::Options::default(),
            tokens: serviceaccounts::Options::default(),
            flags: BTreeMap::new(),
            event_ttl: EVENT_TTL,
            times: Times::default(),
            goaway_chance: 0.0,
            shutdown_delay: Duration::ZERO,
            tls: TlsOptions::default(),
        }
    }
}

/// Upstream's `--etcd-compaction-interval`.
const HISTORY: Duration = Duration::from_secs(300);
/// Upstream's `--event-ttl`.
const EVENT_TTL: Duration = Duration::from_secs(3600);

/// A running API server. Requests reach it through [`crate::service::ApiService`].
pub struct ApiServer {
    pub registry: Registry,
    pub authenticator: Authenticator,
    pub authorizer: Arc<Authorizer>,
    /// The document at `/version`.
    pub version: Value,
    /// Where others find the keys of ServiceAccount tokens.
    pub(crate) keys_uri: String,
    pub(crate) external_address: String,
    pub(crate) hostname: String,
    pub(crate) tokens: serviceaccounts::Options,
    pub(crate) flags: BTreeMap<&'static str, String>,
    pub(crate) times: Times,
    pub(crate) goaway_chance: f64,
    pub(crate) started: Timestamp,
    pub(crate) dialer: Arc<dyn NodeDialer>,
    pub(crate) aggregation: Aggregation,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) client_authority: String,
    pub(crate) audit: Option<Audit>,
    pub(crate) flow_control: FlowControl,
    pub(crate) documents: Arc<Documents>,
    pub(crate) discovery: Discovery,
    /// Streams that outlive the request that began them.
    pub(crate) streams: TaskTracker,
    /// Where ClusterIPs come from, primary family first, as the server was told.
    pub(crate) service_cidrs: Vec<IpNet>,
    pub(crate) node_ports: RangeInclusive<u16>,
    /// What `/livez`, `/readyz` and `/healthz` tell.
    pub health: Health,
    pub(crate) stop: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("reading the datastore: {0}")]
    Store(#[from] store::Error),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    #[error(transparent)]
    Authorization(#[from] AuthorizationError),
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    #[error("the table of resources lacks {0}, which the server itself reads")]
    MissingResource(&'static str),
}

impl ApiServer {
    /// Loads what is stored and begins to follow the store on `tasks`, until `stop`.
    pub async fn start(
        config: Config,
        store: Arc<dyn Backend>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let store = Measured::over(store);
        let from = store.current();
        let files = Follower::new(&identity::name(&config.hostname), tasks.clone(), stop.clone());
        let transformer = config.settings.encryption.open(config.transformer, &files)?;
        let caches = Caches::new(store.clone(), transformer);
        caches.recall().await?;
        let catalogue = Arc::new(Catalogue::default());
        for row in api::resources::builtin() {
            let cache = match is_stored(row) {
                true => Some(caches.add(&row.storage_group, &row.plural, row.selectable.clone()).await?),
                false => None,
            };
            catalogue.add(versions(Arc::new(row.clone()), cache.as_ref()));
        }
        let following = TaskTracker::new();
        let follower = caches.clone();
        let token = stop.clone();
        tasks.spawn(following.track_future(async move {
            if let Err(why) = follower.follow(from, token).await {
                error!(%why, "watch cache stopped: reads are no longer fresh");
            }
        }));
        following.close();

        let cache = |group: &str, plural: &'static str| {
            let served = catalogue.preferred(group, plural);
            served.and_then(|served| served.cache.clone()).ok_or(StartError::MissingResource(plural))
        };
        const RBAC: &str = "rbac.authorization.k8s.io";
        let rbac = Rbac::new(
            cache(RBAC, "roles")?,
            cache(RBAC, "clusterroles")?,
            cache(RBAC, "rolebindings")?,
            cache(RBAC, "clusterrolebindings")?,
        );
        let accounts = cache("", "serviceaccounts")?;
        let bindable = [
            ("serviceaccounts", accounts.clone()),
            ("pods", cache("", "pods")?),
            ("secrets", cache("", "secrets")?),
            ("nodes", cache("", "nodes")?),
        ];
        let lookup = move |resource: &str, key: &ObjectKey| {
            bindable.iter().find(|(name, _)| *name == resource).and_then(|(_, cache)| cache.get(key))
        };
        let tokens = config.settings.tokens;
        let stated = |stated: &[String], usual| if stated.is_empty() { usual } else { stated.to_vec() };
        let issuers = stated(&tokens.issuers, vec![config.issuer]);
        let audiences = stated(&tokens.audiences, config.audiences);
        let own_issuers = issuers.clone();
        let service_accounts =
            ServiceAccountTokens::new(&config.service_account_key, issuers, audiences, Box::new(lookup))?;
        let places = Places {
            services: cache("", "services")?,
            slices: cache("discovery.k8s.io", "endpointslices")?,
            nodes: cache("", "nodes")?,
        };
        let outbound = Outbound::new(config.dialer.clone(), places, tasks.clone(), stop.clone());
        let audit = Audit::open(&config.settings.audit, &outbound, tasks, stop.clone())?;
        let (anonymous, others) = {
            let authentication = &config.settings.authentication;
            authentication.open(&own_issuers, &outbound, &files)?
        };
        let secrets = cache("", "secrets")?;
        let bootstrap_tokens =
            (!config.settings.authentication.no_bootstrap_tokens).then(|| BootstrapTokens::new(secrets));
        let nodes = NodeAuthorizer::new(
            cache("", "pods")?,
            cache("", "persistentvolumeclaims")?,
            cache("storage.k8s.io", "volumeattachments")?,
            cache("resource.k8s.io", "resourceslices")?,
        );
        let (uses, tellers) = tracking::channel();
        let authorizer = config.settings.authorization.open(nodes, rbac, &outbound, &files)?;
        let webhooks = WebhookParts {
            catalogue: catalogue.clone(),
            namespaces: cache("", "namespaces")?,
            outbound: outbound.clone(),
            authorizer: authorizer.clone(),
        };
        const ADMISSION: &str = "admissionregistration.k8s.io";
        let mutating = cache(ADMISSION, "mutatingwebhookconfigurations")?;
        let validating = cache(ADMISSION, "validatingwebhookconfigurations")?;
        let front_proxies = match &config.front_proxy {
            Some(front) => {
                let authorities = CertificateDer::pem_slice_iter(front.authority.as_bytes()).flatten().collect();
                FrontProxies::new(ClientCas::new(authorities), front.allowed_names.clone())
            }
            None => FrontProxies::default(),
        };
        let aggregation =
            Aggregation::new(cache("apiregistration.k8s.io", "apiservices")?, outbound.clone(), config.front_proxy);
        let policies = PolicyParts {
            catalogue: catalogue.clone(),
            namespaces: cache("", "namespaces")?,
            authorizer: authorizer.clone(),
        };
        let plugins = config.settings.admission;
        let mut told = plugins.open()?;
        let image_policy = told.image_policy.take();
        let configured = Configured {
            image_policy: image_policy.map(|told| ImagePolicy::open(told, outbound.clone())).transpose()?,
            mutating_policies: MutatingPolicies::new(
                policies.clone(),
                cache(ADMISSION, "mutatingadmissionpolicies")?,
                cache(ADMISSION, "mutatingadmissionpolicybindings")?,
            ),
            validating_policies: ValidatingPolicies::new(
                policies,
                cache(ADMISSION, "validatingadmissionpolicies")?,
                cache(ADMISSION, "validatingadmissionpolicybindings")?,
            ),
            mutating_webhooks: MutatingWebhooks::new(webhooks.clone(), mutating),
            validating_webhooks: ValidatingWebhooks::new(webhooks, validating),
        };
        let (events, event_ttl) = (cache("", "events")?, config.settings.event_ttl);
        let sources = Sources::new(caches.clone(), cache)?;
        const NETWORKING: &str = "networking.k8s.io";
        let service_cidrs = config.service_cidrs;
        let ranges =
            Ranges::new(service_cidrs.clone(), cache(NETWORKING, "servicecidrs")?, cache(NETWORKING, "ipaddresses")?);
        let addresses =
            ServiceAddresses::new(caches.clone(), cache("", "services")?, ranges, config.node_ports.clone());
        let at_this_server = || format!("https://{}{}", config.external_address, nonresource::KEYS_PATH);
        let keys_uri = config.settings.keys_uri.unwrap_or_else(at_this_server);
        let health = Health::new(store.clone(), following);
        health.begun("generic-apiserver-start-informers");
        let server = Arc::new_cyclic(|server| Self {
            keys_uri,
            discovery: Discovery::of(&config.external_address),
            external_address: config.external_address,
            hostname: config.hostname,
            tokens,
            flags: config.settings.flags,
            times: config.settings.times,
            goaway_chance: config.settings.goaway_chance,
            started: Timestamp::now(),
            aggregation,
            outbound,
            client_authority: config.client_authority,
            authenticator: Authenticator {
                front_proxies,
                client_cas: ClientCas::new(config.client_cas),
                static_tokens: StaticTokens::new(config.tokens),
                service_accounts: Arc::new(service_accounts),
                bootstrap_tokens,
                uses,
                others,
                anonymous,
            },
            authorizer,
            version: version_document(&config.version),
            registry: Registry {
                store,
                caches,
                catalogue,
                watch_life: config.settings.times.watch,
                admission: Admission { plugins: sources.plugins(server, configured, addresses, &plugins, told) },
            },
            dialer: config.dialer,
            audit,
            flow_control: FlowControl::new(config.settings.capacity, tasks.clone()),
            documents: Arc::default(),
            streams: tasks.clone(),
            service_cidrs,
            node_ports: config.node_ports,
            stop: stop.clone(),
            health,
        });
        let definitions = crds::Definitions::load(server.clone()).await?;
        server.registry.caches.forget_past();
        server.health.begun("crd-informer-synced");
        tasks.spawn(definitions.run(tasks.clone(), stop.clone()));
        server.health.begun("start-apiextensions-controllers");
        tasks.spawn(tellers.run(server.clone(), stop.clone()));
        tasks.spawn(expiry::run(server.clone(), events, event_ttl, stop.clone()));
        tasks.spawn(services::keep(server.clone(), tasks.clone(), stop));
        server.health.begun("start-service-ip-repair-controllers");
        Ok(server)
    }

    /// Begins to keep what extends the server (APIServices, their availability, whom others are to believe), by what
    /// rules requests are served, and since when uses of old tokens are told.
    pub fn extend(self: &Arc<Self>) {
        aggregation::tell_health(self);
        self.streams.spawn(aggregation::run(self.clone()));
        self.streams.spawn(flowcontrol::keep(self.clone()));
        self.health.begun("priority-and-fairness-config-consumer");
        self.streams.spawn(tracking::keep(self.clone()));
        self.health.begun("start-legacy-token-tracking-controller");
        self.streams.spawn(identity::keep(self.clone()));
        self.health.begun("start-kube-apiserver-identity-lease-controller");
        self.health.begun("start-kube-apiserver-identity-lease-garbage-collector");
    }

    /// Tells in the status of policies what is likely wrong with their expressions, until `stop`. Upstream that is one
    /// of the controllers; here it needs the schemas of all kinds, which the server has.
    pub async fn check_policies(self: Arc<Self>, tasks: TaskTracker, stop: CancellationToken) {
        typechecking::keep(self, tasks, stop).await;
    }

    /// Informers over the watch cache, whose subscriptions run on `tasks` until `stop`.
    pub fn informers(self: &Arc<Self>, tasks: TaskTracker, stop: CancellationToken) -> Arc<LocalInformers> {
        let server = self.clone();
        let resolve = move |resource: &api::resource::GroupVersionResource| {
            let served = server.registry.catalogue.find(&resource.group, &resource.version, &resource.resource)?;
            served.cache.clone()
        };
        LocalInformers::new(Arc::new(resolve), tasks, stop)
    }
}

/// Reviews and other questions are answered, not stored; what can be watched is.
fn is_stored(row: &Resource) -> bool {
    row.verbs.contains("watch")
}

fn versions(row: Arc<Resource>, cache: Option<&Arc<ResourceCache>>) -> Vec<Served> {
    row.versions
        .iter()
        .map(|version| Served {
            row: row.clone(),
            version: version.clone(),
            built_in: api::schema::builtin_model(&version.type_name),
            cache: cache.cloned(),
            custom: None,
            form: FormName::mint(),
        })
        .collect()
}

/// The architecture in Go's words, which clients expect.
fn go_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn version_document(version: &str) -> Value {
    let mut numbers = version.trim_start_matches('v').split('.');
    json!({
        "major": numbers.next().unwrap_or_default(),
        "minor": numbers.next().unwrap_or_default(),
        "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": version,
        "gitCommit": option_env!("K3RS_COMMIT").unwrap_or_default(),
        "gitTreeState": "clean",
        "buildDate": option_env!("K3RS_BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        // Clients parse this field; the compiler is named where Go's is.
        "goVersion": "rustc",
        "compiler": "rustc",
        "platform": format!("linux/{}", go_architecture()),
    })
}
