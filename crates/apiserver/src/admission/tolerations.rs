//! `DefaultTolerationSeconds`: a Pod outlives the loss of its node by five minutes unless it says otherwise.

use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: u32 = 300;

pub struct DefaultTolerations;

impl Plugin for DefaultTolerations {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if request.is("", "pods")
            && matches!(request.operation, Operation::Create | Operation::Update)
            && let Some(pod) = &mut request.object
        {
            add(&mut pod["spec"]);
        }
        Box::pin(async { Ok(()) })
    }
}

fn add(spec: &mut Value) {
    if !spec["tolerations"].is_array() {
        spec["tolerations"] = json!([]);
    }
    let Some(tolerations) = spec["tolerations"].as_array_mut() else { return };
    for taint in TAINTS {
        let tolerated = tolerations.iter().any(|toleration| {
            let text = |field: &str| toleration[field].as_str().unwrap_or_default();
            (text("key") == taint || text("key").is_empty()) && matches!(text("effect"), "NoExecute" | "")
        });
        if !tolerated {
            tolerations.push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
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
        add(&mut spec);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);

        let own = json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]);
        let mut spec = json!({"tolerations": own});
        add(&mut spec);
        assert_eq!(spec["tolerations"][0], own[0]);
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);

        let all = json!([{"operator": "Exists"}]);
        let mut spec = json!({"tolerations": all});
        add(&mut spec);
        assert_eq!(spec["tolerations"], all);
    }
}
