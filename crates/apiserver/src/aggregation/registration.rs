//! APIServices for what this server serves itself: each version of a built-in group when the server starts, and each
//! version of a custom resource's group as long as a definition serves it
//! (upstream: `autoregister`, `crdregistration`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::object::ObjectKey;
use api::resources::GROUPS;
use api::status::Status;
use client::informer::{Informers as _, Scope};
use futures::future::join_all;
use serde_json::{Value, json};
use tracing::warn;

use super::itself;
use crate::cache::{Filter, Readings};
use crate::document::Document;
use crate::registry::Call;
use crate::request::ResourceRequest;
use crate::server::ApiServer;

const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Written once; who deletes it means it.
const ON_START: &str = "onstart";
const ALWAYS: &str = "true";
/// The place of custom resources' groups, behind all that are built in.
const CUSTOM_GROUP_PRIORITY: i64 = 1000;
const CUSTOM_VERSION_PRIORITY: i64 = 100;

/// Keeps the APIServices of this server's own versions.
pub(super) async fn run(server: &Arc<ApiServer>) {
    let informers = server.informers(server.streams.clone(), server.stop.clone());
    let definitions = informers.informer(Scope::all("apiextensions.k8s.io", "v1", "customresourcedefinitions"));
    let services = informers.informer(Scope::all("apiregistration.k8s.io", "v1", "apiservices"));
    let groups = Readings::new(served);
    let (mut defined, mut registered) = (definitions.subscribe(), services.subscribe());
    let mut first = true;
    loop {
        sync(server, &custom(&groups.of_all(&definitions.list(None))), first).await;
        first = false;
        tokio::select! {
            change = defined.recv() => if change.is_none() { return },
            change = registered.recv() => if change.is_none() { return },
        }
        // One look answers for all that has happened meanwhile.
        while defined.try_recv().is_ok() || registered.try_recv().is_ok() {}
    }
}

/// The APIServices that each start makes.
pub(super) fn own_names() -> BTreeSet<String> {
    builtin().into_keys().collect()
}

/// The APIServices of built-in versions, by name.
fn builtin() -> BTreeMap<String, Value> {
    let versions = GROUPS.iter().flat_map(|group| {
        let priority = i64::from(group.priority);
        group
            .versions
            .iter()
            .map(move |(version, own)| service(group.name, version, priority, i64::from(*own), ON_START))
    });
    versions.collect()
}

/// The group of a definition and the versions that it serves.
fn served(definition: &Value) -> (String, Vec<String>) {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served = versions.filter(|version| version["served"] == true).filter_map(|it| it["name"].as_str());
    (group.to_owned(), served.map(str::to_owned).collect())
}

/// The APIServices of the versions that definitions serve, by name.
fn custom(definitions: &[Arc<(String, Vec<String>)>]) -> BTreeMap<String, Value> {
    let names: BTreeSet<(&str, &str)> = definitions
        .iter()
        .flat_map(|served| served.1.iter().map(|version| (served.0.as_str(), version.as_str())))
        .collect();
    let service = |(group, version)| service(group, version, CUSTOM_GROUP_PRIORITY, CUSTOM_VERSION_PRIORITY, ALWAYS);
    names.into_iter().map(service).collect()
}

fn service(group: &str, version: &str, group_priority: i64, own_priority: i64, managed: &str) -> (String, Value) {
    let name = format!("{version}.{group}");
    let mut spec = json!({"version": version, "groupPriorityMinimum": group_priority, "versionPriority": own_priority});
    if !group.is_empty() {
        spec["group"] = json!(group);
    }
    let metadata = json!({"name": name, "labels": {MANAGED: managed}});
    (name, json!({"metadata": metadata, "spec": spec}))
}

/// What is to be done about one APIService.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Value),
    Update(Value),
    Delete(String),
}

/// Compares what should be with what is; built-in versions only as the server starts.
fn plan(custom: &BTreeMap<String, Value>, live: &BTreeMap<String, Value>, first: bool) -> Vec<Step> {
    let mut wanted = custom.clone();
    let builtin = builtin();
    if first {
        wanted.extend(builtin.clone());
    }
    let managed = |service: &Value| service["metadata"]["labels"][MANAGED].as_str().unwrap_or_default().to_owned();
    let mut steps = Vec::new();
    for (name, wanted) in &wanted {
        match live.get(name) {
            None => steps.push(Step::Create(wanted.clone())),
            // Somebody else's: left alone, also where it leads elsewhere.
            Some(live) if managed(live).is_empty() => {}
            Some(live) if live["spec"] == wanted["spec"] => {}
            Some(live) => {
                let mut changed = live.clone();
                changed["spec"] = wanted["spec"].clone();
                steps.push(Step::Update(changed));
            }
        }
    }
    for (name, live) in live {
        let gone = match managed(live).as_str() {
            ALWAYS => !custom.contains_key(name) && !builtin.contains_key(name),
            ON_START => first && !wanted.contains_key(name),
            _ => false,
        };
        if gone {
            steps.push(Step::Delete(name.clone()));
        }
    }
    steps
}

async fn sync(server: &ApiServer, custom: &BTreeMap<String, Value>, first: bool) {
    let listing = server.aggregation.services.list(&Filter::default());
    let live = listing.entries.iter().map(|entry| (entry.key.name.clone(), entry.to_value())).collect();
    // Side by side, so that the store commits them together.
    join_all(plan(custom, &live, first).into_iter().map(|step| async move {
        match apply(server, step).await {
            // Somebody else was faster: whatever he wrote is looked at next.
            Err(why) if why.code != 409 && why.code != 404 => warn!(%why, "an APIService could not be written"),
            _ => {}
        }
    }))
    .await;
}

async fn apply(server: &ApiServer, step: Step) -> Result<(), Status> {
    let served = server.registry.catalogue.preferred("apiregistration.k8s.io", "apiservices");
    let served = served.ok_or_else(Status::path_not_found)?;
    let (verb, name, body) = match step {
        Step::Create(service) => ("create", String::new(), service),
        Step::Update(service) => ("update", service.name().to_owned(), service),
        Step::Delete(name) => ("delete", name, Value::Null),
    };
    let key = ObjectKey::new("", name);
    let target = ResourceRequest {
        group: served.row.group.clone(),
        version: served.version.name.clone(),
        resource: served.row.plural.clone(),
        name: key.name.clone(),
        ..ResourceRequest::default()
    };
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let mut call = Call::internal(itself(), verb, target, body.into());
    server.registry.handle(&served, &mut call).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(group: &str, served: bool) -> Value {
        json!({"spec": {"group": group, "versions": [{"name": "v1", "served": served}]}})
    }

    #[test]
    fn versions_come_and_go() {
        let custom = |served| custom(&[Arc::new(super::served(&definition("example.com", served)))]);
        let mut live = BTreeMap::new();
        let first = plan(&custom(true), &live, true);
        assert_eq!(first.len(), builtin().len() + 1);
        for step in first {
            let Step::Create(service) = step else { panic!("{step:?}") };
            live.insert(service.name().to_owned(), service);
        }
        assert_eq!(live["v1.apps"]["spec"]["groupPriorityMinimum"], 17800);
        assert_eq!(live["v1."]["spec"].get("group"), None);
        assert_eq!(plan(&custom(true), &live, false), []);
        assert_eq!(plan(&custom(false), &live, false), [Step::Delete("v1.example.com".to_owned())]);
        // Deleted by hand: a built-in version comes back with the next start, a custom one at once.
        live.remove("v1.apps");
        live.remove("v1.example.com");
        let names: Vec<String> = plan(&custom(true), &live, false)
            .into_iter()
            .map(|step| match step {
                Step::Create(service) => service.name().to_owned(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["v1.example.com"]);
        // Whoever hands a version to a server of his own is left alone.
        let (name, mut theirs) = service("example.com", "v1", 1, 1, "");
        theirs["metadata"]["labels"] = json!({});
        live.insert(name, theirs);
        assert_eq!(plan(&custom(false), &live, false), []);
    }
}
