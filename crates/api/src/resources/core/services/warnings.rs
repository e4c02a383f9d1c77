//! What clients are warned of when they write a Service: fields that are ignored or on their way out.

use serde_json::Value;

use crate::resources::fields::{is_empty, text};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";

/// In upstream's words and order (`k8s.io/kubernetes/pkg/api/service`).
pub(super) fn warnings(service: &Value) -> Vec<String> {
    let spec = &service["spec"];
    let has_external_ips = !is_empty(&spec["externalIPs"]);
    let is_external_name = text(spec, "type") == "ExternalName";
    let is_headless = text(spec, "type") == "ClusterIP" && text(spec, "clusterIP") == "None";
    let mut warnings = Vec::new();
    let mut warn = |applies: bool, text: &str| {
        if applies {
            warnings.push(text.to_owned());
        }
    };
    let hints = !service["metadata"]["annotations"][HINTS].is_null();
    warn(hints, &format!("annotation {HINTS} is deprecated, please use {TOPOLOGY_MODE} instead"));
    let balancer_ip = !text(spec, "loadBalancerIP").is_empty();
    warn(is_headless && balancer_ip, "spec.loadBalancerIP is ignored for headless services");
    warn(is_headless && has_external_ips, "spec.externalIPs is ignored for headless services");
    let affine = text(spec, "sessionAffinity") != "None";
    warn(is_headless && affine, "spec.SessionAffinity is ignored for headless services");
    warn(
        has_external_ips && !is_headless && !is_external_name,
        "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
    );
    warn(has_external_ips && is_external_name, "spec.externalIPs is ignored when spec.type is \"ExternalName\"");
    warn(
        !is_external_name && !text(spec, "externalName").is_empty(),
        "spec.externalName is ignored when spec.type is not \"ExternalName\"",
    );
    warn(
        text(spec, "trafficDistribution") == "PreferClose",
        "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"",
    );
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expected: &[&str]) {
        assert_eq!(warnings(&json!({"spec": spec})), expected);
    }

    #[test]
    fn what_is_ignored_is_said() {
        check(json!({"type": "ClusterIP", "sessionAffinity": "None"}), &[]);
        check(
            json!({"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP", "externalIPs": ["1.2.3.4"]}),
            &[
                "spec.externalIPs is ignored for headless services",
                "spec.SessionAffinity is ignored for headless services",
            ],
        );
        check(
            json!({"type": "ClusterIP", "externalName": "a.example.com", "externalIPs": ["1.2.3.4"]}),
            &[
                "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
                "spec.externalName is ignored when spec.type is not \"ExternalName\"",
            ],
        );
    }
}
