//! The targets of a HorizontalPodAutoscaler: what each metric is, and what it should be.

use jiff::Timestamp;
use serde_json::Value;

use crate::resources::fields::{items, text};

const SHOWN: usize = 2;

pub(super) fn targets(autoscaler: &Value, _: Timestamp) -> Value {
    let metrics = items(&autoscaler["spec"], "metrics");
    let current = items(&autoscaler["status"], "currentMetrics");
    if metrics.is_empty() {
        return "<none>".into();
    }
    let list: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(SHOWN)
        .map(|(at, metric)| target(metric, current.get(at).unwrap_or(&Value::Null)))
        .collect();
    match metrics.len() {
        count if count > SHOWN => format!("{} + {} more...", list.join(", "), count - SHOWN).into(),
        _ => list.join(", ").into(),
    }
}

fn target(metric: &Value, current: &Value) -> String {
    let shown = |value: &Value| value.as_str().map_or_else(|| "<unknown>".to_owned(), str::to_owned);
    let percent =
        |value: &Value, absent: &str| value.as_i64().map_or_else(|| absent.to_owned(), |percent| format!("{percent}%"));
    let field = match text(metric, "type") {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (source, target, now) = (&metric[field], &metric[field]["target"], &current[field]["current"]);
    let average = !target["averageValue"].is_null();
    match field {
        "external" | "object" if average => {
            format!("{}/{} (avg)", shown(&now["averageValue"]), shown(&target["averageValue"]))
        }
        "external" | "object" => format!("{}/{}", shown(&now["value"]), shown(&target["value"])),
        "pods" => format!("{}/{}", shown(&now["averageValue"]), shown(&target["averageValue"])),
        _ if average => {
            let (now, wanted) = (shown(&now["averageValue"]), shown(&target["averageValue"]));
            format!("{}: {now}/{wanted}", text(source, "name"))
        }
        _ => {
            let now = percent(&now["averageUtilization"], "<unknown>");
            let wanted = percent(&target["averageUtilization"], "<auto>");
            format!("{}: {now}/{wanted}", text(source, "name"))
        }
    }
}
