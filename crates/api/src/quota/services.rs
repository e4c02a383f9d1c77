//! Services, their node ports and load balancers.

use serde_json::Value;

use super::amounts::Amounts;

pub(super) const MEASURED: &[&str] = &["services", "services.loadbalancers", "services.nodeports"];

pub(super) fn usage(service: &Value) -> Amounts {
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = ports.len();
    let numbered = || ports.iter().filter(|port| port["nodePort"].as_u64().unwrap_or(0) > 0).count();
    // A load balancer's node ports count before they are given, unless it wants none.
    let node_ports = match kind(service) {
        "NodePort" => all,
        "LoadBalancer" if service["spec"]["allocateLoadBalancerNodePorts"] == false => numbered(),
        "LoadBalancer" => all,
        _ => 0,
    };
    let mut usage = Amounts::default();
    usage.count("services", 1);
    usage.count("services.nodeports", i64::try_from(node_ports).unwrap_or(i64::MAX));
    usage.count("services.loadbalancers", i64::from(kind(service) == "LoadBalancer"));
    usage
}

/// The type of a Service of which more is counted than that it is there.
pub(super) fn kind(service: &Value) -> &str {
    let kind = service["spec"]["type"].as_str().unwrap_or_default();
    if matches!(kind, "NodePort" | "LoadBalancer") { kind } else { "" }
}
