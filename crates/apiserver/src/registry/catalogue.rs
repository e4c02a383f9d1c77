//! What is served: built-in and custom resources alike, by group, version and plural.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::resource::{Resource, Version, api_version};
use api::schema::Model;
use api::status::Subject;
use parking_lot::RwLock;

use crate::cache::ResourceCache;

/// One version of a resource, ready to be served.
pub struct Served {
    pub row: Arc<Resource>,
    pub version: Version,
    /// The schema of this version.
    pub model: Option<Model>,
    /// Absent for resources that are not stored, such as reviews.
    pub cache: Option<Arc<ResourceCache>>,
    /// Made from a CustomResourceDefinition.
    pub custom: bool,
}

/// All that is served, by group, version and plural.
pub type Catalogued = BTreeMap<(String, String, String), Arc<Served>>;

/// The served resources; changed whole, so that a request sees one state of it.
#[derive(Default)]
pub struct Catalogue {
    served: RwLock<Arc<Catalogued>>,
}

impl Served {
    /// As refusals name the resource.
    pub fn subject(&self) -> Subject<'_> {
        Subject { group: &self.row.group, resource: &self.row.plural }
    }

    /// The `apiVersion` of objects in this version.
    pub fn api_version(&self) -> String {
        api_version(&self.row.group, &self.version.name)
    }

    /// True when objects of this version are read and written as they are stored.
    pub fn is_storage_version(&self) -> bool {
        self.row.storage_version == self.version.name && self.row.storage_group == self.row.group
    }
}

impl Catalogue {
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Served>> {
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.served.read().get(&key).cloned()
    }

    /// The served version of a resource that clients get when they ask for none.
    pub fn preferred(&self, group: &str, plural: &str) -> Option<Arc<Served>> {
        let served = self.all();
        let found = served.values().find(|served| served.row.group == group && served.row.plural == plural)?;
        self.find(group, &found.row.versions.first()?.name, plural)
    }

    /// The served version of the kind that an object names.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Served>> {
        self.all()
            .values()
            .find(|served| served.row.group == group && served.version.name == version && served.row.kind == kind)
            .cloned()
    }

    /// All that is served, in order of group, version and plural.
    pub fn all(&self) -> Arc<Catalogued> {
        self.served.read().clone()
    }

    /// Serves all versions of a resource, instead of those that were served before.
    pub fn add(&self, served: impl IntoIterator<Item = Served>) {
        let served: Vec<Served> = served.into_iter().collect();
        let mut all = self.served.write();
        let mut next = (**all).clone();
        if let Some(first) = served.first() {
            next.retain(|_, known| known.row.group != first.row.group || known.row.plural != first.row.plural);
        }
        for one in served {
            next.insert((one.row.group.clone(), one.version.name.clone(), one.row.plural.clone()), Arc::new(one));
        }
        *all = Arc::new(next);
    }

    /// Stops serving a resource.
    pub fn remove(&self, group: &str, plural: &str) {
        let mut all = self.served.write();
        let mut next = (**all).clone();
        next.retain(|_, known| known.row.group != group || known.row.plural != plural);
        *all = Arc::new(next);
    }
}
