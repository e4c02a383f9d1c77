//! `DefaultTolerationSeconds`: a Pod outlives the loss of its node by five minutes unless it says otherwise.

use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

/// For how many seconds each taint is tolerated.
pub struct DefaultTolerations {
    pub not_ready: i64,
    pub unreachable: i64,
}

impl Plugin for DefaultTolerations {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if request.is("", "pods")
            && matches!(request.operation, Operation::Create | Operation::Update)
            && let Some(pod) = &mut request.object
        {
            add(&mut pod["spec"], [self.not_ready, self.unreachable]);
        }
        Box::pin(async { Ok(()) })
    }
}

fn add(spec: &mut Value, seconds: [i64; 2]) {
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(tolerations) = spec["tolerations"].as_array_mut() else { return };
    for (taint, seconds) in TAINTS.into_iter().zip(seconds) {
        let tolerated = tolerations.iter().any(|toleration| {
            let text = |field: &str| toleration[field].as_str().unwrap_or_default();
            (text("key") == taint || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_tolerations_are_added() {
        let mut spec = json!({});
        add(&mut spec, [300, 60]);
        let seconds: Vec<_> =
            spec["tolerations"].as_array().unwrap().iter().map(|it| &it["tolerationSeconds"]).collect();
        assert_eq!(seconds, [300, 60]);

        let own = json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]);
        let mut spec = json!({"tolerations": own});
        add(&mut spec, [300, 60]);
        assert_eq!(spec["tolerations"][0], own[0]);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);

        let all = json!([{"operator": "Exists"}]);
        let mut spec = json!({"tolerations": all});
        add(&mut spec, [300, 60]);
        assert_eq!(spec["tolerations"], all);
    }
}
