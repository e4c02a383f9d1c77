//! Looks at the server, and writes.

use std::time::Duration;

use api::object::ObjectKey;
use api::resource::api_version;
use client::patch::Patch;
use client::reconcile::Action;
use client::request::Delete;
use client::view::Owner as Reference;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};

use super::Collector;
use super::graph::{FOREGROUND, Node, ORPHAN};
use super::plan::{Observed, Owner, Step};
use crate::ReconcileError;

/// Backs up the discovery of a kind that is not served now.
const UNKNOWN_KIND: Duration = Duration::from_secs(60);

impl Collector {
    /// `None` if the object is not known.
    pub(super) async fn observe(&self, uid: &str) -> Result<Option<Observed>, ReconcileError> {
        let (node, dependents, known) = {
            let graph = self.graph.lock();
            let Some(node) = graph.get(uid).cloned() else { return Ok(None) };
            let dependents = graph.dependents(uid).cloned().collect();
            let known: Vec<Option<Owner>> =
                node.owners.iter().map(|owner| state_of(graph.get(&owner.uid), owner, &node)).collect();
            (node, dependents, known)
        };
        let mut owners = Vec::with_capacity(known.len());
        for (reference, state) in node.owners.iter().zip(known) {
            let state = match state {
                Some(state) => state,
                None if node.deleting => Owner::Unknown,
                None => self.ask(reference, &node).await?,
            };
            owners.push((reference.uid.clone(), state));
        }
        Ok(Some(Observed { node, owners, dependents }))
    }

    /// Tells of a reference to an owner that it cannot reach.
    pub(super) fn warn(&self, node: &Node, reference: &Reference) {
        let (catalogue, namespace) = (self.catalogue.read().clone(), &node.key.namespace);
        let kind = catalogue.resources.iter().find(|known| known.resource == *node.resource);
        let about = ObjectReference {
            api_version: Some(api_version(&node.resource.group, &node.resource.version)),
            kind: kind.map(|known| known.kind.clone()),
            name: Some(node.key.name.clone()),
            namespace: (!namespace.is_empty()).then(|| namespace.clone()),
            uid: Some(node.uid.to_string()),
            ..ObjectReference::default()
        };
        let Reference { api_version, kind, name, uid, .. } = reference;
        let owner = format!("[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]");
        let why = format!("ownerRef {owner} does not exist in namespace {namespace:?}");
        self.recorder.warning(&about, "OwnerRefInvalidNamespace", why);
    }

    /// Reads an owner from the server.
    async fn ask(&self, reference: &Reference, dependent: &Node) -> Result<Owner, ReconcileError> {
        let catalogue = self.catalogue.read().clone();
        let Some(kind) = catalogue.of_kind(&reference.api_version, &reference.kind) else { return Ok(Owner::Unknown) };
        let namespace = if kind.namespaced { dependent.key.namespace.as_str() } else { "" };
        if kind.namespaced && namespace.is_empty() {
            // A cluster-scoped object cannot have a namespaced owner: which namespace would it be in?
            return Ok(Owner::Unknown);
        }
        match self.requests.get(&kind.resource, &ObjectKey::new(namespace, &reference.name)).await {
            Err(error) if error.is_not_found() => Ok(Owner::Absent),
            Err(error) => Err(error.into()),
            Ok(owner) if owner["metadata"]["uid"] != reference.uid.as_str() => Ok(Owner::Absent),
            Ok(owner) => Ok(if waits(&owner) { Owner::Waiting } else { Owner::Solid }),
        }
    }

    pub(super) async fn apply(&self, observed: &Observed, step: Step) -> Result<Action, ReconcileError> {
        let node = &observed.node;
        match step {
            Step::Nothing => {}
            Step::LookAgain => return Ok(Action::After(UNKNOWN_KIND)),
            Step::DeleteDependents(uids) => {
                for uid in uids {
                    self.queue.add(uid);
                }
            }
            Step::OrphanDependents => {
                for dependent in &observed.dependents {
                    self.drop_owners(dependent, &[node.uid.to_string()]).await?;
                }
                self.drop_finalizer(node, ORPHAN).await?;
            }
            Step::Unblock => self.drop_finalizer(node, FOREGROUND).await?,
            Step::DropOwners(uids) => self.drop_owners(node, &uids).await?,
            Step::Delete(policy) => self.delete(node, policy).await?,
            Step::BreakCircle => {
                self.unblock_owners(node).await?;
                self.delete(node, "Foreground").await?;
            }
        }
        Ok(Action::Done)
    }

    /// The object as the server has it; `None` if it is gone or another has its name.
    async fn live(&self, node: &Node) -> Result<Option<Value>, ReconcileError> {
        match self.requests.get(&node.resource, &node.key).await {
            Ok(live) if live["metadata"]["uid"] == *node.uid => Ok(Some(live)),
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(None),
        }
    }

    async fn delete(&self, node: &Node, policy: &'static str) -> Result<(), ReconcileError> {
        let Some(live) = self.live(node).await? else { return Ok(()) };
        let owners = live["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let mut uids = owners.filter_map(|owner| owner["uid"].as_str());
        if !live["metadata"]["deletionTimestamp"].is_null()
            || uids.any(|uid| !node.owners.iter().any(|known| known.uid == uid))
        {
            // It has got another owner, or is going already: the change that says so is on its way.
            return Ok(());
        }
        let version = live["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let options = Delete::of(&node.uid).at(version).propagation(policy);
        tracing::debug!(resource = node.resource.resource, key = %node.key, policy, "deleting what no owner is left of");
        match self.requests.delete(&node.resource, &node.key, &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn drop_owners(&self, node: &Node, uids: &[String]) -> Result<(), ReconcileError> {
        self.filter(node, "ownerReferences", |owner| !uids.iter().any(|uid| owner["uid"] == uid.as_str())).await
    }

    /// Lets owners go before this dependent of theirs.
    async fn unblock_owners(&self, node: &Node) -> Result<(), ReconcileError> {
        let unblocked = |mut owner: Value| {
            if owner["blockOwnerDeletion"] == true {
                owner["blockOwnerDeletion"] = json!(false);
            }
            Some(owner)
        };
        self.edit(node, "ownerReferences", unblocked).await
    }

    async fn drop_finalizer(&self, node: &Node, finalizer: &str) -> Result<(), ReconcileError> {
        self.filter(node, "finalizers", |known| known != finalizer).await
    }

    /// Keeps only those items of a metadata list that pass.
    async fn filter(&self, node: &Node, field: &str, keep: impl Fn(&Value) -> bool) -> Result<(), ReconcileError> {
        self.edit(node, field, |item| keep(&item).then_some(item)).await
    }

    /// Writes what `change` makes of each item of a metadata list; an item of which it makes nothing goes.
    async fn edit(
        &self,
        node: &Node,
        field: &str,
        change: impl Fn(Value) -> Option<Value>,
    ) -> Result<(), ReconcileError> {
        let Some(live) = self.live(node).await? else { return Ok(()) };
        let items = live["metadata"][field].as_array().cloned().unwrap_or_default();
        let kept: Vec<Value> = items.iter().cloned().filter_map(change).collect();
        if kept == items {
            return Ok(());
        }
        let kept = if kept.is_empty() { Value::Null } else { Value::Array(kept) };
        let version = live["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let patch = Patch::Merge(json!({"metadata": {field: kept}})).guarded(&node.uid, version);
        match self.requests.patch(&node.resource, &node.key, &patch).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// How an owner stands by the graph; `None` if the server must be asked.
fn state_of(owner: Option<&Node>, reference: &Reference, dependent: &Node) -> Option<Owner> {
    // A reference to another place points at nothing, whatever the uid says.
    let owner = owner.filter(|owner| owner.is_meant_by(reference, dependent))?;
    Some(if owner.deleting && owner.foreground { Owner::Waiting } else { Owner::Solid })
}

fn waits(object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    !object["metadata"]["deletionTimestamp"].is_null()
        && finalizers.is_some_and(|finalizers| finalizers.contains(&json!(FOREGROUND)))
}
