//! The notation in which the table is written: an ordinary resource, then what it has beyond that.

use super::hooks::Hooks;
use crate::resource::{Resource, Selectable, Subresource, Verbs, Version};

/// The verbs of paths that pass requests on.
const PROXY: Verbs = Verbs(&["create", "delete", "get", "patch", "update"]);
/// The verbs of paths that become streams.
const STREAM: Verbs = Verbs(&["create", "get"]);

/// A namespaced resource in version v1.
pub(super) fn namespaced(group: &str, plural: &str, kind: &str) -> Resource {
    Resource::new(group, "v1", plural, kind, true)
}

/// A cluster-scoped resource in version v1.
pub(super) fn cluster(group: &str, plural: &str, kind: &str) -> Resource {
    Resource::new(group, "v1", plural, kind, false)
}

/// What a row may add. Each method returns the row, so that one reads as a sentence.
pub(super) trait Row: Sized {
    fn short(self, names: &[&str]) -> Self;
    fn category(self, name: &str) -> Self;
    fn verbs(self, verbs: &'static [&'static str]) -> Self;
    /// Serves `versions`, preferred first, each with the subresources that the row has so far.
    fn versions(self, versions: &[&str], storage: &str) -> Self;
    /// Field selectors may name these paths.
    fn select(self, labels: &[&str]) -> Self;
    /// Field selectors may name this label.
    fn select_as(self, label: &str, pointer: &str, absent: &'static str) -> Self;
    /// A field selector's label for a field that is found at `otherwise` where `pointer` leads to nothing.
    fn select_either(self, label: &str, pointer: &str, otherwise: &'static str) -> Self;
    /// A subresource of some other kind.
    fn sub(self, name: &str, group: &str, version: &str, kind: &str, verbs: Verbs) -> Self;
    /// A subresource that reads and writes the object itself.
    fn own(self, name: &str, verbs: Verbs) -> Self;
    fn hooks(self, hooks: &'static Hooks) -> Self;
    /// The garbage collector does not look after its dependents.
    fn uncollected(self) -> Self;
    /// A deletion answers with the object.
    fn returns_deleted(self) -> Self;
    /// Clients are warned of it in these words.
    fn deprecated(self, warning: &str) -> Self;

    fn status(self) -> Self {
        self.own("status", Verbs::STATUS)
    }
    fn scale(self) -> Self {
        self.sub("scale", "autoscaling", "v1", "Scale", Verbs::STATUS)
    }
    fn proxy(self, kind: &str) -> Self {
        self.sub("proxy", "", "v1", kind, PROXY)
    }
    fn stream(self, name: &str, kind: &str) -> Self {
        self.sub(name, "", "v1", kind, STREAM)
    }
}

impl Row for Resource {
    fn short(mut self, names: &[&str]) -> Self {
        self.short_names = owned(names);
        self
    }

    fn category(mut self, name: &str) -> Self {
        self.categories.push(name.to_owned());
        self
    }

    fn verbs(mut self, verbs: &'static [&'static str]) -> Self {
        self.verbs = Verbs(verbs);
        self
    }

    fn versions(mut self, versions: &[&str], storage: &str) -> Self {
        let template = self.versions.remove(0);
        self.versions = versions
            .iter()
            .map(|version| {
                let mut subresources = template.subresources.clone();
                for subresource in subresources.iter_mut().filter(|subresource| subresource.kind == self.kind) {
                    (*version).clone_into(&mut subresource.version);
                }
                Version {
                    name: (*version).to_owned(),
                    type_name: super::definition_name(&self.group, version, &self.kind),
                    subresources,
                    deprecated: None,
                }
            })
            .collect();
        storage.clone_into(&mut self.storage_version);
        self
    }

    fn select(mut self, labels: &[&str]) -> Self {
        self.selectable.extend(labels.iter().copied().map(Selectable::new));
        self
    }

    fn select_as(mut self, label: &str, pointer: &str, absent: &'static str) -> Self {
        self.selectable.push(Selectable { absent, pointer: pointer.to_owned(), ..Selectable::new(label) });
        self
    }

    fn select_either(mut self, label: &str, pointer: &str, otherwise: &'static str) -> Self {
        self.selectable.push(Selectable { otherwise, pointer: pointer.to_owned(), ..Selectable::new(label) });
        self
    }

    fn sub(mut self, name: &str, group: &str, version: &str, kind: &str, verbs: Verbs) -> Self {
        for served in &mut self.versions {
            let at = served.subresources.partition_point(|other| other.name.as_str() < name);
            let subresource = Subresource {
                name: name.to_owned(),
                group: group.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                verbs,
            };
            served.subresources.insert(at, subresource);
        }
        self
    }

    fn own(self, name: &str, verbs: Verbs) -> Self {
        let (group, kind, version) = (self.group.clone(), self.kind.clone(), self.storage_version.clone());
        self.sub(name, &group, &version, &kind, verbs)
    }

    fn uncollected(mut self) -> Self {
        self.collected = false;
        self
    }

    fn returns_deleted(mut self) -> Self {
        self.returns_deleted = true;
        self
    }

    fn deprecated(mut self, warning: &str) -> Self {
        for version in &mut self.versions {
            version.deprecated = Some(warning.to_owned());
        }
        self
    }

    fn hooks(mut self, hooks: &'static Hooks) -> Self {
        self.hooks = hooks;
        self
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
