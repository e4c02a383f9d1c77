//! The live copy of a resource that a component works from.
//!
//! In the server's process an informer reads the watch cache, so a component costs no second copy; elsewhere it
//! is filled by list and watch over the wire. Components cannot tell the difference.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::GroupVersionResource;
use tokio::sync::mpsc;

/// Where a component gets its informers.
pub trait Informers: Send + Sync + 'static {
    /// The informer for `scope`. Informers of one scope are shared.
    fn informer(&self, scope: Scope) -> Arc<dyn Informer>;
}

/// Which objects an informer holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    pub resource: GroupVersionResource,
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// A field selector as the API takes it, such as `spec.nodeName=n1`; empty selects all.
    pub fields: String,
    /// A label selector as the API takes it; empty selects all.
    pub labels: String,
}

/// A live copy of the objects of one [`Scope`].
pub trait Informer: Send + Sync + 'static {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>>;

    /// The objects of one namespace, or all, in key order.
    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>>;

    /// True once the first list is complete.
    fn synced(&self) -> bool;

    /// What changes from now on, after one [`Change::Applied`] for each object that is there and one
    /// [`Change::Synced`]. A subscriber that does not keep up gets [`Change::Resync`] and must look at `list` anew.
    /// Nothing more comes once nobody holds the informer.
    fn subscribe(&self) -> mpsc::Receiver<Change>;
}

/// What happened to an informer's objects.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object was there, was created, or changed. `old` is what it was before, when the informer had seen it.
    Applied { old: Option<Arc<Entry>>, new: Arc<Entry> },
    /// The object is gone; this is its last state.
    Deleted(Arc<Entry>),
    /// All objects of the first list have been delivered.
    Synced,
    /// Changes were lost: compare with `list`.
    Resync,
}

impl Scope {
    /// All objects of a resource.
    pub fn all(group: &str, version: &str, resource: &str) -> Self {
        Self {
            resource: GroupVersionResource {
                group: group.to_owned(),
                version: version.to_owned(),
                resource: resource.to_owned(),
            },
            namespace: None,
            fields: String::new(),
            labels: String::new(),
        }
    }

    /// Narrowed by a field selector.
    pub fn with_fields(mut self, selector: &str) -> Self {
        selector.clone_into(&mut self.fields);
        self
    }
}
