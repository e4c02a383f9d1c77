//! Kubernetes controllers, one folder each.
//!
//! Every folder has the same form: `observe` is the only reader and reads informers, `plan` is a pure function from what
//! is wanted and seen to what is to be done, `apply` does it and makes no choices. The loop around them, which turns
//! changes into keys and errors into retries, is [`client::reconcile`]'s. Names, messages, events, conditions and annotations
//! are upstream's, because people and programs match on them.
//!
//! Each controller acts as its own ServiceAccount in `kube-system`, with upstream's role.

pub mod bootstraptokens;
pub mod certificatesigningrequests;
pub mod clusterroles;
mod common;
pub mod cronjobs;
pub mod daemonsets;
pub mod deployments;
pub mod disruption;
pub mod endpoints;
pub mod endpointslices;
pub mod ephemeralvolumes;
pub mod garbagecollector;
pub mod jobs;
pub mod legacytokens;
pub mod namespaces;
pub mod nodeipam;
pub mod nodelifecycle;
pub mod nodettl;
pub mod persistentvolumes;
pub mod podgc;
pub mod replicasets;
pub mod resourcequotas;
pub mod serviceaccounts;
pub mod serviceaccounttokens;
pub mod servicecidrs;
pub mod statefulsets;
pub mod storageprotection;
pub mod tainteviction;
#[cfg(test)]
mod testing;
pub mod ttlafterfinished;

use std::fmt;
use std::sync::Arc;

use api::object::ObjectKey;
use client::clock::Clock;
use client::events::{Recorder, Writer, recorder};
use client::informer::Informers;
use client::reconcile::Failure;
use client::request::{RequestError, Requests};
use client::supervise::{Condition, supervise};
use futures::future::BoxFuture;
use ipnet::IpNet;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Makes a client that acts as the ServiceAccount of this name in `kube-system`; as the controller manager itself if
/// there is no name.
pub type ClientFactory = Arc<dyn Fn(&str) -> kube::Client + Send + Sync>;

/// What controllers are given.
#[derive(Clone)]
pub struct Context {
    pub clients: ClientFactory,
    pub informers: Arc<dyn Informers>,
    pub clock: Arc<dyn Clock>,
    pub settings: Arc<Settings>,
}

/// What controllers can be told about the cluster.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PEM certificates by which pods verify the API server.
    pub root_ca: String,
    /// The ranges that nodes' pod ranges are cut from; empty leaves that to others.
    pub cluster_cidrs: Vec<IpNet>,
    /// Prefix lengths of a node's range, for IPv4 and IPv6.
    pub node_mask_v4: u8,
    pub node_mask_v6: u8,
    /// Who signs certificates; without one requests wait for others.
    pub signer: Option<Arc<dyn certificatesigningrequests::Sign>>,
    /// Who makes the tokens that are kept in Secrets; without one they stay empty.
    pub tokens: Option<Arc<dyn serviceaccounttokens::MakeToken>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            root_ca: String::new(),
            cluster_cidrs: Vec::new(),
            node_mask_v4: 24,
            node_mask_v6: 64,
            signer: None,
            tokens: None,
        }
    }
}

/// Why a reconciliation failed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("cannot encode an object")]
    Encode(#[from] serde_json::Error),
    #[error("{kind} {key} is not what it was when it was looked at")]
    Stale { kind: &'static str, key: ObjectKey },
    /// Several parts failed on their own.
    #[error("{}", .0.join("; "))]
    Several(Vec<String>),
}

impl Failure for ReconcileError {
    fn is_stale(&self) -> bool {
        match self {
            Self::Stale { .. } => true,
            Self::Request(error) => error.is_stale(),
            Self::Encode(_) | Self::Several(_) => false,
        }
    }
}

/// One controller: a row of [`CONTROLLERS`].
pub struct Row {
    /// Upstream's name of the controller, by which it is enabled and its events are signed.
    pub name: &'static str,
    pub run: fn(Context, CancellationToken) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! rows {
    ($($name:literal => $run:path),* $(,)?) => {
        &[$(Row { name: $name, run: |context, token| Box::pin($run(context, token)) }),*]
    };
}

/// All controllers.
pub const CONTROLLERS: &[Row] = rows! {
    "bootstrap-signer-controller" => bootstraptokens::run_signer,
    "certificatesigningrequest-approving-controller" => certificatesigningrequests::run_approver,
    "certificatesigningrequest-cleaner-controller" => certificatesigningrequests::run_cleaner,
    "certificatesigningrequest-signing-controller" => certificatesigningrequests::run_signer,
    "clusterrole-aggregation-controller" => clusterroles::run,
    "cronjob-controller" => cronjobs::run,
    "daemonset-controller" => daemonsets::run,
    "deployment-controller" => deployments::run,
    "disruption-controller" => disruption::run,
    "endpoints-controller" => endpoints::run,
    "endpointslice-controller" => endpointslices::run,
    "endpointslice-mirroring-controller" => endpointslices::mirroring::run,
    "ephemeral-volume-controller" => ephemeralvolumes::run,
    "garbage-collector-controller" => garbagecollector::run,
    "job-controller" => jobs::run,
    "legacy-serviceaccount-token-cleaner-controller" => legacytokens::run,
    "namespace-controller" => namespaces::run,
    "node-ipam-controller" => nodeipam::run,
    "node-lifecycle-controller" => nodelifecycle::run,
    "persistentvolume-binder-controller" => persistentvolumes::run,
    "persistentvolume-protection-controller" => storageprotection::run_volumes,
    "persistentvolumeclaim-protection-controller" => storageprotection::run_claims,
    "pod-garbage-collector-controller" => podgc::run,
    "replicaset-controller" => replicasets::run,
    "replicationcontroller-controller" => replicasets::run_replication_controllers,
    "resourcequota-controller" => resourcequotas::run,
    "root-ca-certificate-publisher-controller" => serviceaccounts::run_root_ca_publisher,
    "service-cidr-controller" => servicecidrs::run,
    "serviceaccount-controller" => serviceaccounts::run,
    "serviceaccount-token-controller" => serviceaccounttokens::run,
    "statefulset-controller" => statefulsets::run,
    "taint-eviction-controller" => tainteviction::run,
    "token-cleaner-controller" => bootstraptokens::run_cleaner,
    "ttl-after-finished-controller" => ttlafterfinished::run,
    "ttl-controller" => nodettl::run,
    "volumeattributesclass-protection-controller" => storageprotection::run_classes,
};

/// Runs all controllers until `token` is cancelled; `condition` is told of those that do not run meanwhile. They must not
/// run twice in a cluster: hold a Lease.
pub async fn run(context: Context, condition: Arc<dyn Condition>, token: CancellationToken) {
    let mut tasks = JoinSet::new();
    for row in CONTROLLERS {
        let (context, condition, token) = (context.clone(), condition.clone(), token.clone());
        tasks.spawn(async move {
            supervise(row.name, &*context.clock, &*condition, &token, |run| (row.run)(context.clone(), run)).await;
        });
    }
    tasks.join_all().await;
}

/// The means of one controller: requests and events in its own name.
pub(crate) struct Session {
    pub(crate) requests: Requests,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Context {
    /// For the ServiceAccount `account`, with events signed by `component`. The writer is to be run beside the loop.
    pub(crate) fn session(&self, account: &str, component: &str) -> (Session, Writer) {
        let client = (self.clients)(account);
        let (recorder, writer) = recorder(client.clone(), self.clock.clone(), component, "");
        (Session { requests: Requests::new(client), recorder, clock: self.clock.clone() }, writer)
    }
}
