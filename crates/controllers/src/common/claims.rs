//! Which objects are a controller's: by owner reference, and by selector for those that have no owner.
//!
//! An orphan that the selector matches is adopted, an owned object that it no longer matches is released. Both are
//! writes with preconditions, and before adopting anything the owner is read from the server: a cached owner may have been
//! deleted, or be another of the same name.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::GroupVersionResource;
use api::selector::label::{LabelSelector, LabelSet};
use client::informer::{Change, Informer};
use client::patch::Patch;
use client::reconcile::changed;
use client::request::Requests;
use client::typed::resource_of;
use client::view::{Relations, View};
use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::pods;
use crate::ReconcileError;

/// Sorted into what is to be done with it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) owned: Vec<Arc<Entry>>,
    pub(crate) adopt: Vec<Arc<Entry>>,
    pub(crate) release: Vec<Arc<Entry>>,
}

/// Sorts the objects that the owner controls, and the orphans of its namespace. An owner that is being deleted keeps
/// what it has and takes nothing.
pub(crate) fn sort(
    owned: Vec<Arc<Entry>>,
    orphans: Vec<Arc<Entry>>,
    selector: &LabelSelector,
    owner_deleting: bool,
) -> Claims {
    let mut claims = Claims::default();
    for entry in owned {
        if owner_deleting || selector.matches(&entry.labels) {
            claims.owned.push(entry);
        } else if Relations::of(&entry).deletion_timestamp.is_none() {
            claims.release.push(entry);
        }
    }
    if !owner_deleting {
        let orphans = orphans.into_iter().filter(|entry| selector.matches(&entry.labels));
        claims.adopt = orphans.filter(|entry| Relations::of(entry).deletion_timestamp.is_none()).collect();
    }
    claims
}

/// The owner's objects in `view`, whose first index is [`pods::by_owner`], after adopting and releasing.
pub(crate) async fn claim<K: Resource>(
    requests: &Requests,
    view: &View,
    resource: &GroupVersionResource,
    owner: &ObjectMeta,
    selector: &LabelSelector,
) -> Result<Vec<Arc<Entry>>, ReconcileError> {
    let orphans = view.find(0, &pods::orphans(pods::namespace(owner)));
    let claims = sort(view.find(0, pods::uid(owner)), orphans, selector, owner.deletion_timestamp.is_some());
    let mut owned = claims.owned;
    if !claims.adopt.is_empty() {
        confirm::<K>(requests, owner).await?;
    }
    for entry in claims.adopt {
        if let Some(adopted) = adopt::<K>(requests, resource, owner, &entry).await? {
            owned.push(Arc::new(adopted));
        }
    }
    for entry in claims.release {
        release(requests, resource, pods::uid(owner), &entry).await?;
    }
    Ok(owned)
}

/// Reads the owner from the server: it must be there, the same, and not be going.
async fn confirm<K: Resource>(requests: &Requests, owner: &ObjectMeta) -> Result<(), ReconcileError> {
    let key = ObjectKey::new(pods::namespace(owner), pods::name(owner));
    let live = requests.get(&resource_of::<K>(), &key).await?;
    if live["metadata"]["uid"] != pods::uid(owner) || !live["metadata"]["deletionTimestamp"].is_null() {
        return Err(ReconcileError::Stale { kind: K::KIND, key });
    }
    Ok(())
}

async fn adopt<K: Resource>(
    requests: &Requests,
    resource: &GroupVersionResource,
    owner: &ObjectMeta,
    entry: &Entry,
) -> Result<Option<Entry>, ReconcileError> {
    let mut owners = owners_of(entry);
    owners.push(pods::controller_reference::<K>(owner));
    let patched = write_owners(requests, resource, entry, owners).await?;
    let revision = |object: &Value| object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    Ok(patched.and_then(|object| Entry::from_value(object.clone(), revision(&object)?, &[]).ok()))
}

async fn release(
    requests: &Requests,
    resource: &GroupVersionResource,
    owner_uid: &str,
    entry: &Entry,
) -> Result<(), ReconcileError> {
    let owners = owners_of(entry).into_iter().filter(|owner| owner["uid"] != owner_uid).collect();
    write_owners(requests, resource, entry, owners).await.map(drop)
}

/// `None` if the object is gone or another, which is as well.
async fn write_owners(
    requests: &Requests,
    resource: &GroupVersionResource,
    entry: &Entry,
    owners: Vec<Value>,
) -> Result<Option<Value>, ReconcileError> {
    let owners = if owners.is_empty() { Value::Null } else { Value::Array(owners) };
    let patch =
        Patch::Merge(json!({"metadata": {"ownerReferences": owners}})).guarded(&entry.uid, &entry.revision.to_string());
    match requests.patch(resource, &entry.key, &patch).await {
        Ok(patched) => Ok(Some(patched)),
        Err(error) if error.is_not_found() || error.is_invalid() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The owner references as they are written, with what we don't know.
pub(crate) fn owners_of(entry: &Entry) -> Vec<Value> {
    entry.to_value()["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default()
}

/// Whom an object's change concerns: the owner of this kind that it has and had, or whoever could adopt it.
pub(crate) fn concerned(
    owners: &View,
    change: &Change,
    kind: &str,
    selector_of: impl Fn(&Entry) -> LabelSelector,
) -> Vec<ObjectKey> {
    let Some(object) = changed(change) else { return Vec::new() };
    let named = |entry: &Entry| {
        let owner = Relations::of(entry).controller().filter(|owner| owner.kind == kind).cloned()?;
        Some(ObjectKey::new(&entry.key.namespace, owner.name))
    };
    let mut keys: Vec<ObjectKey> = named(object).into_iter().collect();
    if let Change::Applied { old: Some(old), .. } = change {
        keys.extend(named(old).filter(|key| !keys.contains(key)));
    }
    if Relations::of(object).controller().is_none() && matches!(change, Change::Applied { .. }) {
        let mut candidates = owners.list(Some(&object.key.namespace));
        candidates.retain(|entry| !keys.contains(&entry.key) && matches(&selector_of(entry), &object.labels));
        keys.extend(candidates.iter().map(|entry| entry.key.clone()));
    }
    keys
}

/// Whether labels could make an orphan some owner's: for waking owners when orphans change.
pub(crate) fn matches(selector: &LabelSelector, labels: &impl LabelSet) -> bool {
    !selector.is_everything() && selector.matches(labels)
}
