//! The row of a Pod: how many containers are ready, and the one word that says how it is.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::duration;
use crate::resources::fields::{flag, int, items, text};

/// What the cells of a Pod have in common.
struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    /// When a container last ended before its restart.
    restarted: Option<Timestamp>,
}

pub(super) fn ready(pod: &Value, _: Timestamp) -> Value {
    let summary = Summary::of(pod);
    format!("{}/{}", summary.ready, summary.total).into()
}

pub(super) fn status(pod: &Value, _: Timestamp) -> Value {
    Summary::of(pod).reason.into()
}

pub(super) fn restarts(pod: &Value, now: Timestamp) -> Value {
    let summary = Summary::of(pod);
    match summary.restarted {
        Some(then) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, duration::human(now.duration_since(then).as_secs())).into()
        }
        _ => summary.restarts.to_string().into(),
    }
}

pub(super) fn readiness_gates(pod: &Value, _: Timestamp) -> Value {
    let gates = items(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let open = gates.iter().filter(|gate| has_condition(pod, text(gate, "conditionType"))).count();
    format!("{open}/{}", gates.len()).into()
}

/// Table conditions of a Pod that has ended, or null.
pub(super) fn conditions(pod: &Value) -> Value {
    let message = match text(&pod["status"], "phase") {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return Value::Null,
    };
    json!([{"type": "Completed", "status": "True", "reason": pod["status"]["phase"], "message": message}])
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let sidecars = items(spec, "initContainers").iter().filter(|container| is_sidecar(container)).count();
        let mut summary = Self {
            ready: 0,
            total: items(spec, "containers").len() + sidecars,
            reason: [text(status, "reason"), text(status, "phase")]
                .into_iter()
                .find(|word| !word.is_empty())
                .unwrap_or_default()
                .to_owned(),
            restarts: 0,
            restarted: None,
        };
        let gated = |condition: &Value| {
            text(condition, "type") == "PodScheduled" && text(condition, "reason") == "SchedulingGated"
        };
        if items(status, "conditions").iter().any(gated) {
            summary.reason = "SchedulingGated".to_owned();
        }
        let initializing = summary.init_containers(spec, status);
        if !initializing || has_condition(pod, "Initialized") {
            summary.containers(pod, status);
        }
        if !pod["metadata"]["deletionTimestamp"].is_null() {
            if text(status, "reason") == "NodeLost" {
                summary.reason = "Unknown".to_owned();
            } else if !matches!(text(status, "phase"), "Succeeded" | "Failed") {
                summary.reason = "Terminating".to_owned();
            }
        }
        summary
    }

    /// Looks at init containers in order, up to the first that is not done. True if there is one.
    fn init_containers(&mut self, spec: &Value, status: &Value) -> bool {
        let specs = items(spec, "initContainers");
        let (mut sidecar_restarts, mut sidecar_restarted) = (0, None);
        let mut initializing = false;
        for (at, container) in items(status, "initContainerStatuses").iter().enumerate() {
            self.count_restarts(container);
            let own = specs.iter().find(|spec| spec["name"] == container["name"]);
            let sidecar = own.is_some_and(is_sidecar);
            if sidecar {
                sidecar_restarts += int(container, "restartCount");
                sidecar_restarted = sidecar_restarted.max(last_end(container));
            }
            let state = &container["state"];
            let (ended, waiting) = (&state["terminated"], text(&state["waiting"], "reason"));
            if !ended.is_null() && int(ended, "exitCode") == 0 {
                continue;
            }
            if sidecar && flag(container, "started") {
                self.ready += usize::from(flag(container, "ready"));
                continue;
            }
            self.reason = if !ended.is_null() {
                format!("Init:{}", end_reason(ended))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{at}/{}", specs.len())
            };
            initializing = true;
            break;
        }
        if !initializing {
            // Init containers that are done say nothing about a running Pod's restarts.
            (self.restarts, self.restarted) = (sidecar_restarts, sidecar_restarted);
        }
        initializing
    }

    fn containers(&mut self, pod: &Value, status: &Value) {
        let specs = items(&pod["spec"], "initContainers");
        let sidecars = items(status, "initContainerStatuses")
            .iter()
            .filter(|container| specs.iter().any(|spec| spec["name"] == container["name"] && is_sidecar(spec)));
        (self.restarts, self.restarted) = (0, None);
        for container in sidecars {
            self.count_restarts(container);
        }
        let mut running = false;
        let mut error = String::new();
        for container in items(status, "containerStatuses").iter().rev() {
            self.count_restarts(container);
            let state = &container["state"];
            let (ended, waiting) = (&state["terminated"], text(&state["waiting"], "reason"));
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.reason);
            } else if !ended.is_null() {
                self.reason = end_reason(ended);
                if int(ended, "exitCode") != 0 {
                    error.clone_from(&self.reason);
                }
            } else if flag(container, "ready") && !state["running"].is_null() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && has_condition(pod, "Ready") {
                self.reason = "Running".to_owned();
            } else if !error.is_empty() {
                self.reason = error;
            } else if running {
                self.reason = "NotReady".to_owned();
            }
        }
    }

    fn count_restarts(&mut self, container: &Value) {
        self.restarts += int(container, "restartCount");
        self.restarted = self.restarted.max(last_end(container));
    }
}

fn last_end(container: &Value) -> Option<Timestamp> {
    duration::point(&container["lastState"]["terminated"]["finishedAt"])
}

fn end_reason(ended: &Value) -> String {
    match (text(ended, "reason"), int(ended, "signal")) {
        ("", 0) => format!("ExitCode:{}", int(ended, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    let condition = items(&pod["status"], "conditions").iter().find(|condition| text(condition, "type") == kind);
    condition.is_some_and(|condition| condition["status"] == "True")
}
