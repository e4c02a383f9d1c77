//! A pod that was marked to be disrupted and still is not going two minutes later loses the mark.

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use client::informer::Informer;
use client::patch::Patch;
use client::reconcile::{Action, Controller, own_key};
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use memchr::memmem;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::NAME;
use crate::common::{conditions, pods};
use crate::{Context, ReconcileError, Session};

/// Whoever marks a pod deletes it within this time.
const PATIENCE: Duration = Duration::from_secs(120);
const MARK: &str = "DisruptionTarget";

/// Runs until `token` is cancelled.
pub(super) async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, super::COMPONENT);
    let session = Arc::new(session);
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()));
    let controller = Controller::new("disruption-controller-stale-pods", context.clock.clone()).watch(&pods, own_key);
    let work = controller.run(token.clone(), move |key| {
        let (session, pods) = (session.clone(), pods.clone());
        async move { reconcile(&session, &pods, key).await }
    });
    tokio::join!(work, writer.run(token));
}

async fn reconcile(session: &Session, view: &View, key: ObjectKey) -> Result<Action, ReconcileError> {
    let marked = view.get(&key).filter(|entry| may_be_marked(entry));
    let Some(pod) = marked.and_then(|entry| decode::<Pod>(&entry)) else { return Ok(Action::Done) };
    let now = session.clock.now();
    match left(&pod, now) {
        None => return Ok(Action::Done),
        Some(left) if !left.is_zero() => return Ok(Action::After(left)),
        Some(_) => {}
    }
    let mut list = pod.status.and_then(|status| status.conditions).unwrap_or_default();
    for condition in list.iter_mut().filter(|condition| condition.type_ == MARK) {
        condition.status = "False".to_owned();
        condition.reason = None;
        condition.message = None;
        condition.last_transition_time = Some(Time(now));
    }
    let version = pod.metadata.resource_version.clone().unwrap_or_default();
    let patch = Patch::Merge(json!({"status": {"conditions": list}})).guarded(pods::uid(&pod.metadata), &version);
    match session.requests.patch_sub(&resource_of::<Pod>(), &key, "status", &patch).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(Action::Done),
    }
}

/// Every change of every Pod asks this; few are ever marked, and only those are decoded.
fn may_be_marked(pod: &Entry) -> bool {
    memmem::find(&pod.stored_json(), MARK.as_bytes()).is_some()
}

/// How long the pod's mark may stay; `None` if it has none, or has it for good: of one that goes, or has ended, it
/// tells why, and a kubelet that marks a pod may take as long as it likes.
fn left(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if !pods::is_active(pod) {
        return None;
    }
    let marked = conditions::find(pod.status.as_ref()?.conditions.as_ref(), MARK)?;
    if marked.status != "True" || marked.reason.as_deref() == Some("TerminationByKubelet") {
        return None;
    }
    let due = marked.last_transition_time.as_ref()?.0 + PATIENCE;
    Some(Duration::try_from(due.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_marked_pods_are_decoded() {
        let pod = |kind: &str| {
            let pod = json!({"metadata": {"name": "it"}, "status": {"conditions": [{"type": kind, "status": "True"}]}});
            Entry::from_value(pod, 1, &[]).unwrap()
        };
        assert!(may_be_marked(&pod(MARK)));
        assert!(!may_be_marked(&pod("Ready")));
    }

    #[test]
    fn a_mark_is_stale_when_nobody_acted_on_it() {
        let pod = |phase: &str, reason: &str| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "it"}, "status": {"phase": phase, "conditions": [
                {"type": MARK, "status": "True", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
            .unwrap()
        };
        let now: Timestamp = "2026-01-01T00:01:30Z".parse().unwrap();
        assert_eq!(left(&pod("Running", "EvictionByEvictionAPI"), now), Some(Duration::from_secs(30)));
        assert_eq!(left(&pod("Running", "EvictionByEvictionAPI"), now + PATIENCE), Some(Duration::ZERO));
        assert_eq!(left(&pod("Failed", "EvictionByEvictionAPI"), now), None);
        assert_eq!(left(&pod("Running", "TerminationByKubelet"), now), None);
    }
}
