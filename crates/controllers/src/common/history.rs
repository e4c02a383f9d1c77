//! The templates that a DaemonSet or StatefulSet has had, kept as ControllerRevisions.

use std::sync::Arc;

use api::object::Entry;
use client::request::{Delete, RequestError, Requests};
use client::typed::{decode, resource_of};
use client::view::View;
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::{hash, pods};
use crate::ReconcileError;

/// The label of pods that says from which revision they were made.
pub(crate) const HASH: &str = "controller-revision-hash";

/// One remembered template.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    /// `None` before it is written.
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) name: String,
    pub(crate) hash: String,
    pub(crate) number: i64,
    /// A patch that sets the template.
    pub(crate) data: Value,
}

/// What is to be done so that the newest revision is the current template.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// All revisions, oldest first, the newest being the template's.
    pub(crate) revisions: Vec<Revision>,
}

/// The patch by which upstream remembers a template.
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

impl Revision {
    pub(crate) fn template(&self) -> Option<PodTemplateSpec> {
        let mut template = self.data["spec"]["template"].clone();
        template.as_object_mut()?.remove("$patch");
        serde_json::from_value(template).ok()
    }
}

/// The revisions of an owner, in `view` (whose first index is [`pods::by_owner`]), with one for `template` as the newest.
pub(crate) fn observe(view: &View, owner: &ObjectMeta, template: &PodTemplateSpec, collisions: Option<i32>) -> History {
    let mut revisions: Vec<Revision> = view
        .find(0, pods::uid(owner))
        .into_iter()
        .filter_map(|entry| {
            let object = decode::<ControllerRevision>(&entry)?;
            let name = entry.key.name.clone();
            let label = entry.labels.get(HASH).or_else(|| entry.labels.get("controller.kubernetes.io/hash"));
            let data = object.data.map(|data| data.0).unwrap_or_default();
            let hash = label.unwrap_or_else(|| name.rsplit('-').next().unwrap_or_default()).to_owned();
            Some(Revision { entry: Some(entry), name, hash, number: object.revision, data })
        })
        .collect();
    revisions.sort_by_key(|revision| revision.number);
    let data = data_of(template);
    let next = revisions.last().map_or(1, |last| last.number + 1);
    match revisions.iter().rposition(|revision| revision.data == data) {
        Some(newest) if newest + 1 == revisions.len() => {}
        // An old template is the current one again.
        Some(old) => {
            let mut revived = revisions.remove(old);
            revived.number = next;
            revisions.push(revived);
        }
        None => {
            let hash = hash::short(&data, collisions);
            let name = format!("{}-{hash}", pods::name(owner));
            revisions.push(Revision { entry: None, name, hash, number: next, data });
        }
    }
    History { revisions }
}

impl History {
    pub(crate) fn newest(&self) -> &Revision {
        self.revisions.last().expect("observe always ends with the template's revision")
    }

    pub(crate) fn named(&self, name: &str) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.name == name)
    }

    /// Writes the newest revision, if it is new or renumbered. False if its name is taken by another template.
    pub(crate) async fn save<K: Resource>(
        &self,
        requests: &Requests,
        owner: &ObjectMeta,
        labels: &Value,
    ) -> Result<bool, RequestError> {
        let resource = resource_of::<ControllerRevision>();
        let newest = self.newest();
        if let Some(entry) = &newest.entry {
            requests.edit(&resource, entry, None, &json!({"revision": newest.number})).await?;
            return Ok(true);
        }
        let mut labels = labels.clone();
        labels[HASH] = json!(newest.hash);
        let object = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": newest.name,
                "namespace": pods::namespace(owner),
                "labels": labels,
                "ownerReferences": [pods::controller_reference::<K>(owner)],
            },
            "data": newest.data,
            "revision": newest.number,
        });
        match requests.create(&resource, pods::namespace(owner), &object).await {
            Err(error) if error.is_already_exists() => {
                let key = api::object::ObjectKey::new(pods::namespace(owner), &newest.name);
                let live = requests.get(&resource, &key).await?;
                Ok(live["data"] == newest.data)
            }
            outcome => outcome.map(|_| true),
        }
    }

    /// Forgets the oldest revisions beyond `limit` of which no pod is made.
    pub(crate) async fn truncate(
        &self,
        requests: &Requests,
        limit: i32,
        live: impl Fn(&Revision) -> bool,
    ) -> Result<(), ReconcileError> {
        let newest = self.newest().name.clone();
        let unused: Vec<&Revision> =
            self.revisions.iter().filter(|revision| revision.name != newest && !live(revision)).collect();
        let surplus = unused.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        for entry in unused.into_iter().take(surplus).filter_map(|revision| revision.entry.as_ref()) {
            match requests.delete(&resource_of::<ControllerRevision>(), &entry.key, &Delete::of(&entry.uid)).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}
