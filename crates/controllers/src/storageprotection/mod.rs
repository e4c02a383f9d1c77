//! Volumes, claims and attribute classes that are being deleted stay until nothing uses them any more.
//!
//! Admission puts a finalizer on each; these controllers take it away: of a volume when it is not bound, of a claim when no
//! Pod mounts it, of a class when no volume and no claim has it.

mod plan;

use std::sync::Arc;

use api::codec::scan::member;
use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed, own_key};
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttributesClass;
use memchr::memmem;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError, Session};
use plan::Verdict;

const VOLUMES: &str = "persistentvolume-protection-controller";
const CLAIMS: &str = "persistentvolumeclaim-protection-controller";
const CLASSES: &str = "volumeattributesclass-protection-controller";

const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";

/// Looks after PersistentVolumes until `token` is cancelled.
pub async fn run_volumes(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("pv-protection-controller", VOLUMES);
    let session = Arc::new(session);
    let volumes = Arc::new(View::new(&*context.informers, scope_of::<PersistentVolume>()));
    let controller = Controller::new(VOLUMES, context.clock.clone()).watch(&volumes, own_key);
    let work = controller.run(token.clone(), move |key| {
        let (session, volumes) = (session.clone(), volumes.clone());
        async move {
            let Some(volume) = volumes.get(&key) else { return Ok(Action::Done) };
            let verdict = plan::judge(&volume.to_value(), OF_VOLUMES, || plan::is_bound(&volume.to_value()));
            apply::<PersistentVolume>(&session, &volume, OF_VOLUMES, verdict).await
        }
    });
    tokio::join!(work, writer.run(token));
}

/// Looks after PersistentVolumeClaims until `token` is cancelled.
pub async fn run_claims(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("pvc-protection-controller", CLAIMS);
    let session = Arc::new(session);
    let claims = Arc::new(View::new(&*context.informers, scope_of::<PersistentVolumeClaim>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(by_claim));
    let controller =
        Controller::new(CLAIMS, context.clock.clone()).watch(&claims, own_key).watch(&pods, claims_of_change);
    let work = controller.run(token.clone(), move |key| {
        let (session, claims, pods) = (session.clone(), claims.clone(), pods.clone());
        async move { reconcile_claim(&session, &claims, &pods, key).await }
    });
    tokio::join!(work, writer.run(token));
}

/// Looks after VolumeAttributesClasses until `token` is cancelled.
pub async fn run_classes(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(CLASSES, CLASSES);
    let session = Arc::new(session);
    let classes = Arc::new(View::new(&*context.informers, scope_of::<VolumeAttributesClass>()));
    let volumes = View::new(&*context.informers, scope_of::<PersistentVolume>());
    let volumes = Arc::new(volumes.index(|volume| plan::classes_of_volume(&volume.to_value())));
    let claims = View::new(&*context.informers, scope_of::<PersistentVolumeClaim>());
    let claims = Arc::new(claims.index(|claim| plan::classes_of_claim(&claim.to_value())));
    let controller = Controller::new(CLASSES, context.clock.clone())
        .watch(&classes, own_key)
        .watch(&volumes, |change| classes_of_change(change, plan::classes_of_volume))
        .watch(&claims, |change| classes_of_change(change, plan::classes_of_claim));
    let work = controller.run(token.clone(), move |key| {
        let (session, classes, users) = (session.clone(), classes.clone(), [volumes.clone(), claims.clone()]);
        async move {
            let Some(class) = classes.get(&key) else { return Ok(Action::Done) };
            let is_used = || users.iter().any(|view| !view.find(0, &key.name).is_empty());
            let verdict = plan::judge(&class.to_value(), OF_CLASSES, is_used);
            apply::<VolumeAttributesClass>(&session, &class, OF_CLASSES, verdict).await
        }
    });
    tokio::join!(work, writer.run(token));
}

async fn reconcile_claim(
    session: &Session,
    claims: &View,
    pods: &View,
    key: ObjectKey,
) -> Result<Action, ReconcileError> {
    let Some(seen) = claims.get(&key) else { return Ok(Action::Done) };
    let claim = seen.to_value();
    let is_used = || pods.find(0, &filed(&key)).iter().any(|pod| plan::keeps_claim(&pod.to_value(), &claim));
    let verdict = plan::judge(&claim, OF_CLAIMS, is_used);
    if verdict == Verdict::Remove {
        // The view may be behind: only the server knows that no Pod has come since.
        let live = session.requests.list(&resource_of::<Pod>(), Some(&key.namespace), "").await?;
        if live.iter().any(|pod| plan::keeps_claim(pod, &claim)) {
            return Ok(Action::Done);
        }
    }
    apply::<PersistentVolumeClaim>(session, &seen, OF_CLAIMS, verdict).await
}

/// Writes the finalizers that the verdict leaves.
async fn apply<K: k8s_openapi::Resource>(
    session: &Session,
    seen: &Entry,
    finalizer: &str,
    verdict: Verdict,
) -> Result<Action, ReconcileError> {
    let Some(finalizers) = plan::finalizers(&seen.to_value(), finalizer, verdict) else { return Ok(Action::Done) };
    let change = json!({"metadata": {"finalizers": finalizers}});
    match session.requests.edit(&resource_of::<K>(), seen, None, &change).await {
        // Another change brings it here again.
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(Action::Done),
    }
}

/// Files Pods under the claims that they mount, by [`filed`].
pub(crate) fn by_claim(pod: &Entry) -> Vec<String> {
    let namespace = &pod.key.namespace;
    claims_of(pod).into_iter().map(|name| filed(&ObjectKey::new(namespace.as_str(), name))).collect()
}

/// Every change of every Pod asks this; few Pods have claims, and only those are decoded.
fn claims_of(pod: &Entry) -> Vec<String> {
    let volumes = pod.member("spec").and_then(|spec| member(&spec, "volumes").map(|found| spec.slice(found)));
    let may_claim = |volumes: &[u8]| {
        [&b"\"persistentVolumeClaim\""[..], b"\"ephemeral\""].iter().any(|kind| memmem::find(volumes, kind).is_some())
    };
    if volumes.as_deref().is_some_and(may_claim) { plan::claims_of(&pod.to_value()) } else { Vec::new() }
}

pub(crate) fn filed(claim: &ObjectKey) -> String {
    format!("{}/{}", claim.namespace, claim.name)
}

/// The claims of a Pod that changed or went.
pub(crate) fn claims_of_change(change: &Change) -> Vec<ObjectKey> {
    let Some(pod) = changed(change) else { return Vec::new() };
    let namespace = &pod.key.namespace;
    claims_of(pod).into_iter().map(|name| ObjectKey::new(namespace.as_str(), name)).collect()
}

/// The classes that a user had before it changed or went.
fn classes_of_change(change: &Change, classes: fn(&Value) -> Vec<String>) -> Vec<ObjectKey> {
    let before = match change {
        Change::Applied { old, .. } => old.as_ref(),
        Change::Deleted(last) => Some(last),
        Change::Synced | Change::Resync => None,
    };
    let names = before.map(|user| classes(&user.to_value())).unwrap_or_default();
    names.into_iter().map(|name| ObjectKey::new("", name)).collect()
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn a_claim_goes_with_the_last_pod_that_mounts_it() {
        let cluster = FakeCluster::new();
        let (claims, pods) = (resource_of::<PersistentVolumeClaim>(), resource_of::<Pod>());
        for name in ["used", "free"] {
            cluster.put(
                &claims,
                json!({"metadata": {"namespace": "a", "name": name, "deletionTimestamp": "2026-01-01T00:00:00Z",
                                    "finalizers": [OF_CLAIMS, "example.com/held"]}, "spec": {}}),
            );
        }
        cluster.put(
            &pods,
            json!({"metadata": {"namespace": "a", "name": "p"}, "spec": {"nodeName": "n", "containers": [],
                   "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}]}}),
        );
        let harness = Harness::start(&cluster, run_claims);
        let held = |name: &str| {
            let claim = cluster.get(&claims, &ObjectKey::new("a", name)).unwrap_or_default();
            claim["metadata"]["finalizers"].as_array().is_some_and(|list| list.iter().any(|held| held == OF_CLAIMS))
        };
        eventually(|| !held("free")).await;
        assert!(held("used"));
        cluster.remove(&pods, &ObjectKey::new("a", "p"));
        eventually(|| !held("used")).await;
        harness.stop().await;
    }

    #[tokio::test]
    async fn a_volume_stays_while_it_is_bound_and_a_class_while_it_is_used() {
        let cluster = FakeCluster::new();
        let (volumes, classes) = (resource_of::<PersistentVolume>(), resource_of::<VolumeAttributesClass>());
        let dying = "2026-01-01T00:00:00Z";
        for (name, phase) in [("bound", "Bound"), ("released", "Released")] {
            cluster.put(
                &volumes,
                json!({"metadata": {"name": name, "deletionTimestamp": dying,
                                    "finalizers": [OF_VOLUMES, "example.com/held"]},
                       "spec": {"volumeAttributesClassName": name}, "status": {"phase": phase}}),
            );
        }
        for name in ["bound", "idle"] {
            cluster.put(
                &classes,
                json!({"metadata": {"name": name, "deletionTimestamp": dying,
                                    "finalizers": [OF_CLASSES, "example.com/held"]}, "driverName": "d"}),
            );
        }
        let mut harness = Harness::start(&cluster, run_volumes);
        harness.also(&cluster, run_classes);
        let finalizers = |resource, name: &str| {
            let object = cluster.get(resource, &ObjectKey::new("", name)).unwrap_or_default();
            object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
        };
        eventually(|| finalizers(&volumes, "released") == 1 && finalizers(&classes, "idle") == 1).await;
        assert_eq!((finalizers(&volumes, "bound"), finalizers(&classes, "bound")), (2, 2));
        harness.stop().await;
    }
}
