//! The quality of service class of a Pod, which decides whom the node evicts first.

use serde_json::Value;

use crate::quantity::Quantity;
use crate::resources::fields::items;

/// `Guaranteed` when every container (or the Pod) limits cpu and memory and requests as much, `BestEffort` when
/// none says anything, else `Burstable`.
pub fn class(spec: &Value) -> &'static str {
    let of_pod = &spec["resources"];
    if states(of_pod, "requests") || states(of_pod, "limits") {
        return if guaranteed(of_pod) { "Guaranteed" } else { "Burstable" };
    }
    let all: Vec<_> = items(spec, "containers").iter().chain(items(spec, "initContainers")).collect();
    let silent =
        |container: &&Value| !states(&container["resources"], "requests") && !states(&container["resources"], "limits");
    if all.iter().all(silent) {
        "BestEffort"
    } else if all.iter().all(|container| guaranteed(&container["resources"])) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

fn states(resources: &Value, which: &str) -> bool {
    ["cpu", "memory"].iter().any(|name| amount(resources, which, name).is_some())
}

fn guaranteed(resources: &Value) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let limit = amount(resources, "limits", name);
        limit.is_some() && (amount(resources, "requests", name) == limit)
    })
}

/// An amount above zero.
fn amount(resources: &Value, which: &str, name: &str) -> Option<Quantity> {
    let quantity = Quantity::from_json(&resources[which][name]).ok()?;
    (quantity.signum() > 0).then_some(quantity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_follow_requests_and_limits() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        let cases = [
            (json!({"containers": [{}]}), "BestEffort"),
            (json!({"containers": [{"resources": full}]}), "Guaranteed"),
            (json!({"containers": [{"resources": full}, {}]}), "Burstable"),
            (json!({"containers": [{"resources": {"requests": {"cpu": "1m"}}}]}), "Burstable"),
            (json!({"containers": [{"resources": {"requests": {"cpu": "0"}}}]}), "BestEffort"),
            (json!({"containers": [{}], "resources": full}), "Guaranteed"),
        ];
        for (spec, expected) in cases {
            assert_eq!(class(&spec), expected, "{spec}");
        }
    }
}
