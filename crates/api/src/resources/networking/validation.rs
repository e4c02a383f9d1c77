//! What Ingresses and network policies may say, in upstream's words
//! (`k8s.io/kubernetes/pkg/apis/networking/validation`).

use std::net::IpAddr;

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::resources::core::services::validation::cidr;
use crate::resources::fields::{int, items, text};
use crate::resources::metadata::label_selector;
use crate::status::Cause;
use crate::validation::Errors;

pub(super) fn network_policy(policy: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&policy["spec"], Path::root("spec"));
    label_selector(&mut errors, &spec["podSelector"], &path.child("podSelector"));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = path.child(direction);
        for (at, rule) in items(spec, direction).iter().enumerate() {
            let rule_path = rules.index(at);
            let at = rule_path.child("ports");
            for (index, port) in items(rule, "ports").iter().enumerate() {
                policy_port(&mut errors, port, &at.index(index));
            }
            let at = rule_path.child(peers);
            for (index, peer) in items(rule, peers).iter().enumerate() {
                policy_peer(&mut errors, peer, &at.index(index));
            }
        }
    }
    let (kinds, at) = (items(spec, "policyTypes"), path.child("policyTypes"));
    if kinds.len() > 2 {
        errors.invalid(&at, spec["policyTypes"].clone(), "may not specify more than two policyTypes");
        return errors.into_causes();
    }
    for (index, kind) in kinds.iter().filter_map(Value::as_str).enumerate() {
        if !["Ingress", "Egress"].contains(&kind) {
            errors.not_supported(&at.index(index), kind, &["Ingress", "Egress"]);
        }
    }
    errors.into_causes()
}

fn policy_port(errors: &mut Errors, port: &Value, path: &Path<'_>) {
    let words = ["TCP", "UDP", "SCTP"];
    if let Some(protocol) = port["protocol"].as_str().filter(|protocol| !words.contains(protocol)) {
        errors.not_supported(&path.child("protocol"), protocol, &words);
    }
    let (end, at) = (port["endPort"].as_i64(), path.child("endPort"));
    match (&port["port"], end) {
        (Value::Null, Some(end)) => errors.invalid(&at, end, "may not be specified when `port` is not specified"),
        (Value::String(name), end) => {
            if let Some(end) = end {
                errors.invalid(&at, end, "may not be specified when `port` is non-numeric");
            }
            errors.invalid_each(&path.child("port"), name, names::port_name(name));
        }
        (Value::Number(_), end) => {
            let number = int(port, "port");
            for detail in names::port_number(number) {
                errors.invalid(&path.child("port"), number, &detail);
            }
            if let Some(end) = end {
                if end < number {
                    errors.invalid(&at, number, "must be greater than or equal to `port`");
                }
                for detail in names::port_number(end) {
                    errors.invalid(&at, end, &detail);
                }
            }
        }
        _ => {}
    }
}

fn policy_peer(errors: &mut Errors, peer: &Value, path: &Path<'_>) {
    let mut peers = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if !peer[field].is_null() {
            peers += 1;
            label_selector(errors, &peer[field], &path.child(field));
        }
    }
    let block = &peer["ipBlock"];
    if !block.is_null() {
        peers += 1;
        ip_block(errors, block, &path.child("ipBlock"));
    }
    if peers == 0 {
        errors.required(path, "must specify a peer");
    } else if peers > 1 && !block.is_null() {
        errors.forbidden(path, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(errors: &mut Errors, block: &Value, path: &Path<'_>) {
    let range = text(block, "cidr");
    if range.is_empty() {
        return errors.required(&path.child("cidr"), "");
    }
    cidr(errors, range, &path.child("cidr"));
    let Some(outer) = parse_range(range) else { return };
    let at = path.child("except");
    for (index, except) in items(block, "except").iter().filter_map(Value::as_str).enumerate() {
        cidr(errors, except, &at.index(index));
        if parse_range(except).is_some_and(|inner| !strictly_within(inner, outer)) {
            errors.invalid(&at.index(index), except, "must be a strict subset of `cidr`");
        }
    }
}

/// An address as bits from the left of 128, and how many of them count.
fn parse_range(range: &str) -> Option<(bool, u128, u32)> {
    let (ip, bits) = range.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    match ip.parse().ok()? {
        IpAddr::V4(ip) if bits <= 32 => Some((true, u128::from(u32::from(ip)) << 96, bits)),
        IpAddr::V6(ip) if bits <= 128 => Some((false, u128::from(ip), bits)),
        _ => None,
    }
}

fn strictly_within(inner: (bool, u128, u32), outer: (bool, u128, u32)) -> bool {
    let mask = u128::MAX.checked_shl(128 - outer.2).unwrap_or_default();
    inner.0 == outer.0 && inner.1 & mask == outer.1 & mask && inner.2 > outer.2
}

pub(super) fn ingress(ingress: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&ingress["spec"], Path::root("spec"));
    let rules = items(spec, "rules");
    if rules.is_empty() && spec["defaultBackend"].is_null() {
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.invalid(&path, spec["rules"].clone(), detail);
    }
    if !spec["defaultBackend"].is_null() {
        backend(&mut errors, &spec["defaultBackend"], &path.child("defaultBackend"));
    }
    let at = path.child("rules");
    for (index, rule) in rules.iter().enumerate() {
        ingress_rule(&mut errors, rule, &at.index(index));
    }
    let at = path.child("tls");
    for (index, tls) in items(spec, "tls").iter().enumerate() {
        let own = at.index(index);
        let hosts = own.child("hosts");
        for (index, name) in items(tls, "hosts").iter().filter_map(Value::as_str).enumerate() {
            errors.invalid_each(&hosts.index(index), name, host_name(name));
        }
        let secret = text(tls, "secretName");
        if !secret.is_empty() {
            errors.invalid_each(&own.child("secretName"), secret, names::dns_subdomain(secret));
        }
    }
    if let Some(class) = spec["ingressClassName"].as_str() {
        errors.invalid_each(&path.child("ingressClassName"), class, names::dns_subdomain(class));
    }
    errors.into_causes()
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') { names::wildcard_dns_subdomain(host) } else { names::dns_subdomain(host) }
}

fn ingress_rule(errors: &mut Errors, rule: &Value, path: &Path<'_>) {
    let host = text(rule, "host");
    if !host.is_empty() {
        if host.parse::<IpAddr>().is_ok() {
            errors.invalid(&path.child("host"), host, "must be a DNS name, not an IP address");
        }
        errors.invalid_each(&path.child("host"), host, host_name(host));
    }
    if rule["http"].is_null() {
        return;
    }
    let http = path.child("http");
    let (paths, at) = (items(&rule["http"], "paths"), http.child("paths"));
    if paths.is_empty() {
        errors.required(&at, "");
    }
    for (index, entry) in paths.iter().enumerate() {
        ingress_path(errors, entry, &at.index(index));
    }
}

fn ingress_path(errors: &mut Errors, entry: &Value, path: &Path<'_>) {
    const SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
    let (route, at) = (text(entry, "path"), path.child("path"));
    let absolute = "must be an absolute path";
    match entry["pathType"].as_str() {
        None => return errors.required(&path.child("pathType"), "pathType must be specified"),
        Some("Exact" | "Prefix") => {
            if !route.starts_with('/') {
                errors.invalid(&at, route, absolute);
            }
            for sequence in SEQUENCES.iter().filter(|sequence| route.contains(**sequence)) {
                errors.invalid(&at, route, &format!("must not contain '{sequence}'"));
            }
            for suffix in ["/..", "/."].into_iter().filter(|suffix| route.ends_with(suffix)) {
                errors.invalid(&at, route, &format!("cannot end with '{suffix}'"));
            }
        }
        Some("ImplementationSpecific") => {
            if !route.is_empty() && !route.starts_with('/') {
                errors.invalid(&at, route, absolute);
            }
        }
        Some(other) => {
            let words = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.not_supported(&path.child("pathType"), other, &words);
        }
    }
    backend(errors, &entry["backend"], &path.child("backend"));
}

fn backend(errors: &mut Errors, backend: &Value, path: &Path<'_>) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (service.is_null(), resource.is_null()) {
        (false, false) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (true, true) => errors.invalid(path, "", "resource or service backend is required"),
        (true, false) => {
            let at = path.child("resource");
            if let Some(group) = resource["apiGroup"].as_str() {
                errors.invalid_each(&at.child("apiGroup"), group, names::dns_subdomain(group));
            }
            for field in ["kind", "name"] {
                match text(resource, field) {
                    "" => errors.required(&at.child(field), ""),
                    name => errors.invalid_each(&at.child(field), name, names::path_segment(name)),
                }
            }
        }
        (false, true) => {
            let at = path.child("service");
            match text(service, "name") {
                "" => errors.required(&at.child("name"), ""),
                name => errors.invalid_each(&at.child("name"), name, names::dns_label(name)),
            }
            let (name, number) = (text(&service["port"], "name"), int(&service["port"], "number"));
            let at = at.child("port");
            match (name, number) {
                ("", 0) => errors.required(path, "port name or number is required"),
                ("", number) => {
                    for detail in names::port_number(number) {
                        errors.invalid(&at.child("number"), number, &detail);
                    }
                }
                (name, 0) => errors.invalid_each(&at.child("name"), name, names::port_name(name)),
                _ => errors.invalid(path, "", "cannot set both port name & port number"),
            }
        }
    }
}
