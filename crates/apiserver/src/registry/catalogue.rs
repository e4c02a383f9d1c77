//! What is served: built-in and custom resources alike, by group, version and plural.

use std::sync::Arc;

use api::custom::{CustomVersion, Definition};
use api::forms::FormName;
use api::resource::{Resource, Verbs, Version, api_version};
use api::schema::Model;
use api::status::Subject;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use super::versions::Converter;
use crate::cache::ResourceCache;
use crate::openapi::Published;

/// One version of a resource, ready to be served.
pub struct Served {
    pub row: Arc<Resource>,
    pub version: Version,
    /// The schema of a version of a built-in kind.
    pub built_in: Option<Model>,
    /// Absent for resources that are not stored, such as reviews.
    pub cache: Option<Arc<ResourceCache>>,
    /// What its definition says of a custom resource.
    pub custom: Option<Custom>,
    /// What is kept with objects of how this shows them.
    pub form: FormName,
}

/// A version of a custom resource, of one state of its definition.
#[derive(Clone)]
pub struct Custom {
    pub definition: Arc<Definition>,
    /// The place of the version among the definition's.
    pub at: usize,
    pub converter: Arc<dyn Converter>,
    pub(crate) published: Arc<Published>,
    /// Cancelled when what is served is no longer this: watches end, and their clients begin anew.
    pub retired: CancellationToken,
}

impl Custom {
    pub fn version(&self) -> &CustomVersion {
        &self.definition.versions[self.at]
    }
}

/// All that is served, in order of group, version and plural.
#[derive(Clone, Default)]
pub struct Catalogued(Vec<Arc<Served>>);

/// The served resources; changed whole, so that a request sees one state of it.
#[derive(Default)]
pub struct Catalogue {
    served: RwLock<Arc<Catalogued>>,
}

impl Served {
    /// Group, version and plural, as paths have them.
    fn path(&self) -> (&str, &str, &str) {
        (&self.row.group, &self.version.name, &self.row.plural)
    }

    /// The schema of this version.
    pub fn model(&self) -> Option<&Model> {
        match &self.custom {
            Some(custom) => Some(custom.version().schema().model()),
            None => self.built_in.as_ref(),
        }
    }

    /// As refusals name the resource.
    pub fn subject(&self) -> Subject<'_> {
        Subject { group: &self.row.group, resource: &self.row.plural }
    }

    /// The `apiVersion` of objects in this version.
    pub fn api_version(&self) -> String {
        api_version(&self.row.group, &self.version.name)
    }

    /// True when objects are shown as they are stored, byte for byte. Of a custom resource that is known for each
    /// object alone: its schema may have changed since it was stored.
    pub fn is_shown_as_stored(&self) -> bool {
        self.custom.is_none() && self.is_storage_version()
    }

    /// True when writes work on objects in this version, not in the storage version: hooks of built-in kinds know but
    /// one version, schemas of custom resources each their own.
    pub fn is_written_as_shown(&self) -> bool {
        self.custom.is_some() || self.is_storage_version()
    }

    /// The verbs that discovery tells.
    pub fn verbs(&self) -> Verbs {
        match &self.custom {
            Some(custom) if custom.definition.terminating => Verbs::TERMINATING,
            _ => self.row.verbs,
        }
    }

    /// True when a subresource writes the status.
    pub fn has_status(&self) -> bool {
        match &self.custom {
            Some(custom) => custom.version().has_status,
            None => self.row.has_status(),
        }
    }

    /// True when this is the version in which objects are stored.
    pub fn is_storage_version(&self) -> bool {
        self.row.storage_version == self.version.name && self.row.storage_group == self.row.group
    }
}

impl Catalogued {
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Served>> {
        let at = self.0.binary_search_by(|served| served.path().cmp(&(group, version, plural))).ok()?;
        self.0.get(at)
    }

    /// In order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Served>> {
        self.0.iter()
    }

    /// What is served in one version of a group.
    pub fn of_version(&self, group: &str, version: &str) -> impl Iterator<Item = &Arc<Served>> {
        let from = self.0.partition_point(|served| served.path() < (group, version, ""));
        self.0[from..].iter().take_while(move |served| {
            let (known, name, _) = served.path();
            known == group && name == version
        })
    }
}

impl Catalogue {
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Served>> {
        self.served.read().get(group, version, plural).cloned()
    }

    /// Whether there are built-in kinds in a group: these have routes of their own, and what is beside the routes is refused
    /// in other words than what nobody knows.
    pub fn has_routes(&self, group: &str) -> bool {
        let all = self.all();
        all.values().any(|served| served.row.group == group && served.custom.is_none())
    }

    /// The served version of a resource that clients get when they ask for none.
    pub fn preferred(&self, group: &str, plural: &str) -> Option<Arc<Served>> {
        let served = self.all();
        let found = served.values().find(|served| served.row.group == group && served.row.plural == plural)?;
        served.get(group, &found.row.versions.first()?.name, plural).cloned()
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
            next.0.retain(|known| known.row.group != first.row.group || known.row.plural != first.row.plural);
        }
        next.0.extend(served.into_iter().map(Arc::new));
        next.0.sort_by(|a, b| a.path().cmp(&b.path()));
        *all = Arc::new(next);
    }

    /// Stops serving a resource.
    pub fn remove(&self, group: &str, plural: &str) {
        let mut all = self.served.write();
        let mut next = (**all).clone();
        next.0.retain(|known| known.row.group != group || known.row.plural != plural);
        *all = Arc::new(next);
    }
}
