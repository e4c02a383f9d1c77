//! What a Service may say, in upstream's words. Addresses and ports that the API server allocates are there when
//! this runs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{externally_accessible, needs_health_check_port};
use crate::field_path::Path;
use crate::names;
use crate::resources::core::endpoints::endpoint_ip;
use crate::resources::core::pods::validation::{ip_address, one_of, without_leading_zeros};
use crate::resources::fields::{int, is_empty, items, same, text};
use crate::resources::metadata::labels;
use crate::status::Cause;
use crate::validation::Errors;

pub(super) fn create(service: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    validate(&mut errors, &service["spec"]);
    errors.into_causes()
}

/// What a load balancer says of itself.
pub(super) fn status(service: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("status");
    let path = path.child("loadBalancer");
    let (path, points) = (path.child("ingress"), items(&service["status"]["loadBalancer"], "ingress"));
    if !points.is_empty() && service["spec"]["type"] != "LoadBalancer" {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors.into_causes();
    }
    for (at, point) in points.iter().enumerate() {
        let (path, ip, host) = (path.index(at), text(point, "ip"), text(point, "hostname"));
        if !ip.is_empty() {
            ip_address(&mut errors, ip, &path.child("ip"));
        }
        match point["ipMode"].as_str() {
            Some(mode) if !["Proxy", "VIP"].contains(&mode) => {
                errors.not_supported(&path.child("ipMode"), mode, &["Proxy", "VIP"]);
            }
            Some(mode) if ip.is_empty() => {
                errors.forbidden(&path.child("ipMode"), &format!("may not be set when `ip` is not set: {mode}"));
            }
            _ => {}
        }
        if !host.is_empty() {
            errors.invalid_each(&path.child("hostname"), host, names::dns_subdomain(host));
        }
    }
    errors.into_causes()
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, old, path) = (&new["spec"], &old["spec"], Path::root("spec"));
    cluster_ips_update(&mut errors, spec, old, &path.child("clusterIPs"));
    let balancers = spec["type"] == "LoadBalancer" && old["type"] == "LoadBalancer";
    if balancers && !same(&spec["loadBalancerClass"], &old["loadBalancerClass"]) {
        let detail = "may not change once set";
        errors.invalid(&path.child("loadBalancerClass"), spec["loadBalancerClass"].clone(), detail);
    }
    let checked = needs_health_check_port(spec) && needs_health_check_port(old);
    if checked && int(spec, "healthCheckNodePort") != int(old, "healthCheckNodePort") {
        errors.forbidden(&path.child("healthCheckNodePort"), "field is immutable");
    }
    validate(&mut errors, spec);
    errors.into_causes()
}

fn is_headless(spec: &Value) -> bool {
    items(spec, "clusterIPs").first().is_some_and(|first| first == "None")
}

fn validate(errors: &mut Errors, spec: &Value) {
    let path = Path::root("spec");
    let kind = text(spec, "type");
    if items(spec, "ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", &detail);
        }
        "ExternalName" => external_name(errors, spec, &path),
        _ => {}
    }
    ports(errors, spec, &path.child("ports"));
    labels(errors, &spec["selector"], &path.child("selector"));
    session_affinity(errors, spec, &path);
    cluster_ips(errors, spec, &path);
    let at = path.child("externalIPs");
    for (index, ip) in items(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        let known = errors.len();
        ip_address(errors, ip, &at.index(index));
        if errors.len() == known {
            endpoint_ip(errors, ip, &at.index(index));
        }
    }
    one_of(errors, spec, "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], &path);
    unique_ports(errors, spec, &path.child("ports"));
    balancer(errors, spec, &path);
    traffic(errors, spec, &path);
}

fn external_name(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if !is_empty(&spec[field]) {
            errors.forbidden(&path.child(field), "may not be set for ExternalName services");
        }
    }
    let name = text(spec, "externalName");
    match name.strip_suffix('.').unwrap_or(name) {
        "" => errors.required(&path.child("externalName"), ""),
        name => errors.invalid_each(&path.child("externalName"), name, names::dns_subdomain(name)),
    }
}

fn ports(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let ports = items(spec, "ports");
    let mut seen = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let (path, name) = (path.index(at), text(port, "name"));
        if name.is_empty() {
            if ports.len() > 1 {
                errors.required(&path.child("name"), "");
            }
        } else {
            errors.invalid_each(&path.child("name"), name, names::dns_label(name));
            if !seen.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
        }
        let number = int(port, "port");
        for detail in names::port_number(number) {
            errors.invalid(&path.child("port"), number, &detail);
        }
        one_of(errors, port, "protocol", &["SCTP", "TCP", "UDP"], &path);
        let (target, at) = (&port["targetPort"], path.child("targetPort"));
        match target.as_str() {
            Some(name) => errors.invalid_each(&at, name, names::port_name(name)),
            None => {
                for detail in names::port_number(target.as_i64().unwrap_or_default()) {
                    errors.invalid(&at, target.clone(), &detail);
                }
            }
        }
        if let Some(protocol) = port["appProtocol"].as_str() {
            errors.invalid_each(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

fn unique_ports(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let ports = items(spec, "ports");
    if spec["type"] == "ClusterIP" {
        for (at, _) in ports.iter().enumerate().filter(|(_, port)| int(port, "nodePort") != 0) {
            errors.forbidden(&path.index(at).child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
    }
    let taken = |at: usize, field: &str| {
        let key = |port: &Value| (text(port, "protocol").to_owned(), int(port, field));
        ports[..at].iter().any(|earlier| key(earlier) == key(&ports[at]))
    };
    for (at, port) in ports.iter().enumerate() {
        let number = int(port, "nodePort");
        if number != 0 && taken(at, "nodePort") {
            errors.duplicate(&path.index(at).child("nodePort"), number);
        }
    }
    for (at, port) in ports.iter().enumerate() {
        if taken(at, "port") {
            // As upstream's internal type shows itself.
            let shown = json!({
                "Name": "",
                "Protocol": port["protocol"],
                "AppProtocol": null,
                "Port": port["port"],
                "TargetPort": 0,
                "NodePort": 0,
            });
            errors.duplicate(&path.index(at), shown);
        }
    }
}

fn session_affinity(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    one_of(errors, spec, "sessionAffinity", &["ClientIP", "None"], path);
    let (config, at) = (&spec["sessionAffinityConfig"], path.child("sessionAffinityConfig"));
    match text(spec, "sessionAffinity") {
        "ClientIP" => {
            let client = at.child("clientIP");
            let at = client.child("timeoutSeconds");
            match config["clientIP"]["timeoutSeconds"].as_i64() {
                None => errors.required(&at, "when session affinity type is ClientIP"),
                Some(seconds) if !(1..=86_400).contains(&seconds) => {
                    errors.invalid(&at, seconds, "must be greater than 0 and less than 86400");
                }
                Some(_) => {}
            }
        }
        "None" if !config.is_null() => errors.forbidden(&at, "must not be set when session affinity is None"),
        _ => {}
    }
}

/// What is wrong with the addresses that a Service asks for, and with their families.
pub fn cluster_ip_fields(spec: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    cluster_ips(&mut errors, spec, &Path::root("spec"));
    errors.into_causes()
}

fn cluster_ips(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    if spec["type"] == "ExternalName" {
        return;
    }
    let (single, plural, at) = (text(spec, "clusterIP"), items(spec, "clusterIPs"), path.child("clusterIPs"));
    match (single, plural.first()) {
        ("", Some(_)) => errors.invalid(&at, json!(plural), "must be empty when `clusterIP` is not specified"),
        ("", None) => {}
        (_, None) => errors.required(&at, ""),
        (single, Some(first)) if first != single => {
            errors.invalid(&at, json!(plural), "first value must match `clusterIP`");
        }
        _ => {}
    }
    let (families, at_families) = (items(spec, "ipFamilies"), path.child("ipFamilies"));
    for (index, family) in families.iter().enumerate() {
        if !["IPv4", "IPv6"].contains(&family.as_str().unwrap_or_default()) {
            errors.not_supported(&at_families.index(index), family.clone(), &["IPv4", "IPv6"]);
        }
        if families[..index].contains(family) {
            errors.duplicate(&at_families.index(index), family.clone());
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    if let Some(policy) = spec["ipFamilyPolicy"].as_str().filter(|policy| !policies.contains(policy)) {
        errors.not_supported(&path.child("ipFamilyPolicy"), policy, &policies);
    }
    let addresses: Vec<&str> = plural.iter().filter_map(Value::as_str).collect();
    let mut readable = true;
    for (index, address) in addresses.iter().enumerate() {
        if index == 0 && *address == "None" {
            if addresses.len() > 1 {
                readable = false;
                errors.invalid(&at, json!(plural), "'None' must be the first and only value");
            }
        } else {
            readable &= address.parse::<IpAddr>().is_ok();
            ip_address(errors, address, &at.index(index));
        }
    }
    if addresses.len() > 2 {
        errors.invalid(&at, json!(plural), "may only hold up to 2 values");
    }
    if readable {
        cluster_ip_families(errors, plural, families, &at);
    }
}

fn cluster_ip_families(errors: &mut Errors, plural: &[Value], families: &[Value], at: &Path<'_>) {
    let parsed: Vec<IpAddr> = plural.iter().filter_map(Value::as_str).filter_map(|ip| ip.parse().ok()).collect();
    let six = parsed.iter().filter(|ip| ip.is_ipv6()).count();
    if parsed.len() > 1 && (six == 0 || six == parsed.len()) {
        errors.invalid(at, json!(plural), "may specify no more than one IP for each IP family");
    }
    for (index, (ip, family)) in parsed.iter().zip(families).enumerate() {
        let family = family.as_str().unwrap_or_default();
        if (family == "IPv4") == ip.is_ipv6() && ["IPv4", "IPv6"].contains(&family) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.invalid(&at.index(index), ip.to_string(), &detail);
        }
    }
}

fn cluster_ips_update(errors: &mut Errors, new: &Value, old: &Value, at: &Path<'_>) {
    if new["type"] == "ExternalName" || old["type"] == "ExternalName" || (is_headless(new) && is_headless(old)) {
        return;
    }
    let (now, before) = (items(new, "clusterIPs"), items(old, "clusterIPs"));
    if now.len() == before.len() {
        for (index, _) in now.iter().zip(before).enumerate().filter(|(_, (now, before))| now != before) {
            errors.invalid(&at.index(index), json!(now), "may not change once set");
        }
        return;
    }
    if now.is_empty() {
        errors.invalid(&at.index(0), json!(now), "primary clusterIP can not be unset");
    } else if !before.is_empty() && now[0] != before[0] {
        errors.invalid(&at.index(0), json!(now), "may not change once set");
    }
    if before.len() > now.len() && now.len() == 1 && new["ipFamilyPolicy"] != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        errors.invalid(&Path::root("spec").child("ipFamilyPolicy"), new["ipFamilyPolicy"].clone(), detail);
    }
}

fn balancer(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let balances = spec["type"] == "LoadBalancer";
    let ranges = items(spec, "loadBalancerSourceRanges");
    let at = path.child("LoadBalancerSourceRanges");
    if !ranges.is_empty() && !balances {
        errors.forbidden(&at, ONLY);
    }
    for (index, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        cidr(errors, range.trim(), &at.index(index));
    }
    if !spec["allocateLoadBalancerNodePorts"].is_null() && !balances {
        errors.forbidden(&path.child("allocateLoadBalancerNodePorts"), ONLY);
    }
    if let Some(class) = spec["loadBalancerClass"].as_str() {
        let at = path.child("loadBalancerClass");
        match balances {
            true => errors.invalid_each(&at, class, names::qualified_name(class)),
            false => errors.forbidden(&at, ONLY),
        }
    }
}

/// A range of addresses.
pub(crate) fn cidr(errors: &mut Errors, value: &str, path: &Path<'_>) {
    const WRONG: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let Some((ip, bits)) = value.split_once('/') else { return errors.invalid(path, value, WRONG) };
    let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let width = bits.parse::<u8>().ok().filter(|_| digits);
    let why = match (ip.parse::<IpAddr>(), without_leading_zeros(ip).parse::<IpAddr>(), width) {
        (_, Ok(ip), Some(width)) if width > widest(ip) => WRONG,
        (_, Err(_), _) | (_, _, None) => WRONG,
        (Err(_), Ok(_), _) => "must not have leading 0s in IP or prefix length",
        _ if bits.len() > 1 && bits.starts_with('0') => "must not have leading 0s in IP or prefix length",
        (Ok(IpAddr::V6(ip)), ..) if ip.to_ipv4_mapped().is_some() => "must not have an IPv4-mapped IPv6 address",
        (Ok(ip), _, Some(width)) if bits_beyond(ip, width) => "must not have bits set beyond the prefix length",
        _ => return,
    };
    errors.invalid(path, value, why);
}

fn widest(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn bits_beyond(ip: IpAddr, width: u8) -> bool {
    // In the upper bits, so that one shift serves both families.
    let bits = match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    bits.checked_shl(u32::from(width)).is_some_and(|rest| rest != 0)
}

fn traffic(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let (policy, at) = (text(spec, "externalTrafficPolicy"), path.child("externalTrafficPolicy"));
    match (externally_accessible(spec), policy) {
        (false, "") => {}
        (false, policy) => errors.invalid(&at, policy, "may only be set for externally-accessible services"),
        (true, _) => one_of(errors, spec, "externalTrafficPolicy", &["Cluster", "Local"], path),
    }
    let (port, at) = (int(spec, "healthCheckNodePort"), path.child("healthCheckNodePort"));
    match (needs_health_check_port(spec), port) {
        (false, 0) => {}
        (false, port) => {
            let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at, port, detail);
        }
        (true, 0) => errors.required(&at, ""),
        (true, port) => {
            for detail in names::port_number(port) {
                errors.invalid(&at, port, &detail);
            }
        }
    }
    let internal = path.child("internalTrafficPolicy");
    match spec["internalTrafficPolicy"].as_str() {
        None if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&text(spec, "type")) => {
            errors.required(&internal, "");
        }
        None | Some("Cluster" | "Local") => {}
        Some(other) => errors.not_supported(&internal, other, &["Cluster", "Local"]),
    }
    let words = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(word) = spec["trafficDistribution"].as_str().filter(|word| !words.contains(word)) {
        errors.not_supported(&path.child("trafficDistribution"), word, &words);
    }
}
