//! Claims get volumes, and volumes whose claim is gone are reclaimed
//! (`k8s.io/kubernetes/pkg/controller/volume/persistentvolume`).
//!
//! Claim and volume name each other when they are bound. That takes four writes, any of which may be the last before a crash:
//! the volume first, so that nobody else takes it, then its phase, then the claim, then its phase. Each run looks where
//! it stands and goes on from there. What is provisioned, drivers outside provision: they are told by annotations.
//!
//! ```text
//! observe   a claim with the volumes that it may get; a volume with its claim      plan/   what is to be done (pure)
//! latest    what is seen, or was written since                                     apply   writes and events
//! ```

mod apply;
mod latest;
mod observe;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer as _};
use client::reconcile::{Action, Controller, changed};
use client::typed::scope_of;
use client::view::View;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::storageprotection::{by_claim, claims_of_change, filed};
use crate::{Context, ReconcileError, Session};
use latest::Latest;

const NAME: &str = "persistentvolume-binder-controller";
/// Who signs its events.
const COMPONENT: &str = "persistentvolume-controller";

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const OLD_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// How objects named their class before there was a field for it.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What is reconciled. One at a time: two claims at once could choose the same volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Subject {
    Claim(ObjectKey),
    Volume(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

struct Binder {
    session: Session,
    claims: Latest,
    volumes: Latest,
    classes: Arc<View>,
    pods: Arc<View>,
    /// The events of the last run for a subject, and what it was as of then: the same is not told again.
    told: Mutex<BTreeMap<Subject, (u64, Vec<apply::Told>)>>,
    /// The UIDs of the pods that this process has made to empty volumes: whoever else has such a name has emptied nothing.
    emptiers: Mutex<BTreeSet<String>>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("persistent-volume-binder", COMPONENT);
    let claims = Arc::new(View::new(&*context.informers, scope_of::<PersistentVolumeClaim>()).index(file_claim));
    let volumes = Arc::new(View::new(&*context.informers, scope_of::<PersistentVolume>()).index(file_volume));
    let classes = Arc::new(View::new(&*context.informers, scope_of::<StorageClass>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(by_claim));
    let (of_claim, of_volume, of_class) = (volumes.clone(), claims.clone(), claims.clone());
    let of_pod = (claims.clone(), volumes.clone());
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&claims, move |change| claim_moved(&of_claim, change))
        .watch(&volumes, move |change| volume_moved(&of_volume, change))
        .watch(&classes, move |change| class_moved(&of_class, change))
        .watch(&pods, move |change| pod_moved(&of_pod.0, &of_pod.1, change));
    let this = Arc::new(Binder {
        session,
        claims: Latest::new(claims),
        volumes: Latest::new(volumes),
        classes,
        pods,
        told: Mutex::default(),
        emptiers: Mutex::default(),
    });
    let work = controller.run(token.clone(), move |subject| {
        let this = this.clone();
        async move { this.reconcile(subject).await }
    });
    tokio::join!(work, writer.run(token));
}

impl Binder {
    async fn reconcile(&self, subject: Subject) -> Result<Action, ReconcileError> {
        let plan = match &subject {
            Subject::Claim(key) => self.observe_claim(key).map(|seen| plan::of_claim(&seen)),
            Subject::Volume(name) => self.observe_volume(name).await?.map(|seen| plan::of_volume(&seen)),
        };
        match plan {
            Some(plan) => self.apply(&subject, plan).await?,
            None => drop(self.told.lock().remove(&subject)),
        }
        Ok(Action::Done)
    }
}

/// Files claims under the volume that they name, and those that are not bound under their class.
fn file_claim(claim: &Entry) -> Vec<String> {
    let claim = claim.to_value();
    let named = claim["spec"]["volumeName"].as_str().filter(|name| !name.is_empty()).map(of_volume);
    let bound = claim["metadata"]["annotations"][BIND_COMPLETED].is_string();
    named.into_iter().chain((!bound).then(|| unbound(class_of(&claim)))).collect()
}

fn class_of(object: &Value) -> &str {
    let old = object["metadata"]["annotations"][OLD_CLASS].as_str();
    old.or_else(|| object["spec"]["storageClassName"].as_str()).unwrap_or_default()
}

fn of_volume(volume: &str) -> String {
    format!("volume/{volume}")
}

fn unbound(class: &str) -> String {
    format!("unbound/{class}")
}

/// Files volumes under the claim that they name, and those that name none under their class.
fn file_volume(volume: &Entry) -> Vec<String> {
    let volume = volume.to_value();
    let text = |field: &str| volume["spec"]["claimRef"][field].as_str().unwrap_or_default();
    match text("name") {
        "" => vec![free(class_of(&volume))],
        name => vec![of_claim(&ObjectKey::new(text("namespace"), name))],
    }
}

fn of_claim(claim: &ObjectKey) -> String {
    format!("claim/{}", filed(claim))
}

fn free(class: &str) -> String {
    format!("free/{class}")
}

/// A claim concerns the volumes that name it.
fn claim_moved(volumes: &View, change: &Change) -> Vec<Subject> {
    let Some(claim) = changed(change) else { return Vec::new() };
    let named = volumes.find(0, &of_claim(&claim.key)).into_iter().map(|it| Subject::Volume(it.key.name.clone()));
    [Subject::Claim(claim.key.clone())].into_iter().chain(named).collect()
}

/// A volume concerns the claims that it names or that name it, and when it is free those that wait for one.
fn volume_moved(claims: &View, change: &Change) -> Vec<Subject> {
    let Some(volume) = changed(change) else { return Vec::new() };
    let mut subjects = vec![Subject::Volume(volume.key.name.clone())];
    let mut filed = file_volume(volume);
    filed.push(of_volume(&volume.key.name));
    for place in filed {
        match (place.strip_prefix("claim/"), place.strip_prefix("free/")) {
            (Some(claim), _) => {
                if let Some((namespace, name)) = claim.split_once('/') {
                    subjects.push(Subject::Claim(ObjectKey::new(namespace, name)));
                }
            }
            (_, Some(class)) => subjects.extend(found(claims, &unbound(class))),
            _ => subjects.extend(found(claims, &place)),
        }
    }
    subjects
}

/// A class concerns the claims that name it, and those that name none: it may be the default.
fn class_moved(claims: &View, change: &Change) -> Vec<Subject> {
    let Some(class) = changed(change) else { return Vec::new() };
    let named = found(claims, &unbound(&class.key.name));
    named.chain(found(claims, &unbound(""))).collect()
}

fn found(claims: &View, place: &str) -> impl Iterator<Item = Subject> + use<> {
    claims.find(0, place).into_iter().map(|claim| Subject::Claim(claim.key.clone()))
}

/// A pod that comes or goes concerns its claims; one that ends, volumes whose claim is gone. One that empties a volume
/// concerns that.
fn pod_moved(claims: &View, volumes: &View, change: &Change) -> Vec<Subject> {
    let Some(pod) = changed(change) else { return Vec::new() };
    let emptied = plan::emptied_by(&pod.key).map(|name| Subject::Volume(name.to_owned()));
    let mut subjects: Vec<Subject> = emptied.into_iter().collect();
    let comes_or_goes = !matches!(change, Change::Applied { old: Some(_), .. });
    for key in claims_of_change(change) {
        if claims.get(&key).is_none() {
            let left = volumes.find(0, &of_claim(&key)).into_iter();
            subjects.extend(left.map(|volume| Subject::Volume(volume.key.name.clone())));
        } else if comes_or_goes {
            subjects.push(Subject::Claim(key));
        }
    }
    subjects
}
