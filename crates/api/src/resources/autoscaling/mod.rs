//! `autoscaling`: HorizontalPodAutoscalers, in two versions that differ in shape.

mod convert;
mod defaults;
mod validation;

use super::hooks::{Hooks, PLAIN};
use super::row::{Row, namespaced};
use crate::resource::Resource;

static AUTOSCALERS: Hooks = Hooks {
    default: defaults::autoscaler,
    convert: convert::convert,
    validate_create: validation::autoscaler,
    validate_update: |new, _| validation::autoscaler(new),
    ..PLAIN
};

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .hooks(&AUTOSCALERS)
            .category("all")
            .status()
            .versions(&["v2", "v1"], "v2"),
    ]
}
