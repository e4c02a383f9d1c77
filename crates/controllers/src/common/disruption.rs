//! The condition that tells why somebody ended a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::conditions;

/// A merge patch that gives the pod the condition `DisruptionTarget`; `None` if it has it.
pub(crate) fn mark(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Value> {
    let list = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut marked = list.clone();
    conditions::set(
        &mut marked,
        PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        },
    );
    (marked != list).then(|| json!({"status": {"conditions": marked}}))
}
