//! `networking.k8s.io`: Ingresses, network policies, and the address ranges of Services.

use super::row::{Row, cluster, namespaced};
use crate::resource::Resource;

const GROUP: &str = "networking.k8s.io";

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(GROUP, "ingressclasses", "IngressClass"),
        namespaced(GROUP, "ingresses", "Ingress").short(&["ing"]).status(),
        cluster(GROUP, "ipaddresses", "IPAddress").short(&["ip"]),
        namespaced(GROUP, "networkpolicies", "NetworkPolicy").short(&["netpol"]),
        cluster(GROUP, "servicecidrs", "ServiceCIDR").status(),
    ]
}
