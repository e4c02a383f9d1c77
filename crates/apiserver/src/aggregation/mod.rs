//! API servers behind this one: an APIService that names a Service hands a group's version to it
//! (upstream: `k8s.io/kube-aggregator`).
//!
//! ```text
//! proxy         a request on its way to such a server, with the name of its user
//! availability  whether the servers answer, as their APIServices' conditions say
//! registration  APIServices for what this server serves itself
//! merge         what others serve, in this server's discovery and OpenAPI documents
//! trust         how such servers know whom to believe: `extension-apiserver-authentication`
//! ```
//!
//! The table of remote versions is read from the cache of APIServices, so it is right from the first request on and
//! needs nobody to keep it.

mod availability;
mod merge;
mod proxy;
mod registration;
mod trust;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::object::ObjectKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::metrics::Family;
use parking_lot::Mutex;
use rustls::sign::CertifiedKey;
use serde_json::Value;

use crate::authn::{MASTERS, User};
use crate::cache::{Filter, ResourceCache};
use crate::outbound::{Address, Callee, Outbound, ServiceReference, client_config, unverified_config};
use crate::server::ApiServer;

pub(crate) use proxy::{RemoteUser, handle};

/// How this server and those behind it know each other: `--requestheader-*` and `--proxy-client-*` of upstream.
#[derive(Clone)]
pub struct FrontProxy {
    /// The authority (PEM) whose certificates may speak for users.
    pub authority: String,
    /// The names of certificates that may; none: all that the authority signed.
    pub allowed_names: Vec<String>,
    /// What this server shows to servers behind it.
    pub certificate: Arc<CertifiedKey>,
}

/// A group's version that another server answers for.
pub(crate) struct Remote {
    /// Of the APIService.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    group_priority: i64,
    version_priority: i64,
    available: bool,
    callee: Result<Callee, String>,
    /// What the callee was made of.
    spec: Value,
}

/// The remote versions, by group and version.
pub(crate) type Remotes = BTreeMap<(String, String), Arc<Remote>>;

/// What a remote server said of itself when it was last asked.
#[derive(Clone, Default)]
struct Heard {
    /// Its `APIResourceList`.
    resources: Value,
    /// Its `/openapi/v2`.
    schemas: Value,
    /// The address of its OpenAPI v3 document, with the hash.
    document: String,
}

/// Everything about servers behind this one.
pub(crate) struct Aggregation {
    services: Arc<ResourceCache>,
    outbound: Arc<Outbound>,
    front: Option<FrontProxy>,
    read: Mutex<(u64, Arc<Remotes>)>,
    heard: Mutex<HashMap<String, Arc<Heard>>>,
}

impl Aggregation {
    pub(crate) fn new(services: Arc<ResourceCache>, outbound: Arc<Outbound>, front: Option<FrontProxy>) -> Self {
        Self { services, outbound, front, read: Mutex::default(), heard: Mutex::default() }
    }

    /// What others answer for now.
    pub(crate) fn remotes(&self) -> Arc<Remotes> {
        let revision = self.services.revision();
        let mut read = self.read.lock();
        if read.0 != revision {
            let listing = self.services.list(&Filter::default());
            let services = listing.entries.iter().map(|entry| entry.to_value());
            let known = read.1.clone();
            let remotes = services.filter_map(|service| self.remote(&service, &known));
            let remotes: Remotes =
                remotes.map(|remote| ((remote.group.clone(), remote.version.clone()), Arc::new(remote))).collect();
            self.heard.lock().retain(|name, _| remotes.values().any(|remote| remote.name == *name));
            *read = (listing.revision, Arc::new(remotes));
        }
        read.1.clone()
    }

    /// Whoever answers for a version, if that is not this server.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes();
        if remotes.is_empty() {
            return None;
        }
        remotes.get(&(group.to_owned(), version.to_owned())).cloned()
    }

    /// Whoever answers requests to a path.
    pub(crate) fn owner(&self, path: &str) -> Option<Arc<Remote>> {
        let mut words = path.split('/').filter(|word| !word.is_empty());
        match (words.next()?, words.next()?) {
            ("apis", group) => self.find(group, words.next()?),
            ("api", version) => self.find("", version),
            ("openapi", "v3") => match (words.next()?, words.next()?) {
                ("apis", group) => self.find(group, words.next()?),
                _ => None,
            },
            _ => None,
        }
    }

    /// The resources of a version that have a kind of such a name, as far as its server was heard, and whether they are
    /// in namespaces.
    pub(crate) fn resources(&self, remote: &Remote, named: impl Fn(&str) -> bool) -> Vec<(String, bool)> {
        let heard = self.heard.lock().get(&remote.name).cloned().unwrap_or_default();
        let resources = heard.resources["resources"].as_array().into_iter().flatten();
        let of_kind = resources.filter(|resource| resource["kind"].as_str().is_some_and(&named));
        let of_kind = of_kind.map(|it| (it["name"].as_str().unwrap_or_default().to_owned(), it["namespaced"] == true));
        of_kind.filter(|(name, _)| !name.contains('/')).collect()
    }

    fn remote(&self, service: &Value, known: &Remotes) -> Option<Remote> {
        let spec = &service["spec"];
        if !spec["service"].is_object() {
            return None;
        }
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (group, version) = (text(spec, "group"), text(spec, "version"));
        let same = known.get(&(group.clone(), version.clone())).filter(|known| known.spec == *spec);
        Some(Remote {
            name: text(&service["metadata"], "name"),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or(0),
            version_priority: spec["versionPriority"].as_i64().unwrap_or(0),
            available: is_available(service),
            // Connections are kept as long as it is the same callee.
            callee: same.map_or_else(|| self.callee(spec), |known| known.callee.clone()),
            spec: spec.clone(),
            group,
            version,
        })
    }

    fn callee(&self, spec: &Value) -> Result<Callee, String> {
        let reference = &spec["service"];
        let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
        let port = reference["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(443);
        let address = Address::Service(ServiceReference {
            namespace: text("namespace"),
            name: text("name"),
            port,
            path: "/".to_owned(),
        });
        let own = self.front.as_ref().map(|front| front.certificate.clone());
        let tls = match spec["insecureSkipTLSVerify"] == true {
            true => unverified_config(own),
            false => {
                let bundle = STANDARD.decode(spec["caBundle"].as_str().unwrap_or_default());
                let bundle = bundle.map_err(|why| format!("unable to load root certificates: {why}"))?;
                client_config(&bundle, own).map_err(|why| why.to_string())?
            }
        };
        Ok(Callee { address, tls })
    }
}

static UNAVAILABLE: Family = Family::gauge(
    "aggregator_unavailable_apiservice",
    "[ALPHA] 1 for an APIService whose server is not available",
    &["name"],
);
/// Counted where the condition is written.
static WENT_AWAY: Family = Family::counter(
    "aggregator_unavailable_apiservice_total",
    "[ALPHA] How often an APIService was found not available, by the reason",
    &["name", "reason"],
);

pub(crate) static FAMILIES: [&Family; 2] = [&UNAVAILABLE, &WENT_AWAY];

/// Tells which APIServices are available, of those that there are.
pub(crate) fn tell_unavailable(server: &ApiServer) {
    UNAVAILABLE.reset();
    for entry in server.aggregation.services.list(&Filter::default()).entries.iter() {
        let unavailable = !is_available(&entry.to_value());
        UNAVAILABLE.set(&[&entry.key.name], f64::from(u8::from(unavailable)));
    }
}

/// Whether the condition of an APIService says so.
fn is_available(service: &Value) -> bool {
    let mut conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Available" && condition["status"] == "True")
}

/// Adds what belongs to aggregation to the server's checks: it is well once each version of its own is available.
pub(crate) fn tell_health(server: &ApiServer) {
    let health = &server.health;
    for hook in [
        "start-cluster-authentication-info-controller",
        "apiservice-registration-controller",
        "apiservice-status-local-available-controller",
        "apiservice-status-remote-available-controller",
        "kube-apiserver-autoregistration",
    ] {
        health.begun(hook);
    }
    let services = server.aggregation.services.clone();
    let pending = Mutex::new(registration::own_names());
    health.check("autoregister-completion", move || {
        let mut pending = pending.lock();
        pending.retain(|name| !services.get(&ObjectKey::new("", name)).is_some_and(|it| is_available(&it.to_value())));
        match pending.is_empty() {
            true => Ok(()),
            false => Err(format!("missing APIService: [{}]", Vec::from_iter(pending.iter().cloned()).join(" "))),
        }
    });
}

/// Keeps what belongs to aggregation in order until the server stops.
pub(crate) async fn run(server: Arc<ApiServer>) {
    let (registration, trust) = (registration::run(&server), trust::run(&server));
    let kept = async { tokio::join!(registration, trust, availability::run(&server)) };
    server.stop.run_until_cancelled(kept).await;
}

/// As whom the server writes what it keeps itself.
fn itself() -> User {
    User::component("system:apiserver", &[MASTERS])
}
