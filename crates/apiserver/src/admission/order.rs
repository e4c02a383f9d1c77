//! The plugins, in upstream's order (`pkg/kubeapiserver/options/plugins.go`): those that are on by default.
//!
//! Not among them, because what they are about is off by default in 1.36: `PodGroupProtection`,
//! `PodGroupWorkloadExists` and `JobValidation`. `NodeDeclaredFeatureValidator` has nothing to compare: our kubelets have
//! no features that only some of them have.

use std::sync::{Arc, Weak};

use super::{
    CertificateSubjects, ClaimResizes, DefaultIngressClass, DefaultStorageClass, DefaultTolerations, LimitRanges,
    MutatingPolicies, MutatingWebhooks, NamespaceLifecycle, NodeRestriction, NodeTaints, Plugin, PodResizes,
    PodSecurity, PodTopology, Priority, ResourceQuotas, RuntimeClasses, ServiceAccounts, Signers, SigningRequests,
    StorageInUse, ValidatingPolicies, ValidatingWebhooks,
};
use crate::cache::{Caches, ResourceCache};
use crate::server::{ApiServer, StartError};
use crate::services::ServiceAddresses;

/// The plugins whose rules are objects of the cluster.
pub(crate) struct Configured {
    pub(crate) mutating_policies: MutatingPolicies,
    pub(crate) mutating_webhooks: MutatingWebhooks,
    pub(crate) validating_policies: ValidatingPolicies,
    pub(crate) validating_webhooks: ValidatingWebhooks,
}

/// Where the plugins look things up.
pub(crate) struct Sources {
    caches: Arc<Caches>,
    device_classes: Arc<ResourceCache>,
    ingress_classes: Arc<ResourceCache>,
    limit_ranges: Arc<ResourceCache>,
    namespaces: Arc<ResourceCache>,
    nodes: Arc<ResourceCache>,
    pods: Arc<ResourceCache>,
    priority_classes: Arc<ResourceCache>,
    quotas: Arc<ResourceCache>,
    resource_claims: Arc<ResourceCache>,
    runtime_classes: Arc<ResourceCache>,
    service_accounts: Arc<ResourceCache>,
    storage_classes: Arc<ResourceCache>,
}

impl Sources {
    /// `cache` finds a resource's cache by group and plural.
    pub(crate) fn new(
        caches: Arc<Caches>,
        cache: impl Fn(&str, &'static str) -> Result<Arc<ResourceCache>, StartError>,
    ) -> Result<Self, StartError> {
        Ok(Self {
            caches,
            device_classes: cache("resource.k8s.io", "deviceclasses")?,
            ingress_classes: cache("networking.k8s.io", "ingressclasses")?,
            limit_ranges: cache("", "limitranges")?,
            namespaces: cache("", "namespaces")?,
            nodes: cache("", "nodes")?,
            pods: cache("", "pods")?,
            priority_classes: cache("scheduling.k8s.io", "priorityclasses")?,
            quotas: cache("", "resourcequotas")?,
            resource_claims: cache("resource.k8s.io", "resourceclaims")?,
            runtime_classes: cache("node.k8s.io", "runtimeclasses")?,
            service_accounts: cache("", "serviceaccounts")?,
            storage_classes: cache("storage.k8s.io", "storageclasses")?,
        })
    }

    /// All plugins. Those that ask or write on their own do so by `server`.
    pub(crate) fn plugins(
        self,
        server: &Weak<ApiServer>,
        configured: Configured,
        addresses: ServiceAddresses,
    ) -> Vec<Arc<dyn Plugin>> {
        let Self { caches, namespaces, nodes, pods, storage_classes, .. } = self;
        vec![
            Arc::new(NamespaceLifecycle { caches: caches.clone(), namespaces: namespaces.clone() }),
            Arc::new(LimitRanges { ranges: self.limit_ranges }),
            Arc::new(ServiceAccounts { caches: caches.clone(), accounts: self.service_accounts }),
            Arc::new(NodeRestriction { pods: pods.clone() }),
            Arc::new(NodeTaints),
            Arc::new(PodSecurity { caches, namespaces, pods: pods.clone() }),
            Arc::new(Priority { classes: self.priority_classes }),
            Arc::new(DefaultTolerations),
            Arc::new(DefaultStorageClass { classes: storage_classes.clone() }),
            Arc::new(StorageInUse),
            Arc::new(ClaimResizes { classes: storage_classes }),
            Arc::new(RuntimeClasses { classes: self.runtime_classes }),
            // `CertificateApproval`, `CertificateSigning`, `ClusterTrustBundleAttest`.
            Arc::new(Signers { server: server.clone() }),
            Arc::new(CertificateSubjects),
            Arc::new(DefaultIngressClass { classes: self.ingress_classes }),
            Arc::new(PodTopology { nodes: nodes.clone() }),
            Arc::new(PodResizes { nodes }),
            Arc::new(configured.mutating_policies),
            Arc::new(configured.mutating_webhooks),
            Arc::new(configured.validating_policies),
            Arc::new(configured.validating_webhooks),
            // Behind the plugins: what upstream's registry itself gives requests for certificates and Services.
            Arc::new(SigningRequests),
            Arc::new(addresses),
            // Last: what is charged is to be stored.
            Arc::new(ResourceQuotas {
                server: server.clone(),
                quotas: self.quotas,
                pods,
                device_classes: self.device_classes,
                resource_claims: self.resource_claims,
                queues: super::quotas::Queues::default(),
            }),
        ]
    }
}
