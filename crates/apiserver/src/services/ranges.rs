//! Where ClusterIPs come from: the ranges that the server was told, and those that ServiceCIDRs add.

use std::net::IpAddr;
use std::sync::Arc;

use api::object::Entry;
use ipnet::IpNet;
use serde_json::Value;

use crate::cache::{Filter, ResourceCache};
use crate::document::Document;

pub(crate) struct Ranges {
    configured: Vec<IpNet>,
    added: Arc<ResourceCache>,
    addresses: Arc<ResourceCache>,
}

/// The label of addresses that Services hold, and its value.
pub(super) const MANAGED_BY: (&str, &str) = ("ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io");

impl Ranges {
    pub(crate) fn new(configured: Vec<IpNet>, added: Arc<ResourceCache>, addresses: Arc<ResourceCache>) -> Self {
        Self { configured, added, addresses }
    }

    /// The ranges that the server was told, primary family first.
    pub(super) fn configured(&self) -> &[IpNet] {
        &self.configured
    }

    /// The ranges of this one's family that give addresses now, itself first.
    pub(super) fn like(&self, configured: &IpNet) -> Vec<IpNet> {
        let added = self.added.list(&Filter::default()).entries;
        let added = added.iter().flat_map(|entry| ready(&entry.to_value()));
        let more = added.filter(|cidr| cidr.addr().is_ipv4() == configured.addr().is_ipv4() && cidr != configured);
        std::iter::once(*configured).chain(more).collect()
    }

    /// True for an address that somebody took for something else than a Service.
    pub(super) fn is_reserved(&self, ip: &IpAddr) -> bool {
        let key = api::object::ObjectKey::new("", ip.to_string());
        self.addresses.get(&key).is_some_and(|address| !is_of_service(&address))
    }
}

pub(super) fn is_of_service(address: &Entry) -> bool {
    address.labels.get(MANAGED_BY.0).is_some_and(|manager| manager == MANAGED_BY.1)
}

/// The ranges of a ServiceCIDR, unless it is going or says that it is not ready.
pub(super) fn ready(range: &Value) -> Vec<IpNet> {
    let mut conditions = range["status"]["conditions"].as_array().into_iter().flatten();
    let refuses = conditions.any(|condition| condition["type"] == "Ready" && condition["status"] != "True");
    if refuses || range.is_terminating() {
        return Vec::new();
    }
    let cidrs = range["spec"]["cidrs"].as_array().into_iter().flatten();
    cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_range_gives_addresses_until_it_is_to_go() {
        let mut range = json!({"spec": {"cidrs": ["10.1.0.0/24"]}});
        assert_eq!(ready(&range).len(), 1, "nobody has said anything against it");
        range["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        assert_eq!(ready(&range), []);
        range["status"]["conditions"][0]["status"] = json!("True");
        assert_eq!(ready(&range).len(), 1);
        range["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(ready(&range), []);
    }
}
