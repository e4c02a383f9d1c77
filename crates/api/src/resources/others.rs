//! The rows of the groups whose kinds need few hooks or none, group by group.

use super::hooks::{Generation, Hooks, PLAIN};
use super::row::{Row, cluster, namespaced};
use crate::resource::{Resource, Verbs};

/// Kinds whose writers must have read what they overwrite.
static STRICT: Hooks = Hooks { unconditional_update: false, ..PLAIN };
static COUNTED: Hooks = Hooks { generation: Generation::Counted, ..PLAIN };
static STRICT_COUNTED: Hooks = Hooks { generation: Generation::Counted, unconditional_update: false, ..PLAIN };
static CREATE_ON_UPDATE: Hooks = Hooks { create_on_update: true, unconditional_update: false, ..PLAIN };

pub(super) fn apiregistration() -> Vec<Resource> {
    vec![cluster("apiregistration.k8s.io", "apiservices", "APIService").category("api-extensions").status()]
}

/// The core group's Events under a second name and in a second shape.
pub(super) fn events() -> Vec<Resource> {
    let mut row = namespaced("events.k8s.io", "events", "Event").short(&["ev"]).select(&["reason", "type"]);
    for field in ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"] {
        row = row.select_as(&format!("regarding.{field}"), &format!("/involvedObject/{field}"), "");
    }
    row = row.select_as("reportingController", "/reportingComponent", "");
    row.storage_group = String::new();
    vec![row]
}

pub(super) fn authentication() -> Vec<Resource> {
    const GROUP: &str = "authentication.k8s.io";
    vec![
        review(cluster(GROUP, "selfsubjectreviews", "SelfSubjectReview")),
        review(cluster(GROUP, "tokenreviews", "TokenReview")),
    ]
}

pub(super) fn authorization() -> Vec<Resource> {
    const GROUP: &str = "authorization.k8s.io";
    vec![
        review(namespaced(GROUP, "localsubjectaccessreviews", "LocalSubjectAccessReview")),
        review(cluster(GROUP, "selfsubjectaccessreviews", "SelfSubjectAccessReview")),
        review(cluster(GROUP, "selfsubjectrulesreviews", "SelfSubjectRulesReview")),
        review(cluster(GROUP, "subjectaccessreviews", "SubjectAccessReview")),
    ]
}

/// Posted, answered, never stored.
fn review(mut row: Resource) -> Resource {
    row.verbs = Verbs::CREATE;
    row
}

pub(super) fn certificates() -> Vec<Resource> {
    vec![
        cluster("certificates.k8s.io", "certificatesigningrequests", "CertificateSigningRequest")
            .short(&["csr"])
            .status()
            .own("approval", Verbs::STATUS)
            .select(&["spec.signerName"]),
    ]
}

pub(super) fn policy() -> Vec<Resource> {
    vec![
        namespaced("policy", "poddisruptionbudgets", "PodDisruptionBudget")
            .short(&["pdb"])
            .status()
            .hooks(&STRICT_COUNTED),
    ]
}

pub(super) fn storage() -> Vec<Resource> {
    const GROUP: &str = "storage.k8s.io";
    vec![
        cluster(GROUP, "csidrivers", "CSIDriver").hooks(&STRICT),
        cluster(GROUP, "csinodes", "CSINode").hooks(&STRICT),
        namespaced(GROUP, "csistoragecapacities", "CSIStorageCapacity").hooks(&STRICT),
        cluster(GROUP, "storageclasses", "StorageClass").short(&["sc"]),
        cluster(GROUP, "volumeattachments", "VolumeAttachment").status().hooks(&STRICT),
        cluster(GROUP, "volumeattributesclasses", "VolumeAttributesClass").short(&["vac"]),
    ]
}

pub(super) fn admissionregistration() -> Vec<Resource> {
    const GROUP: &str = "admissionregistration.k8s.io";
    let extension = |plural, kind| cluster(GROUP, plural, kind).category("api-extensions").hooks(&STRICT_COUNTED);
    vec![
        extension("mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
        extension("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
        extension("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        extension("validatingadmissionpolicies", "ValidatingAdmissionPolicy").status(),
        extension("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
        extension("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    ]
}

pub(super) fn apiextensions() -> Vec<Resource> {
    vec![
        cluster("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition")
            .short(&["crd", "crds"])
            .category("api-extensions")
            .status()
            .hooks(&COUNTED),
    ]
}

pub(super) fn scheduling() -> Vec<Resource> {
    vec![cluster("scheduling.k8s.io", "priorityclasses", "PriorityClass").short(&["pc"]).hooks(&COUNTED)]
}

pub(super) fn coordination() -> Vec<Resource> {
    vec![namespaced("coordination.k8s.io", "leases", "Lease").hooks(&CREATE_ON_UPDATE)]
}

pub(super) fn node() -> Vec<Resource> {
    vec![cluster("node.k8s.io", "runtimeclasses", "RuntimeClass").hooks(&CREATE_ON_UPDATE)]
}

pub(super) fn discovery() -> Vec<Resource> {
    vec![namespaced("discovery.k8s.io", "endpointslices", "EndpointSlice")]
}

pub(super) fn resource() -> Vec<Resource> {
    const GROUP: &str = "resource.k8s.io";
    vec![
        cluster(GROUP, "deviceclasses", "DeviceClass").hooks(&COUNTED),
        namespaced(GROUP, "resourceclaims", "ResourceClaim").status(),
        namespaced(GROUP, "resourceclaimtemplates", "ResourceClaimTemplate"),
        cluster(GROUP, "resourceslices", "ResourceSlice").hooks(&COUNTED).select(&["spec.nodeName", "spec.driver"]),
    ]
}

pub(super) fn flowcontrol() -> Vec<Resource> {
    const GROUP: &str = "flowcontrol.apiserver.k8s.io";
    vec![
        cluster(GROUP, "flowschemas", "FlowSchema").status().hooks(&COUNTED),
        cluster(GROUP, "prioritylevelconfigurations", "PriorityLevelConfiguration").status().hooks(&COUNTED),
    ]
}
