//! `autoscaling`: HorizontalPodAutoscalers, in two versions that differ in shape.

use super::row::{Row, namespaced};
use crate::resource::Resource;

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("autoscaling", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .category("all")
            .status()
            .versions(&["v2", "v1"], "v2"),
    ]
}
