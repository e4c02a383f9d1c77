//! Which resources a server has, as discovery tells.

use std::collections::BTreeMap;

use api::resource::{GroupVersionResource, split_api_version};
use client::request::Requests;
use serde_json::Value;

use crate::ReconcileError;

/// A resource with a collection of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Discovered {
    pub(crate) resource: GroupVersionResource,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Discovered {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }
}

/// Every resource once, in its group's preferred version, and the group versions that did not answer.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) resources: Vec<Discovered>,
    pub(crate) failures: Vec<String>,
    /// All kinds in all served versions, for owner references.
    kinds: BTreeMap<(String, String), usize>,
}

impl Catalogue {
    pub(crate) async fn read(requests: &Requests) -> Result<Self, ReconcileError> {
        let groups = requests.get_path("/apis").await?;
        let mut versions = vec![("v1".to_owned(), "/api/v1".to_owned())];
        for group in groups["groups"].as_array().into_iter().flatten() {
            let preferred = group["preferredVersion"]["groupVersion"].as_str();
            let served = group["versions"].as_array().into_iter().flatten();
            let mut served: Vec<&str> = served.filter_map(|version| version["groupVersion"].as_str()).collect();
            served.sort_by_key(|version| Some(*version) != preferred);
            versions.extend(served.iter().map(|version| ((*version).to_owned(), format!("/apis/{version}"))));
        }
        let mut catalogue = Self::default();
        for (version, path) in versions {
            match requests.get_path(&path).await {
                Ok(document) => catalogue.add(&version, &document),
                // As clients say it of a server behind this one that does not answer.
                Err(error) if error.code() == Some(503) => {
                    catalogue.failures.push(format!("{version}: stale GroupVersion discovery: {version}"));
                }
                Err(error) => catalogue.failures.push(format!("{version}: {}", error.message())),
            }
        }
        Ok(catalogue)
    }

    fn add(&mut self, api_version: &str, document: &Value) {
        let (group, version) = split_api_version(api_version);
        for resource in document["resources"].as_array().into_iter().flatten() {
            let (Some(name), Some(kind)) = (resource["name"].as_str(), resource["kind"].as_str()) else { continue };
            if name.contains('/') {
                continue;
            }
            let known = self
                .resources
                .iter()
                .position(|known| known.resource.group == group && known.resource.resource == name);
            let at = known.unwrap_or_else(|| {
                let verbs = resource["verbs"].as_array().into_iter().flatten();
                self.resources.push(Discovered {
                    resource: GroupVersionResource {
                        group: group.to_owned(),
                        version: version.to_owned(),
                        resource: name.to_owned(),
                    },
                    kind: kind.to_owned(),
                    namespaced: resource["namespaced"].as_bool().unwrap_or_default(),
                    verbs: verbs.filter_map(|verb| verb.as_str().map(ToOwned::to_owned)).collect(),
                });
                self.resources.len() - 1
            });
            self.kinds.entry((api_version.to_owned(), kind.to_owned())).or_insert(at);
        }
    }

    /// The resource of a kind, by an `apiVersion` in any served version.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Discovered> {
        let at = self.kinds.get(&(api_version.to_owned(), kind.to_owned()))?;
        self.resources.get(*at)
    }
}
