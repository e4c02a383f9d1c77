//! What others serve, in this server's discovery and OpenAPI documents. The documents are this server's answers, into
//! which the rest is merged: where there are no others, nothing is touched.

use std::io::Read as _;

use api::openapi::Members;
use api::resource::api_version;
use api::resources::GROUPS;
use flate2::read::GzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{Aggregation, Heard, Remote};
use crate::discovery;
use crate::negotiate::JSON;
use crate::response::{self, Response};

/// The place of groups and versions that are neither built in nor somebody else's: custom resources.
const CUSTOM: (i64, i64) = (1000, 100);
/// A document that is larger than this came from no server of ours.
const MOST: u64 = 64 << 20;

impl Aggregation {
    /// True for paths whose documents speak of everybody.
    pub(crate) fn concerns(&self, path: &str) -> bool {
        let shared = matches!(path, "/apis" | "/openapi/v3")
            || path.strip_prefix("/apis/").is_some_and(|group| !group.contains('/'));
        shared && !self.remotes().is_empty()
    }

    /// This server's answer to such a path, with what others serve.
    pub(crate) async fn merged(&self, path: &str, headers: &HeaderMap, response: Response) -> Response {
        let found = response.status() == StatusCode::OK;
        let media = response.headers().get(CONTENT_TYPE).cloned();
        let document = match read(response).await {
            Some(document) if found => document,
            _ => Value::Null,
        };
        let remotes = self.remotes();
        let remotes = remotes.values().map(|remote| {
            let heard = self.heard.lock().get(&remote.name).cloned().unwrap_or_default();
            (remote.as_ref(), heard)
        });
        let mut document = document;
        let aggregated = document["kind"] == "APIGroupDiscoveryList";
        for (remote, heard) in remotes {
            match path {
                "/apis" if aggregated => discover(&mut document, remote, &heard),
                "/apis" => list(&mut document, remote),
                "/openapi/v3" => index(&mut document, remote, &heard),
                path if path.strip_prefix("/apis/") == Some(&remote.group) => group(&mut document, remote),
                _ => {}
            }
        }
        if document.is_null() {
            return response::refusal(&api::status::Status::path_not_found());
        }
        let media = media.filter(|_| found).unwrap_or_else(|| HeaderValue::from_static(JSON));
        tagged(headers, media, aggregated, document.to_string().into_bytes())
    }

    /// What others add to this server's OpenAPI document of version 2: the paths of their versions, and the definitions
    /// that these need. Types that both know are taken to be the same: they come from the same libraries.
    pub(crate) fn schemas(&self) -> Members {
        let mut added = Members::default();
        for remote in self.remotes().values() {
            let heard = self.heard.lock().get(&remote.name).cloned().unwrap_or_default();
            add_schemas(&mut added, remote, &heard);
        }
        added
    }
}

/// A JSON answer, read; `None` if it is none.
async fn read(response: Response) -> Option<Value> {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.ok()?.to_bytes();
    if parts.headers.get(CONTENT_ENCODING).is_none_or(|encoding| encoding != "gzip") {
        return serde_json::from_slice(&bytes).ok();
    }
    let mut plain = Vec::new();
    GzDecoder::new(&bytes[..]).take(MOST).read_to_end(&mut plain).ok()?;
    serde_json::from_slice(&plain).ok()
}

fn tagged(headers: &HeaderMap, media: HeaderValue, aggregated: bool, body: Vec<u8>) -> Response {
    let tag = response::tag(&body);
    let known = response::is_known(&tag, headers);
    let mut response = Response::new(response::full(if known { Vec::new() } else { body }));
    *response.status_mut() = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, media);
    match aggregated {
        true => discovery::shared(headers, tag),
        false => {
            headers.insert(VARY, HeaderValue::from_static("Accept"));
            headers.insert(ETAG, tag);
        }
    }
    response
}

/// How important a group is, and a version within it, when this server serves it.
fn priorities(group: &str, version: &str) -> (i64, i64) {
    let Some(known) = GROUPS.iter().find(|known| known.name == group) else { return CUSTOM };
    let own = known.versions.iter().find(|(name, _)| *name == version);
    (i64::from(known.priority), own.map_or(CUSTOM.1, |(_, priority)| i64::from(*priority)))
}

/// Puts a version where it belongs in a group's list, instead of what was there by its name.
fn put_version(versions: &mut Vec<Value>, group: &str, remote: &Remote, version: Value) {
    versions.retain(|known| known["version"] != remote.version.as_str());
    let priority = |known: &Value| priorities(group, known["version"].as_str().unwrap_or_default()).1;
    let at = versions.iter().position(|known| priority(known) < remote.version_priority);
    versions.insert(at.unwrap_or(versions.len()), version);
}

/// The group of a remote version in a list of groups, made where its importance puts it.
fn group_in<'a>(groups: &'a mut Vec<Value>, remote: &Remote, name: fn(&Value) -> &str, made: Value) -> &'a mut Value {
    let known = groups.iter().position(|group| name(group) == remote.group);
    let at = known.unwrap_or_else(|| {
        let before = |group: &Value| {
            let (priority, _) = priorities(name(group), "");
            priority < remote.group_priority
                || (priority == remote.group_priority && name(group) > remote.group.as_str())
        };
        let at = groups.iter().position(before).unwrap_or(groups.len());
        groups.insert(at, made);
        at
    });
    &mut groups[at]
}

fn described(remote: &Remote) -> Value {
    json!({"groupVersion": api_version(&remote.group, &remote.version), "version": remote.version})
}

fn list(document: &mut Value, remote: &Remote) {
    let Some(groups) = document["groups"].as_array_mut() else { return };
    let made = json!({"name": remote.group, "versions": []});
    let group = group_in(groups, remote, |group| group["name"].as_str().unwrap_or_default(), made);
    add_version(group, remote);
}

fn add_version(group: &mut Value, remote: &Remote) {
    if let Some(versions) = group["versions"].as_array_mut() {
        put_version(versions, &remote.group, remote, described(remote));
        group["preferredVersion"] = group["versions"][0].clone();
    }
}

fn group(document: &mut Value, remote: &Remote) {
    if document.is_null() {
        *document = json!({"kind": "APIGroup", "apiVersion": "v1", "name": remote.group, "versions": []});
    }
    add_version(document, remote);
}

fn discover(document: &mut Value, remote: &Remote, heard: &Heard) {
    let Some(items) = document["items"].as_array_mut() else { return };
    let made = json!({"metadata": {"name": remote.group}, "versions": []});
    let group = group_in(items, remote, |group| group["metadata"]["name"].as_str().unwrap_or_default(), made);
    let freshness = if remote.available { "Current" } else { "Stale" };
    let mut version = json!({"version": remote.version, "freshness": freshness});
    let resources = resources(&heard.resources);
    if !resources.is_empty() {
        version["resources"] = json!(resources);
    }
    if let Some(versions) = group["versions"].as_array_mut() {
        put_version(versions, &remote.group, remote, version);
    }
}

/// The resources of an `APIResourceList` as discovery's aggregated form has them.
fn resources(list: &Value) -> Vec<Value> {
    let (own_group, own_version) = api::resource::split_api_version(list["groupVersion"].as_str().unwrap_or_default());
    let all: Vec<&Value> = list["resources"].as_array().into_iter().flatten().collect();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let kind = |resource: &Value| {
        let or = |said: String, own: &str| if said.is_empty() { own.to_owned() } else { said };
        json!({
            "group": or(text(resource, "group"), own_group), "version": or(text(resource, "version"), own_version),
            "kind": text(resource, "kind"),
        })
    };
    let mut found: Vec<Value> = Vec::new();
    for resource in all.iter().filter(|resource| !text(resource, "name").contains('/')) {
        let mut entry = json!({
            "resource": resource["name"], "responseKind": kind(resource), "verbs": resource["verbs"],
            "scope": if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": text(resource, "singularName"),
        });
        for field in ["shortNames", "categories"] {
            if resource[field].is_array() {
                entry[field] = resource[field].clone();
            }
        }
        found.push(entry);
    }
    for sub in &all {
        let name = text(sub, "name");
        let Some((resource, name)) = name.split_once('/') else { continue };
        let Some(parent) = found.iter_mut().find(|known| known["resource"] == resource) else { continue };
        let entry = json!({"subresource": name, "responseKind": kind(sub), "verbs": sub["verbs"]});
        match parent["subresources"].as_array_mut() {
            Some(subs) => subs.push(entry),
            None => parent["subresources"] = json!([entry]),
        }
    }
    found
}

fn index(document: &mut Value, remote: &Remote, heard: &Heard) {
    if heard.document.is_empty() {
        return;
    }
    let path = format!("apis/{}/{}", remote.group, remote.version);
    document["paths"][path] = json!({"serverRelativeURL": heard.document});
}

fn add_schemas(added: &mut Members, remote: &Remote, heard: &Heard) {
    let (group, version) = (format!("/apis/{}/", remote.group), format!("/apis/{}/{}/", remote.group, remote.version));
    for (path, item) in heard.schemas["paths"].as_object().into_iter().flatten() {
        if *path == group || path.starts_with(&version) {
            added.paths.insert(path.clone(), item.clone());
        }
    }
    for (name, definition) in heard.schemas["definitions"].as_object().into_iter().flatten() {
        added.definitions.entry(name).or_insert_with(|| definition.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(group: &str, version: &str, group_priority: i64, available: bool) -> Remote {
        Remote {
            name: format!("{version}.{group}"),
            group: group.to_owned(),
            version: version.to_owned(),
            group_priority,
            version_priority: 200,
            available,
            callee: Err("nobody".to_owned()),
            spec: Value::Null,
        }
    }

    #[test]
    fn groups_stand_by_their_importance() {
        let names = |document: &Value| -> Vec<String> {
            let groups = document["groups"].as_array().unwrap().iter();
            groups.map(|group| group["name"].as_str().unwrap().to_owned()).collect()
        };
        let mut document = json!({"groups": [
            {"name": "apps", "versions": [{"version": "v1"}]}, {"name": "example.com", "versions": [{"version": "v1"}]},
        ]});
        list(&mut document, &remote("wardle.example.com", "v1alpha1", 2000, true));
        list(&mut document, &remote("zoo.example.com", "v1", 100, true));
        assert_eq!(names(&document), ["apps", "wardle.example.com", "example.com", "zoo.example.com"]);
        assert_eq!(document["groups"][1]["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
        list(&mut document, &remote("example.com", "v2", 2000, true));
        assert_eq!(document["groups"][2]["preferredVersion"]["version"], "v2");
        assert_eq!(document["groups"][2]["versions"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn resources_get_their_subresources() {
        let heard = Heard {
            resources: json!({"groupVersion": "wardle.example.com/v1alpha1", "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
                {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
            ]}),
            ..Heard::default()
        };
        let mut document = json!({"items": [{"metadata": {"name": "apps"}, "versions": []}]});
        let kind = json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"});
        for (available, freshness) in [(true, "Current"), (false, "Stale")] {
            discover(&mut document, &remote("wardle.example.com", "v1alpha1", 2000, available), &heard);
            let expected = json!({"version": "v1alpha1", "freshness": freshness, "resources": [{
                "resource": "flunders", "responseKind": kind, "verbs": ["get"], "scope": "Namespaced",
                "singularResource": "flunder",
                "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["get"]}],
            }]});
            assert_eq!(document["items"][1]["versions"], json!([expected]));
        }
    }
}
