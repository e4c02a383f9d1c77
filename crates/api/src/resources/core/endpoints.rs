//! Endpoints.

use std::net::IpAddr;

use serde_json::Value;

use super::pods::validation::{ip_address, one_of};
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{default_zero, each, int, items, text};
use crate::resources::hooks::{Hooks, PLAIN};
use crate::status::Cause;
use crate::validation::Errors;

pub(super) static ENDPOINTS: Hooks = Hooks {
    create_on_update: true,
    default: defaults,
    validate_create: validate,
    validate_update: |new, _| validate(new),
    ..PLAIN
};

fn defaults(endpoints: &mut Value) {
    each(endpoints, "subsets", |subset| each(subset, "ports", |port| default_zero(port, "protocol", "TCP")));
}

fn validate(endpoints: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("subsets");
    for (at, subset) in items(endpoints, "subsets").iter().enumerate() {
        let path = path.index(at);
        if items(subset, "addresses").is_empty() && items(subset, "notReadyAddresses").is_empty() {
            errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            let at = path.child(list);
            for (index, address) in items(subset, list).iter().enumerate() {
                self::address(&mut errors, address, &at.index(index));
            }
        }
        let (ports, at) = (items(subset, "ports"), path.child("ports"));
        for (index, port) in ports.iter().enumerate() {
            self::port(&mut errors, port, ports.len() > 1, &at.index(index));
        }
    }
    errors.into_causes()
}

fn address(errors: &mut Errors, address: &Value, path: &Path<'_>) {
    let ip = text(address, "ip");
    ip_address(errors, ip, &path.child("ip"));
    let host = text(address, "hostname");
    if !host.is_empty() {
        errors.invalid_each(&path.child("hostname"), host, names::dns_label(host));
    }
    if let Some(node) = address["nodeName"].as_str() {
        errors.invalid_each(&path.child("nodeName"), node, names::dns_subdomain(node));
    }
    endpoint_ip(errors, ip, &path.child("ip"));
}

fn port(errors: &mut Errors, port: &Value, named: bool, path: &Path<'_>) {
    match text(port, "name") {
        "" if named => errors.required(&path.child("name"), ""),
        "" => {}
        name => errors.invalid_each(&path.child("name"), name, names::dns_label(name)),
    }
    let number = int(port, "port");
    for detail in names::port_number(number) {
        errors.invalid(&path.child("port"), number, &detail);
    }
    one_of(errors, port, "protocol", &["SCTP", "TCP", "UDP"], path);
    if let Some(protocol) = port["appProtocol"].as_str() {
        errors.invalid_each(&path.child("appProtocol"), protocol, names::qualified_name(protocol));
    }
}

/// An address that traffic may be sent to: not the sender itself, not just its link.
pub(crate) fn endpoint_ip(errors: &mut Errors, value: &str, path: &Path<'_>) {
    let Ok(ip) = value.parse::<IpAddr>() else {
        return errors.invalid(path, value, "must be a valid IP address");
    };
    let (link_local, link_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if ip.is_unspecified() {
        errors.invalid(path, value, &format!("may not be unspecified ({value})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        errors.invalid(path, value, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_multicast {
        errors.invalid(path, value, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
