//! Paths below an object. Those that read and write the object itself (`status`, `finalize`, ...) take the generic
//! verbs; the others have an idea of their own and a file each.

mod binding;
mod eviction;
mod scale;
mod token;

use std::sync::Arc;

use api::status::Status;
use serde_json::{Value, json};

use crate::registry::{Call, Outcome, Served};
use crate::server::ApiServer;

pub(crate) use binding::bind;

/// Carries out a call on a subresource.
pub(crate) async fn handle(server: &ApiServer, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let own = served.version.subresource(&call.target.subresource).is_some_and(|sub| sub.kind == served.row.kind);
    match (call.target.resource.as_str(), call.target.subresource.as_str()) {
        ("pods", "binding") => bind(server, served, call).await,
        ("pods", "eviction") => eviction::evict(server, served, call).await,
        ("serviceaccounts", "token") => token::issue(server, served, call).await,
        (_, "scale") => scale::handle(server, served, call).await,
        _ if own => server.registry.handle(served, call).await,
        _ => Err(Status::path_not_found()),
    }
}

/// Sets a condition of a Pod where it stands, or behind the others. True if anything has changed by it: the time of a
/// transition is kept where there is none (upstream: `podutil.UpdatePodCondition`).
fn set_condition(pod: &mut Value, mut condition: Value) -> bool {
    let status = &mut pod["status"];
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = json!(crate::clock::now());
    match conditions.iter_mut().find(|known| known["type"] == condition["type"]) {
        Some(known) => {
            if known["status"] == condition["status"] {
                condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            if *known == condition {
                return false;
            }
            *known = condition;
        }
        None => conditions.push(condition),
    }
    status["conditions"] = json!(conditions);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_stays_where_it_stands() {
        let mut pod = json!({"status": {"conditions": [
            {"type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": "then", "reason": "Unschedulable"},
            {"type": "Ready", "status": "False"},
        ]}});
        let bound = json!({"type": "PodScheduled", "status": "True"});
        assert!(set_condition(&mut pod, bound.clone()));
        let first = &mut pod["status"]["conditions"][0];
        assert_eq!((&first["status"], &first["reason"]), (&json!("True"), &Value::Null));
        assert_ne!(first["lastTransitionTime"], "then");
        first["lastTransitionTime"] = json!("then");
        assert!(!set_condition(&mut pod, bound));
        let marked = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"});
        assert!(set_condition(&mut pod, marked));
        assert_eq!(pod["status"]["conditions"][2]["reason"], "EvictionByEvictionAPI");
    }
}
