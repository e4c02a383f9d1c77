//! Who owns whom.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::{GroupVersionResource, split_api_version};
use client::view::{Owner, Relations};

/// The finalizer of an object that waits for its dependents to be deleted.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents are to be left behind.
pub(super) const ORPHAN: &str = "orphan";

/// An object, as far as ownership goes.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) resource: Arc<GroupVersionResource>,
    pub(super) key: ObjectKey,
    pub(super) uid: Arc<str>,
    pub(super) owners: Vec<Owner>,
    pub(super) deleting: bool,
    /// Has the finalizer [`FOREGROUND`].
    pub(super) foreground: bool,
    /// Has the finalizer [`ORPHAN`].
    pub(super) orphan: bool,
}

impl Node {
    /// Whether a dependent's reference to this object's uid points at it otherwise, too.
    pub(super) fn is_meant_by(&self, reference: &Owner, dependent: &Node) -> bool {
        let (group, _) = split_api_version(&reference.api_version);
        self.is_within_reach_of(dependent) && self.key.name == reference.name && self.resource.group == group
    }

    /// References stay within their namespace, or point at what is in none.
    fn is_within_reach_of(&self, dependent: &Node) -> bool {
        self.key.namespace.is_empty() || self.key.namespace == dependent.key.namespace
    }
}

/// All objects that can be collected, by uid.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Arc<str>, Node>,
    /// By the uid that references name, whether or not an object of that uid has been seen.
    dependents: HashMap<String, BTreeSet<Arc<str>>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// An object was created or changed. Returns whom to look at.
    pub(super) fn observe(&mut self, resource: &Arc<GroupVersionResource>, entry: &Entry) -> Vec<String> {
        let relations = Relations::of(entry);
        let has = |finalizer: &str| relations.finalizers.iter().any(|known| known == finalizer);
        let node = Node {
            resource: resource.clone(),
            key: entry.key.clone(),
            uid: entry.uid.as_str().into(),
            deleting: relations.deletion_timestamp.is_some(),
            foreground: has(FOREGROUND),
            orphan: has(ORPHAN),
            owners: relations.owner_references.clone(),
        };
        let old = self.nodes.remove(entry.uid.as_str());
        self.unlink(old.as_ref());
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(node.uid.clone());
        }
        let mut concerned = Vec::new();
        let stays = |owner: &Node, reference: &Owner| !owner.deleting && owner.is_meant_by(reference, &node);
        let unknown_owner =
            node.owners.iter().any(|it| !self.nodes.get(it.uid.as_str()).is_some_and(|owner| stays(owner, it)));
        let finishing = node.deleting && (node.foreground || node.orphan);
        if unknown_owner || finishing {
            concerned.push(node.uid.to_string());
        }
        // An owner that waits may have one blocking dependent less.
        concerned.extend(self.waiting(old.iter().flat_map(|old| &old.owners)));
        self.nodes.insert(node.uid.clone(), node);
        concerned
    }

    /// The references of an object, and with `to_it` those of others to it, to objects that they cannot reach.
    pub(super) fn astray(&self, uid: &str, to_it: bool) -> Vec<(Node, Owner)> {
        let dependents = self.dependents(uid).filter(|_| to_it).chain(self.get(uid));
        let references = dependents.flat_map(|node| node.owners.iter().map(move |reference| (node, reference)));
        let astray = references.filter(|(node, reference)| {
            let concerns = *node.uid == *uid || reference.uid == uid;
            concerns && self.get(&reference.uid).is_some_and(|owner| !owner.is_within_reach_of(node))
        });
        astray.map(|(node, reference)| (node.clone(), reference.clone())).collect()
    }

    /// An object is gone. Returns whom to look at: what it owned, and owners that waited for it.
    pub(super) fn forget(&mut self, uid: &str) -> Vec<String> {
        let old = self.nodes.remove(uid);
        self.unlink(old.as_ref());
        let mut concerned: Vec<String> =
            self.dependents.get(uid).into_iter().flatten().map(|uid| uid.to_string()).collect();
        concerned.extend(self.waiting(old.iter().flat_map(|old| &old.owners)));
        concerned
    }

    /// A resource is served no longer; its objects are unknown, not gone.
    pub(super) fn forget_resource(&mut self, resource: &GroupVersionResource) {
        let uids: Vec<Arc<str>> =
            self.nodes.values().filter(|node| *node.resource == *resource).map(|node| node.uid.clone()).collect();
        for uid in uids {
            let old = self.nodes.remove(&uid);
            self.unlink(old.as_ref());
        }
    }

    fn waiting<'a>(&self, owners: impl Iterator<Item = &'a Owner>) -> Vec<String> {
        let waits =
            |owner: &&Owner| self.nodes.get(owner.uid.as_str()).is_some_and(|node| node.deleting && node.foreground);
        owners.filter(waits).map(|owner| owner.uid.clone()).collect()
    }

    fn unlink(&mut self, old: Option<&Node>) {
        let Some(old) = old else { return };
        for owner in &old.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(&old.uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}
