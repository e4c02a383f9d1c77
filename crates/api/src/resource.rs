//! What a resource is: one row that routes, discovery, OpenAPI, tables, storage and hooks derive from.

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
    /// JSON pointers of the fields that field selectors may name, such as `/spec/nodeName`.
    /// `/metadata/name` and `/metadata/namespace` are always first.
    pub selectable: Vec<String>,
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

impl Verbs {
    /// The verbs of an ordinary resource, in discovery's order.
    pub const ALL: Self = Self(&["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
    /// The verbs of a status subresource.
    pub const STATUS: Self = Self(&["get", "patch", "update"]);
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

impl Resource {
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
