//! What an update of a Service takes over from the Service that it replaces.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{externally_accessible, needs_cluster_ip, needs_health_check_port, needs_node_port};
use crate::resources::fields::{each, int, is_empty, is_zero, items, object, same, text};
use crate::resources::strategy::{keep, remove};

pub(super) fn create(service: &mut Value) {
    let spec = object(service, "spec");
    if !is_empty(&spec["clusterIP"]) && is_empty(&spec["clusterIPs"]) {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    service["status"] = json!({"loadBalancer": {}});
}

pub(super) fn update(new: &mut Value, old: &Value) {
    let old_spec = &old["spec"];
    let spec = object(new, "spec");
    keep_allocated(spec, old_spec);
    pair_cluster_ips(spec, old_spec);
    drop_what_the_type_lost(spec, old_spec);
    if spec["type"] != "LoadBalancer" {
        object(new, "status")["loadBalancer"] = json!({});
    }
}

/// An update that leaves out what was allocated means to keep it.
fn keep_allocated(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        for field in ["clusterIP", "clusterIPs"] {
            if is_empty(&new[field]) {
                keep(new, old, field);
            }
        }
    }
    if needs_node_port(old) && needs_node_port(new) {
        let used = node_ports(new);
        each(new, "ports", |port| {
            if is_zero(&port["nodePort"]) {
                let had = items(old, "ports").iter().find(|old| text(old, "name") == text(port, "name"));
                let number = had.map_or(0, |old| int(old, "nodePort"));
                if number != 0 && !used.contains(&number) {
                    port["nodePort"] = json!(number);
                }
            }
        });
    }
    if needs_health_check_port(old) && needs_health_check_port(new) && is_zero(&new["healthCheckNodePort"]) {
        keep(new, old, "healthCheckNodePort");
    }
}

/// Clients that know only `clusterIP` change `clusterIPs` with it.
fn pair_cluster_ips(new: &mut Value, old: &Value) {
    if text(new, "clusterIP") == text(old, "clusterIP") {
        if is_empty(&new["clusterIPs"]) {
            keep(new, old, "clusterIPs");
        }
        return;
    }
    let same_plural = same(&new["clusterIPs"], &old["clusterIPs"]);
    match text(new, "clusterIP") {
        "" if same_plural => remove(new, "clusterIPs"),
        "" => {}
        single if same_plural => new["clusterIPs"] = json!([single]),
        _ => {}
    }
}

/// A Service that becomes of another type drops what only the old type had, as far as the client left it alone.
fn drop_what_the_type_lost(new: &mut Value, old: &Value) {
    if needs_cluster_ip(old) && !needs_cluster_ip(new) {
        if same(&new["clusterIP"], &old["clusterIP"]) && same(&new["clusterIPs"], &old["clusterIPs"]) {
            remove(new, "clusterIP");
            remove(new, "clusterIPs");
        }
        for field in ["ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            drop_if_same(new, old, field);
        }
    }
    let node_port = |spec: &Value| matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
    if node_port(old) && !node_port(new) && node_ports(old).is_superset(&node_ports(new)) {
        each(new, "ports", |port| remove(port, "nodePort"));
    }
    if needs_health_check_port(old) && !needs_health_check_port(new) {
        drop_if_same(new, old, "healthCheckNodePort");
    }
    if old["type"] == "LoadBalancer" && new["type"] != "LoadBalancer" {
        drop_if_same(new, old, "allocateLoadBalancerNodePorts");
        drop_if_same(new, old, "loadBalancerClass");
    }
    if externally_accessible(old) && !externally_accessible(new) {
        drop_if_same(new, old, "externalTrafficPolicy");
    }
}

fn drop_if_same(new: &mut Value, old: &Value, field: &str) {
    if same(&new[field], &old[field]) {
        remove(new, field);
    }
}

fn node_ports(spec: &Value) -> BTreeSet<i64> {
    items(spec, "ports").iter().map(|port| int(port, "nodePort")).filter(|number| *number != 0).collect()
}
