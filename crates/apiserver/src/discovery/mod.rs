//! What is served, as clients discover it: group and resource lists, and all of it in one document (KEP-3352).

mod form;

use std::sync::{Arc, OnceLock};

use api::custom::compare_versions;
use api::resource::{Resource, Subresource, api_version};
use api::resources::GROUPS;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::negotiate::JSON;
use crate::registry::{Catalogue, Catalogued, Served};
use crate::response::{self, Response};
pub(crate) use form::Form;

/// What is served, put in order once for each state of the catalogue.
pub(crate) struct Discovery {
    /// `HOST:PORT` at which clients reach the server, wherever they are.
    address: String,
    kept: Mutex<Option<Arc<Kept>>>,
}

struct Kept {
    of: Arc<Catalogued>,
    groups: Groups,
    /// The aggregated documents of the core group and of the others, when they have been asked for.
    aggregated: [OnceLock<Aggregated>; 2],
}

struct Aggregated {
    document: Bytes,
    tag: HeaderValue,
}

impl Discovery {
    pub(crate) fn of(address: &str) -> Self {
        Self { address: address.to_owned(), kept: Mutex::default() }
    }

    /// The answer to a discovery path, in JSON; `None` if it is none, or names what is not served. `form` is that of a
    /// path that can have one.
    pub(crate) fn answer(
        &self,
        catalogue: &Catalogue,
        path: &str,
        headers: &HeaderMap,
        form: Option<&Form>,
    ) -> Option<Response> {
        let kept = self.kept(catalogue.all());
        let words: Vec<&str> = path.split('/').skip(1).collect();
        match words.as_slice() {
            ["api" | "apis"] if form.is_some_and(|form| form.aggregated) => {
                Some(kept.aggregated(words[0] == "api").answer(headers))
            }
            words => answer(&kept.groups, &self.address, words),
        }
    }

    fn kept(&self, all: Arc<Catalogued>) -> Arc<Kept> {
        let mut kept = self.kept.lock();
        if let Some(kept) = kept.as_ref().filter(|kept| Arc::ptr_eq(&kept.of, &all)) {
            return kept.clone();
        }
        let fresh = Arc::new(Kept { groups: Groups::of(&all), of: all, aggregated: Default::default() });
        *kept = Some(fresh.clone());
        fresh
    }
}

impl Kept {
    fn aggregated(&self, core: bool) -> &Aggregated {
        self.aggregated[usize::from(core)].get_or_init(|| Aggregated::new(&self.groups, core))
    }
}

fn answer(groups: &Groups, address: &str, words: &[&str]) -> Option<Response> {
    let document = match words {
        ["api"] => json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
        }),
        ["apis"] => {
            let list: Vec<Value> = groups.named().map(Group::describe).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
        }
        ["api", version] => groups.get("")?.resource_list(version)?,
        ["apis", group] => {
            let mut document = groups.get(group)?.describe();
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            document
        }
        ["apis", group, version] => groups.get(group)?.resource_list(version)?,
        _ => return None,
    };
    Some(response::json(StatusCode::OK, &document))
}

/// The served groups, the most important first.
struct Groups {
    groups: Vec<Group>,
}

struct Group {
    name: String,
    /// Preferred first.
    versions: Vec<String>,
    served: Vec<Arc<Served>>,
}

/// Built-in groups come first, in their table's order; the others follow by name.
fn group_rank(name: &str) -> usize {
    GROUPS.iter().position(|known| known.name == name).unwrap_or(GROUPS.len())
}

fn version_rank(group: &str, version: &str) -> usize {
    let known = GROUPS.iter().find(|known| known.name == group);
    known.and_then(|known| known.versions.iter().position(|(name, _)| *name == version)).unwrap_or(usize::MAX)
}

impl Groups {
    fn of(all: &Catalogued) -> Self {
        let mut groups: Vec<Group> = Vec::new();
        for served in all.values() {
            match groups.last_mut().filter(|group| group.name == served.row.group) {
                Some(group) => group.served.push(served.clone()),
                None => groups.push(Group {
                    name: served.row.group.clone(),
                    versions: Vec::new(),
                    served: vec![served.clone()],
                }),
            }
        }
        for group in &mut groups {
            let mut versions: Vec<String> = group.served.iter().map(|served| served.version.name.clone()).collect();
            versions.sort_by(|a, b| {
                let rank = |version: &str| version_rank(&group.name, version);
                rank(a).cmp(&rank(b)).then_with(|| compare_versions(a, b))
            });
            versions.dedup();
            group.versions = versions;
        }
        groups.sort_by_key(|group| group_rank(&group.name));
        Self { groups }
    }

    fn get(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    fn named(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| !group.name.is_empty())
    }
}

impl Group {
    fn describe(&self) -> Value {
        let version = |name: &String| json!({"groupVersion": api_version(&self.name, name), "version": name});
        let versions: Vec<Value> = self.versions.iter().map(version).collect();
        json!({"name": self.name, "versions": versions, "preferredVersion": versions.first()})
    }

    fn in_version(&self, version: &str) -> impl Iterator<Item = &Served> {
        self.served.iter().map(AsRef::as_ref).filter(move |served| served.version.name == version)
    }

    fn resource_list(&self, version: &str) -> Option<Value> {
        let resources: Vec<Value> = self.in_version(version).flat_map(described).collect();
        if resources.is_empty() {
            return None;
        }
        let mut document = json!({
            "kind": "APIResourceList", "groupVersion": api_version(&self.name, version), "resources": resources,
        });
        // Only the core group's list goes without, since before there were groups.
        if !self.name.is_empty() {
            document["apiVersion"] = json!("v1");
        }
        Some(document)
    }

    fn discovery(&self) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|version| {
                let resources: Vec<Value> = self.in_version(version).map(resource_discovery).collect();
                json!({"version": version, "resources": resources, "freshness": "Current"})
            })
            .collect();
        let metadata = if self.name.is_empty() { json!({}) } else { json!({"name": self.name}) };
        json!({"metadata": metadata, "versions": versions})
    }
}

/// A resource and its subresources, as entries of an `APIResourceList`.
fn described(served: &Served) -> Vec<Value> {
    let row: &Resource = &served.row;
    let mut main = json!({
        "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced, "kind": row.kind,
        "verbs": served.verbs().0,
    });
    if !row.short_names.is_empty() {
        main["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        main["categories"] = json!(row.categories);
    }
    if served.cache.is_some() {
        main["storageVersionHash"] = json!(storage_version_hash(row));
    }
    let subs = served.version.subresources.iter().map(|sub| {
        let mut entry = json!({
            "name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": row.namespaced,
            "kind": sub.kind, "verbs": sub.verbs.0,
        });
        if is_foreign(served, sub) {
            entry["group"] = json!(sub.group);
            entry["version"] = json!(sub.version);
        }
        entry
    });
    std::iter::once(main).chain(subs).collect()
}

fn is_foreign(served: &Served, sub: &Subresource) -> bool {
    sub.group != served.row.group || sub.version != served.version.name
}

/// Changes whenever objects come to be stored in another version.
fn storage_version_hash(row: &Resource) -> String {
    use base64::Engine as _;
    let text = format!("{}/{}/{}", row.storage_group, row.storage_version, row.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest.as_ref()[..8])
}

fn resource_discovery(served: &Served) -> Value {
    let row: &Resource = &served.row;
    // A kind of the same group and version is named alone.
    let kind = |group: &str, version: &str, kind: &str| match group == row.group && version == served.version.name {
        true => json!({"group": "", "version": "", "kind": kind}),
        false => json!({"group": group, "version": version, "kind": kind}),
    };
    let mut entry = json!({
        "resource": row.plural,
        "responseKind": kind(&row.group, &served.version.name, &row.kind),
        "scope": if row.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": row.singular,
        "verbs": served.verbs().0,
    });
    if !row.short_names.is_empty() {
        entry["shortNames"] = json!(row.short_names);
    }
    if !row.categories.is_empty() {
        entry["categories"] = json!(row.categories);
    }
    if !served.version.subresources.is_empty() {
        entry["subresources"] = served
            .version
            .subresources
            .iter()
            .map(|sub| json!({
                "subresource": sub.name, "responseKind": kind(&sub.group, &sub.version, &sub.kind), "verbs": sub.verbs.0,
            }))
            .collect();
    }
    entry
}

impl Aggregated {
    fn new(groups: &Groups, core: bool) -> Self {
        let items: Vec<Value> =
            groups.groups.iter().filter(|group| group.name.is_empty() == core).map(Group::discovery).collect();
        let document = json!({
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
        });
        let document = Bytes::from(document.to_string());
        Self { tag: response::tag(&document), document }
    }

    /// Nothing but the tag for who has the document already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = match response::is_known(&self.tag, headers) {
            true => response::with_body(StatusCode::NOT_MODIFIED, JSON, response::full(Bytes::new())),
            false => response::bytes(StatusCode::OK, JSON, self.document.clone()),
        };
        shared(response.headers_mut(), self.tag.clone());
        response
    }
}

/// What an aggregated document says of itself to those who keep it.
pub(crate) fn shared(headers: &mut HeaderMap, tag: HeaderValue) {
    headers.insert(ETAG, tag);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public"));
}
