//! ReplicationControllers.

use serde_json::Value;

use super::pods;
use crate::resources::fields::{default, is_empty, object, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN};

pub(super) static REPLICATION_CONTROLLERS: Hooks = Hooks {
    generation: Generation::Counted,
    orphans: true,
    default: defaults,
    prepare_create: |controller| pods::drop_disabled(&mut controller["spec"]["template"]["spec"]),
    ..PLAIN
};

/// Selector and labels are the template's, unless they are stated.
fn defaults(controller: &mut Value) {
    let labels = controller["spec"]["template"]["metadata"]["labels"].clone();
    if !is_empty(&labels) {
        if is_empty(&controller["spec"]["selector"]) {
            controller["spec"]["selector"] = labels.clone();
        }
        if is_empty(&controller["metadata"]["labels"]) {
            object(controller, "metadata")["labels"] = labels;
        }
    }
    let spec = object(controller, "spec");
    default(spec, "replicas", 1);
    within(spec, "template", pods::template_defaults);
}
