//! The plugins, in upstream's order (`pkg/kubeapiserver/options/plugins.go`).
//!
//! Not among them, because what they are about is off by default in 1.36: `PodGroupProtection`,
//! `PodGroupWorkloadExists` and `JobValidation`.

use std::sync::{Arc, Weak};

use super::eventratelimit::EventRateLimit;
use super::imagepolicy::ImagePolicy;
use super::optional::{
    AlwaysAdmit, AlwaysDeny, AlwaysPullImages, AntiAffinity, DeviceTolerations, ExternalIps, Namespaces, NodeSelectors,
};
use super::owners::OwnerReferences;
use super::podtolerations::PodTolerations;
use super::{
    CertificateSubjects, ClaimResizes, Configuration, DeclaredFeatures, DefaultIngressClass, DefaultStorageClass,
    DefaultTolerations, LimitRanges, MutatingPolicies, MutatingWebhooks, NamespaceLifecycle, NodeRestriction,
    NodeTaints, Options, Placed, PodResizes, PodSecurity, PodTopology, Priority, ResourceQuotas, RuntimeClasses,
    ServiceAccounts, Signers, SigningRequests, Steps, StorageInUse, ValidatingPolicies, ValidatingWebhooks,
};
use crate::cache::{Caches, ResourceCache};
use crate::server::{ApiServer, StartError};
use crate::services::ServiceAddresses;

/// The plugins whose rules are objects of the cluster, or another server's.
pub(crate) struct Configured {
    /// Absent where nobody is told whom to ask: then it is off.
    pub(crate) image_policy: Option<ImagePolicy>,
    pub(crate) mutating_policies: MutatingPolicies,
    pub(crate) mutating_webhooks: MutatingWebhooks,
    pub(crate) validating_policies: ValidatingPolicies,
    pub(crate) validating_webhooks: ValidatingWebhooks,
}

/// Where the plugins look things up.
pub(crate) struct Sources {
    caches: Arc<Caches>,
    claims: Arc<ResourceCache>,
    drivers: Arc<ResourceCache>,
    volumes: Arc<ResourceCache>,
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
            claims: cache("", "persistentvolumeclaims")?,
            drivers: cache("storage.k8s.io", "csidrivers")?,
            volumes: cache("", "persistentvolumes")?,
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

    /// The plugins that are on. Those that ask or write on their own do so by `server`.
    pub(crate) fn plugins(
        self,
        server: &Weak<ApiServer>,
        configured: Configured,
        addresses: ServiceAddresses,
        options: &Options,
        told: Configuration,
    ) -> Vec<Placed> {
        let mut plugins = self.all(server, configured, addresses, options, told);
        plugins.retain(|placed| options.has(placed.name()));
        plugins
    }

    /// Those that upstream has, and what stands behind them.
    fn all(
        self,
        server: &Weak<ApiServer>,
        configured: Configured,
        addresses: ServiceAddresses,
        options: &Options,
        told: Configuration,
    ) -> Vec<Placed> {
        let Self { caches, namespaces, nodes, pods, storage_classes, .. } = self;
        let existing = |server: Option<&Weak<ApiServer>>| Namespaces {
            caches: caches.clone(),
            namespaces: namespaces.clone(),
            server: server.cloned(),
        };
        let signer = |verb: &'static str| Signers { server: server.clone(), verb };
        let image_policy =
            configured.image_policy.map(|plugin| Placed::new("ImagePolicyWebhook", Steps::Validate, plugin));
        let mut all = vec![
            Placed::new("AlwaysAdmit", Steps::Both, AlwaysAdmit),
            Placed::new("NamespaceAutoProvision", Steps::Admit, existing(Some(server))),
            Placed::new(
                "NamespaceLifecycle",
                Steps::Admit,
                NamespaceLifecycle { caches: caches.clone(), namespaces: namespaces.clone() },
            ),
            Placed::new("NamespaceExists", Steps::Validate, existing(None)),
            Placed::new("LimitPodHardAntiAffinityTopology", Steps::Validate, AntiAffinity),
            Placed::new("LimitRanger", Steps::Both, LimitRanges { ranges: self.limit_ranges }),
            Placed::new(
                "ServiceAccount",
                Steps::Both,
                ServiceAccounts { caches: caches.clone(), accounts: self.service_accounts },
            ),
            Placed::new(
                "NodeRestriction",
                Steps::Admit,
                NodeRestriction {
                    server: server.clone(),
                    pods: pods.clone(),
                    nodes: nodes.clone(),
                    claims: self.claims,
                    volumes: self.volumes,
                    drivers: self.drivers,
                },
            ),
            Placed::new("TaintNodesByCondition", Steps::Admit, NodeTaints),
            Placed::new("AlwaysPullImages", Steps::Both, AlwaysPullImages),
        ];
        all.extend(image_policy);
        all.extend([
            Placed::new(
                "PodSecurity",
                Steps::Validate,
                PodSecurity {
                    caches: caches.clone(),
                    namespaces: namespaces.clone(),
                    pods: pods.clone(),
                    defaults: told.policy,
                    exemptions: told.exemptions,
                },
            ),
            Placed::new(
                "PodNodeSelector",
                Steps::Both,
                NodeSelectors { caches: caches.clone(), namespaces: namespaces.clone(), told: told.node_selectors },
            ),
            Placed::new("Priority", Steps::Both, Priority { caches: caches.clone(), classes: self.priority_classes }),
            Placed::new(
                "DefaultTolerationSeconds",
                Steps::Admit,
                DefaultTolerations { not_ready: options.not_ready_seconds, unreachable: options.unreachable_seconds },
            ),
            Placed::new(
                "PodTolerationRestriction",
                Steps::Both,
                PodTolerations { caches: caches.clone(), namespaces, told: told.pod_tolerations },
            ),
            Placed::new("EventRateLimit", Steps::Validate, EventRateLimit::new(told.event_limits)),
            Placed::new("ExtendedResourceToleration", Steps::Admit, DeviceTolerations),
            Placed::new("DefaultStorageClass", Steps::Admit, DefaultStorageClass { classes: storage_classes.clone() }),
            Placed::new("StorageObjectInUseProtection", Steps::Admit, StorageInUse),
            Placed::new(
                "OwnerReferencesPermissionEnforcement",
                Steps::Validate,
                OwnerReferences { server: server.clone() },
            ),
            Placed::new("PersistentVolumeClaimResize", Steps::Validate, ClaimResizes { classes: storage_classes }),
            Placed::new(
                "RuntimeClass",
                Steps::Both,
                RuntimeClasses { caches: caches.clone(), classes: self.runtime_classes },
            ),
            Placed::new("CertificateApproval", Steps::Validate, signer("approve")),
            Placed::new("CertificateSigning", Steps::Validate, signer("sign")),
            Placed::new("ClusterTrustBundleAttest", Steps::Validate, signer("attest")),
            Placed::new("CertificateSubjectRestriction", Steps::Validate, CertificateSubjects),
            Placed::new("DefaultIngressClass", Steps::Admit, DefaultIngressClass { classes: self.ingress_classes }),
            Placed::new("DenyServiceExternalIPs", Steps::Validate, ExternalIps),
            Placed::new("PodTopologyLabels", Steps::Admit, PodTopology { nodes: nodes.clone() }),
            Placed::new("NodeDeclaredFeatureValidator", Steps::Validate, DeclaredFeatures { nodes: nodes.clone() }),
            Placed::new("PodResizeValidator", Steps::Validate, PodResizes { nodes }),
            Placed::new("MutatingAdmissionPolicy", Steps::Admit, configured.mutating_policies),
            Placed::new("MutatingAdmissionWebhook", Steps::Admit, configured.mutating_webhooks),
            Placed::new("ValidatingAdmissionPolicy", Steps::Validate, configured.validating_policies),
            Placed::new("ValidatingAdmissionWebhook", Steps::Validate, configured.validating_webhooks),
            // Behind the plugins: what upstream's registry itself gives requests for certificates and Services.
            Placed::new("", Steps::Both, SigningRequests),
            Placed::new("", Steps::Both, addresses),
            // Behind all that may refuse: what is charged is to be stored.
            Placed::new(
                "ResourceQuota",
                Steps::Validate,
                ResourceQuotas {
                    server: server.clone(),
                    quotas: self.quotas,
                    pods,
                    device_classes: self.device_classes,
                    resource_claims: self.resource_claims,
                    queues: super::quotas::Queues::default(),
                    limits: told.quota_limits,
                },
            ),
            Placed::new("AlwaysDeny", Steps::Both, AlwaysDeny),
        ]);
        all
    }
}
