//! The rows of the groups whose kinds need few hooks or none, group by group.

use serde_json::{Value, json};

use super::certificates;
use super::fields::{default, default_zero, each, object, same, within};
use super::flows;
use super::hooks::{Generation, Hooks, Names, PLAIN, STATUS_ALONE};
use super::policies;
use super::row::{Row, cluster, namespaced};
use super::strategy::{bump_generation, changed, remove};
use crate::resource::{Resource, Verbs};

static LEASES: Hooks = Hooks {
    create_on_update: true,
    unconditional_update: false,
    prepare_create: |lease| drop_coordination(lease, &Value::Null),
    prepare_update: drop_coordination,
    validate_create: policies::lease,
    validate_update: |new, _| policies::lease(new),
    ..PLAIN
};

/// Fields of coordinated leader election, which is off: they stay where they are, but are not set anew.
fn drop_coordination(new: &mut Value, old: &Value) {
    for field in ["strategy", "preferredHolder"] {
        if old["spec"][field].is_null() {
            remove(&mut new["spec"], field);
        }
    }
}

static RUNTIME_CLASSES: Hooks = Hooks {
    create_on_update: true,
    unconditional_update: false,
    validate_create: policies::runtime_class,
    validate_update: policies::runtime_class_update,
    ..PLAIN
};

static BUDGETS: Hooks = Hooks {
    names: Names::PathSegment,
    generation: Generation::Counted,
    unconditional_update: false,
    validate_create: policies::budget,
    validate_update: |new, _| policies::budget(new),
    ..PLAIN
};

static PRIORITY_CLASSES: Hooks = Hooks {
    // The first is the last: what an update may change, the generation does not count.
    generation: Generation::Own,
    prepare_create: |class| class["metadata"]["generation"] = json!(1),
    default: |class| default(class, "preemptionPolicy", "PreemptLowerPriority"),
    validate_create: policies::priority_class,
    validate_update: policies::priority_class_update,
    ..PLAIN
};

static ENDPOINT_SLICES: Hooks = Hooks {
    generation: Generation::Counted,
    default: |slice| {
        each(slice, "ports", |port| {
            default(port, "name", "");
            default(port, "protocol", "TCP");
        });
    },
    prepare_update: |new, old| {
        if !changed(new, old) && !same(&new["metadata"]["labels"], &old["metadata"]["labels"]) {
            bump_generation(new, old);
        }
    },
    validate_create: policies::endpoint_slice,
    validate_update: policies::endpoint_slice_update,
    ..PLAIN
};

static FLOW_SCHEMAS: Hooks = Hooks {
    generation: Generation::Counted,
    default: |schema| default_zero(object(schema, "spec"), "matchingPrecedence", 1000),
    validate_create: flows::schema,
    validate_update: |new, _| flows::schema(new),
    subresources: &[("status", STATUS_ALONE)],
    ..PLAIN
};

fn queues(queuing: &mut Value) {
    default_zero(queuing, "handSize", 8);
    default_zero(queuing, "queues", 64);
    default_zero(queuing, "queueLengthLimit", 50);
}

static PRIORITY_LEVELS: Hooks = Hooks {
    generation: Generation::Counted,
    default: |level| {
        let spec = object(level, "spec");
        for (kind, shares) in [("exempt", 0), ("limited", 30)] {
            within(spec, kind, |level| {
                default(level, "nominalConcurrencyShares", shares);
                default(level, "lendablePercent", 0);
            });
        }
        within(spec, "limited", |limited| {
            within(limited, "limitResponse", |response| within(response, "queuing", queues));
        });
    },
    validate_create: flows::level,
    validate_update: |new, _| flows::level(new),
    subresources: &[("status", STATUS_ALONE)],
    ..PLAIN
};

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
            .hooks(&certificates::SIGNING_REQUESTS)
            .status()
            .own("approval", Verbs::STATUS)
            .select(&["spec.signerName"]),
    ]
}

pub(super) fn policy() -> Vec<Resource> {
    vec![namespaced("policy", "poddisruptionbudgets", "PodDisruptionBudget").short(&["pdb"]).status().hooks(&BUDGETS)]
}

pub(super) fn scheduling() -> Vec<Resource> {
    vec![cluster("scheduling.k8s.io", "priorityclasses", "PriorityClass").short(&["pc"]).hooks(&PRIORITY_CLASSES)]
}

pub(super) fn coordination() -> Vec<Resource> {
    vec![namespaced("coordination.k8s.io", "leases", "Lease").hooks(&LEASES)]
}

pub(super) fn node() -> Vec<Resource> {
    vec![cluster("node.k8s.io", "runtimeclasses", "RuntimeClass").hooks(&RUNTIME_CLASSES)]
}

pub(super) fn discovery() -> Vec<Resource> {
    vec![namespaced("discovery.k8s.io", "endpointslices", "EndpointSlice").hooks(&ENDPOINT_SLICES)]
}

pub(super) fn flowcontrol() -> Vec<Resource> {
    const GROUP: &str = "flowcontrol.apiserver.k8s.io";
    vec![
        cluster(GROUP, "flowschemas", "FlowSchema").status().hooks(&FLOW_SCHEMAS),
        cluster(GROUP, "prioritylevelconfigurations", "PriorityLevelConfiguration").status().hooks(&PRIORITY_LEVELS),
    ]
}
