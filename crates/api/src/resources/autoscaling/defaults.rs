//! What upstream fills into HorizontalPodAutoscalers (`autoscaling/v2`).

use serde_json::{Value, json};

use crate::resources::fields::{default, is_empty, object, within};

pub(super) fn autoscaler(autoscaler: &mut Value) {
    let spec = object(autoscaler, "spec");
    default(spec, "minReplicas", 1);
    if is_empty(&spec["metrics"]) {
        spec["metrics"] = json!([{
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
        }]);
    }
    within(spec, "behavior", |behavior| {
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        let up = object(behavior, "scaleUp");
        default(up, "stabilizationWindowSeconds", 0);
        default(up, "selectPolicy", "Max");
        default(up, "policies", json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]));
        // How long a scale-down is held back by default is the controller's own setting.
        let down = object(behavior, "scaleDown");
        default(down, "selectPolicy", "Max");
        default(down, "policies", json!([percent]));
    });
}
