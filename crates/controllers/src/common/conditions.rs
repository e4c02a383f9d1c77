//! Conditions of a status, as the many types that look alike have them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// `"True"` or `"False"`.
pub(crate) fn truth(value: bool) -> String {
    if value { "True" } else { "False" }.to_owned()
}

/// A condition type with a type, a status, a reason and a time of its last change.
pub(crate) trait Condition {
    fn kind(&self) -> &str;
    fn status(&self) -> &str;
    fn reason(&self) -> &str;
    fn transition(&mut self) -> &mut Option<Time>;
}

macro_rules! condition {
    ($($kind:ty),* $(,)?) => {$(
        impl Condition for $kind {
            fn kind(&self) -> &str {
                &self.type_
            }
            fn status(&self) -> &str {
                &self.status
            }
            fn reason(&self) -> &str {
                self.reason.as_deref().unwrap_or_default()
            }
            fn transition(&mut self) -> &mut Option<Time> {
                &mut self.last_transition_time
            }
        }
    )*};
}

condition!(
    k8s_openapi::api::apps::v1::DeploymentCondition,
    k8s_openapi::api::apps::v1::ReplicaSetCondition,
    k8s_openapi::api::apps::v1::StatefulSetCondition,
    k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerCondition,
    k8s_openapi::api::batch::v1::JobCondition,
    k8s_openapi::api::core::v1::NamespaceCondition,
    k8s_openapi::api::core::v1::NodeCondition,
    k8s_openapi::api::core::v1::PodCondition,
    k8s_openapi::api::core::v1::ReplicationControllerCondition,
);

/// The condition of a type.
pub(crate) fn find<'a, C: Condition>(conditions: Option<&'a Vec<C>>, kind: &str) -> Option<&'a C> {
    conditions?.iter().find(|condition| condition.kind() == kind)
}

/// True if the condition of a type is `True`.
pub(crate) fn is_true<C: Condition>(conditions: Option<&Vec<C>>, kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status() == "True")
}

/// Puts a condition in place of the one of its type. One with the same status and reason stays as it is; with the
/// same status it keeps its transition time.
pub(crate) fn set<C: Condition>(conditions: &mut Vec<C>, mut new: C) {
    match conditions.iter_mut().find(|old| old.kind() == new.kind()) {
        Some(old) if old.status() == new.status() && old.reason() == new.reason() => {}
        Some(old) => {
            if old.status() == new.status() {
                *new.transition() = old.transition().take();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

pub(crate) fn remove<C: Condition>(conditions: &mut Vec<C>, kind: &str) {
    conditions.retain(|condition| condition.kind() != kind);
}
