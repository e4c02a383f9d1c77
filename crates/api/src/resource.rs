//! What a resource is: one row that routes, discovery, OpenAPI, tables, storage and hooks derive from.

use crate::resources::hooks::{self, Hooks};

/// The row of a resource: a kind with a path of its own.
///
/// A row holds what is the same in all its versions. Rows of built-ins are constants; a custom resource's row
/// is made from its definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Empty for the core group.
    pub group: String,
    /// The served versions, preferred first.
    pub versions: Vec<Version>,
    /// The version in which objects are stored, one of `versions`.
    pub storage_version: String,
    pub kind: String,
    pub list_kind: String,
    pub plural: String,
    pub singular: String,
    pub namespaced: bool,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub verbs: Verbs,
    /// The fields that field selectors may name. `metadata.name` and, in namespaces, `metadata.namespace` are
    /// always first.
    pub selectable: Vec<Selectable>,
    /// The group in which objects are stored. It differs from `group` for `events.k8s.io` only, whose objects
    /// are the core group's.
    pub storage_group: String,
    /// A deletion answers with the object rather than with a Status.
    pub returns_deleted: bool,
    /// The garbage collector looks after its dependents: deletions have a propagation policy.
    pub collected: bool,
    /// What is particular to the kind. Hooks see objects in the storage version.
    pub hooks: &'static Hooks,
}

/// A field that field selectors may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selectable {
    /// As selectors spell it: `spec.nodeName`.
    pub label: String,
    /// Where it stands in the stored object: `/spec/nodeName`.
    pub pointer: String,
    /// Where it stands instead in objects that have nothing there; empty where nothing else is meant.
    pub otherwise: &'static str,
    /// What selectors see where the object says nothing: `false` for an absent bool.
    pub absent: &'static str,
}

/// One served version of a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub name: String,
    /// The OpenAPI definition name of the kind in this version.
    pub type_name: String,
    pub subresources: Vec<Subresource>,
    /// The text of the `Warning` header for a deprecated version.
    pub deprecated: Option<String>,
}

/// A path below an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Subresource {
    /// `status`, `scale`, `exec`, ...
    pub name: String,
    pub group: String,
    pub version: String,
    pub kind: String,
    pub verbs: Verbs,
}

/// What may be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verbs(pub &'static [&'static str]);

impl Version {
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }
}

impl Verbs {
    /// The verbs of an ordinary resource, in discovery's order.
    pub const ALL: Self = Self(&["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    /// The verbs of a status subresource.
    pub const STATUS: Self = Self(&["get", "patch", "update"]);
    /// The verbs of a custom resource, in the order in which upstream tells them.
    pub const CUSTOM: Self = Self(&["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]);
    /// Those of one whose definition is on its way out.
    pub const TERMINATING: Self = Self(&["delete", "deletecollection", "get", "list", "watch"]);
    /// Reviews: posted, answered, not stored.
    pub const CREATE: Self = Self(&["create"]);

    pub fn contains(self, verb: &str) -> bool {
        self.0.contains(&verb)
    }
}

/// A group, version and plural, as a request path names them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionResource {
    pub group: String,
    pub version: String,
    pub resource: String,
}

impl Selectable {
    /// A field whose label is its path.
    pub fn new(label: &str) -> Self {
        Self { label: label.to_owned(), pointer: format!("/{}", label.replace('.', "/")), otherwise: "", absent: "" }
    }

    /// What selectors compare, given the text that an [`Entry`](crate::object::Entry) holds for the field.
    pub fn value<'a>(&self, held: &'a str) -> &'a str {
        if held.is_empty() { self.absent } else { held }
    }
}

impl Resource {
    /// An ordinary resource served and stored in one version, without subresources, short names or hooks.
    pub fn new(group: &str, version: &str, plural: &str, kind: &str, namespaced: bool) -> Self {
        let fields: &[&str] = if namespaced { &["metadata.name", "metadata.namespace"] } else { &["metadata.name"] };
        Self {
            group: group.to_owned(),
            versions: vec![Version {
                name: version.to_owned(),
                type_name: crate::resources::definition_name(group, version, kind),
                subresources: Vec::new(),
                deprecated: None,
            }],
            storage_version: version.to_owned(),
            kind: kind.to_owned(),
            list_kind: format!("{kind}List"),
            plural: plural.to_owned(),
            singular: kind.to_lowercase(),
            namespaced,
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: Verbs::ALL,
            selectable: fields.iter().copied().map(Selectable::new).collect(),
            storage_group: group.to_owned(),
            returns_deleted: false,
            collected: true,
            hooks: &hooks::PLAIN_KIND,
        }
    }

    /// `deployments.apps`, or `pods` in the core group.
    pub fn group_resource(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The `apiVersion` of stored objects.
    pub fn storage_api_version(&self) -> String {
        api_version(&self.storage_group, &self.storage_version)
    }

    /// True when the kind has a status that only its `status` subresource writes.
    pub fn has_status(&self) -> bool {
        self.versions.iter().any(|version| version.subresource("status").is_some())
    }

    /// The place of a selectable field in [`Entry::fields`](crate::object::Entry::fields), and its row.
    pub fn selectable(&self, label: &str) -> Option<(usize, &Selectable)> {
        self.selectable.iter().enumerate().find(|(_, field)| field.label == label)
    }
}

/// `apps/v1`, or `v1` for the core group.
pub fn api_version(group: &str, version: &str) -> String {
    match group {
        "" => version.to_owned(),
        _ => format!("{group}/{version}"),
    }
}

/// The group and version of an `apiVersion`.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
