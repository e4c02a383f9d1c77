//! `TaintNodesByCondition`: a new Node takes no Pods until it has been seen to be ready.
//!
//! The controller of nodes' life takes the taint away; without it a Pod could come before that controller looks.

use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub struct NodeTaints;

impl Plugin for NodeTaints {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if request.is("", "nodes")
            && request.operation == Operation::Create
            && let Some(node) = &mut request.object
        {
            add(node);
        }
        Box::pin(async { Ok(()) })
    }
}

fn add(node: &mut Value) {
    if !node["spec"].is_object() {
        node["spec"] = json!({});
    }
    let taint = json!({"key": NOT_READY, "effect": EFFECT});
    match node["spec"]["taints"].as_array_mut() {
        Some(taints) if taints.iter().any(|taint| taint["key"] == NOT_READY && taint["effect"] == EFFECT) => {}
        Some(taints) => taints.push(taint),
        None => node["spec"]["taints"] = json!([taint]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_taint_once() {
        let mut node = json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}});
        add(&mut node);
        let once = node.clone();
        assert_eq!(once["spec"]["taints"][1], json!({"key": NOT_READY, "effect": EFFECT}));
        add(&mut node);
        assert_eq!(node, once);

        let mut bare = json!({});
        add(&mut bare);
        assert_eq!(bare["spec"]["taints"].as_array().map(Vec::len), Some(1));
    }
}
