//! Services. Addresses and node ports are allocated by the API server, not here.

mod prepare;
pub mod validation;
mod warnings;

use serde_json::{Value, json};

use crate::resources::fields::{default, default_zero, each, is_zero, object, text, within};
use crate::resources::hooks::{Hooks, Names, PLAIN, STATUS, SubresourceHooks};
use crate::resources::strategy::remove;

pub(super) static SERVICES: Hooks = Hooks {
    names: Names::Label,
    create_on_update: true,
    default: defaults,
    prepare_create: prepare::create,
    prepare_update: prepare::update,
    validate_create: validation::create,
    validate_update: validation::update,
    warnings: |service, _| warnings::warnings(service),
    subresources: &[("status", SubresourceHooks { validate: |new, _| validation::status(new), ..STATUS })],
    ..PLAIN
};

fn defaults(service: &mut Value) {
    let spec = object(service, "spec");
    default_zero(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => remove(spec, "sessionAffinityConfig"),
        "ClientIP" if spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].is_null() => {
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10_800}});
        }
        _ => {}
    }
    default_zero(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        default_zero(port, "protocol", "TCP");
        if is_zero(&port["targetPort"]) {
            port["targetPort"] = port["port"].clone();
        }
    });
    if externally_accessible(spec) {
        default_zero(spec, "externalTrafficPolicy", "Cluster");
    }
    match text(spec, "type") {
        "ClusterIP" | "NodePort" | "LoadBalancer" => default(spec, "internalTrafficPolicy", "Cluster"),
        _ => {}
    }
    if spec["type"] == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true);
        within(service, "status", |status| {
            within(status, "loadBalancer", |balancer| {
                each(balancer, "ingress", |ingress| {
                    if !text(ingress, "ip").is_empty() {
                        default(ingress, "ipMode", "VIP");
                    }
                });
            });
        });
    }
}

/// True for Services that clients outside the cluster reach.
pub fn externally_accessible(spec: &Value) -> bool {
    match text(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => spec["externalIPs"].as_array().is_some_and(|list| !list.is_empty()),
        _ => false,
    }
}

/// True for Services that have a ClusterIP, be it `None`.
pub fn needs_cluster_ip(spec: &Value) -> bool {
    spec["type"] != "ExternalName"
}

/// True for Services whose ports get node ports.
pub fn needs_node_port(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// True for Services whose nodes answer health checks of a load balancer.
pub fn needs_health_check_port(spec: &Value) -> bool {
    spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local"
}
