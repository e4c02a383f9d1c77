//! Nodes.

use serde_json::Value;

use crate::resources::fields::{object, within};
use crate::resources::hooks::{Hooks, PLAIN};
use crate::resources::strategy::remove;

pub(super) static NODES: Hooks = Hooks {
    default: |node| {
        within(node, "status", |status| {
            if status["allocatable"].is_null() && !status["capacity"].is_null() {
                status["allocatable"] = status["capacity"].clone();
            }
        });
    },
    status_on_create: true,
    prepare_create: |node| drop_config(node),
    prepare_update: |new, _| drop_config(new),
    ..PLAIN
};

/// Dynamic kubelet configuration is gone.
fn drop_config(node: &mut Value) {
    remove(object(node, "spec"), "configSource");
    within(node, "status", |status| remove(status, "config"));
}
