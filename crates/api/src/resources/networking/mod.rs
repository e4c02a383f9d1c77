//! `networking.k8s.io`: Ingresses, network policies, and the address ranges of Services.

mod addresses;
mod classes;
mod validation;

use serde_json::{Value, json};

use super::fields::{default, each, is_empty, object, within};
use super::hooks::{Generation, Hooks, Names, PLAIN, STATUS_ALONE};
use super::row::{Row, cluster, namespaced};
use super::strategy::bump_generation;
use crate::resource::Resource;

const GROUP: &str = "networking.k8s.io";

static INGRESSES: Hooks = Hooks {
    generation: Generation::Counted,
    validate_create: validation::ingress,
    validate_update: |new, _| validation::ingress(new),
    ..PLAIN
};

static INGRESS_CLASSES: Hooks = Hooks {
    generation: Generation::Counted,
    default: |class| {
        within(object(class, "spec"), "parameters", |parameters| default(parameters, "scope", "Cluster"));
    },
    validate_create: classes::class,
    validate_update: classes::class_update,
    ..PLAIN
};

static NETWORK_POLICIES: Hooks = Hooks {
    // A selector of everything is another thing than none: nothing counts as the same that is not written so.
    generation: Generation::Own,
    prepare_create: |policy| policy["metadata"]["generation"] = json!(1),
    prepare_update: |new, old| {
        if new["spec"] != old["spec"] {
            bump_generation(new, old);
        }
    },
    default: network_policy,
    validate_create: validation::network_policy,
    validate_update: |new, _| validation::network_policy(new),
    ..PLAIN
};

static SERVICE_CIDRS: Hooks = Hooks {
    validate_create: addresses::range,
    validate_update: addresses::range_update,
    subresources: &[("status", STATUS_ALONE)],
    ..PLAIN
};

static IP_ADDRESSES: Hooks = Hooks {
    names: Names::IpAddress,
    validate_create: addresses::address,
    validate_update: addresses::address_update,
    ..PLAIN
};

/// A policy that does not say which way it speaks of speaks of ingress, and of egress where it has rules.
fn network_policy(policy: &mut Value) {
    let spec = object(policy, "spec");
    for rules in ["ingress", "egress"] {
        each(spec, rules, |rule| each(rule, "ports", |port| default(port, "protocol", "TCP")));
    }
    if is_empty(&spec["policyTypes"]) {
        let egress = !is_empty(&spec["egress"]);
        spec["policyTypes"] = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
}

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(GROUP, "ingressclasses", "IngressClass").hooks(&INGRESS_CLASSES),
        namespaced(GROUP, "ingresses", "Ingress").hooks(&INGRESSES).short(&["ing"]).status(),
        cluster(GROUP, "ipaddresses", "IPAddress").hooks(&IP_ADDRESSES).short(&["ip"]),
        namespaced(GROUP, "networkpolicies", "NetworkPolicy").hooks(&NETWORK_POLICIES).short(&["netpol"]),
        cluster(GROUP, "servicecidrs", "ServiceCIDR").status().hooks(&SERVICE_CIDRS),
    ]
}
