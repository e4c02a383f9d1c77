//! Whether the servers behind this one answer, said in their APIServices' condition `Available`
//! (upstream: `kube-aggregator/pkg/controllers/status`).
//!
//! A server is asked when its APIService, its Service or their endpoints change, and every so often, since nothing
//! tells that a network or a process has died.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use api::status::Status;
use client::informer::{Change, Informers as _, Scope};
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{Heard, Remote, itself};
use crate::clock;
use crate::registry::Call;
use crate::request::ResourceRequest;
use crate::server::ApiServer;

/// How often a server is asked that answered.
const AGAIN: Duration = Duration::from_secs(30);
/// How soon one is asked again that did not, at first; twice as long each time, up to [`AGAIN`].
const SOON: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// When each APIService is to be looked at.
#[derive(Default)]
struct Agenda {
    due: BTreeMap<String, (Instant, Duration)>,
}

impl Agenda {
    fn now(&mut self, name: &str) {
        self.due.insert(name.to_owned(), (Instant::now(), SOON));
    }

    fn later(&mut self, name: &str, passed: bool) {
        let pause = match self.due.get(name) {
            _ if passed => AGAIN,
            Some((_, pause)) => *pause,
            None => SOON,
        };
        self.due.insert(name.to_owned(), (Instant::now() + pause, (pause * 2).min(AGAIN)));
    }

    fn next(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(24 * 3600);
        self.due.values().map(|(at, _)| *at).min().unwrap_or(far)
    }

    fn take_due(&self) -> Vec<String> {
        let now = Instant::now();
        self.due.iter().filter(|(_, (at, _))| *at <= now).map(|(name, _)| name.clone()).collect()
    }
}

/// Keeps the conditions of all APIServices true.
pub(super) async fn run(server: &Arc<ApiServer>) {
    let informers = server.informers(server.streams.clone(), server.stop.clone());
    let informer = |group: &str, resource: &str| informers.informer(Scope::all(group, "v1", resource));
    let registered = informer("apiregistration.k8s.io", "apiservices");
    let services = informer("", "services");
    let slices = informer("discovery.k8s.io", "endpointslices");
    let (mut registrations, mut of_services, mut of_slices) =
        (registered.subscribe(), services.subscribe(), slices.subscribe());
    let mut agenda = Agenda::default();
    loop {
        tokio::select! {
            change = registrations.recv() => match change {
                Some(Change::Applied { old, new }) => {
                    // What this very loop writes is no news.
                    let spec = |entry: &api::object::Entry| entry.to_value()["spec"].clone();
                    if old.is_none_or(|old| spec(&old) != spec(&new)) {
                        agenda.now(&new.key.name);
                    }
                }
                Some(Change::Deleted(gone)) => drop(agenda.due.remove(&gone.key.name)),
                Some(_) => {}
                None => return,
            },
            changed = service_changed(&mut of_services, &mut of_slices) => match changed {
                Some(service) => {
                    for remote in server.aggregation.remotes().values().filter(|it| it.is_served_by(&service)) {
                        agenda.now(&remote.name);
                    }
                }
                None => return,
            },
            () = tokio::time::sleep_until(agenda.next()) => {
                let due = agenda.take_due();
                let looks = join_all(due.iter().map(|name| look(server, name))).await;
                for (name, outcome) in due.iter().zip(looks) {
                    match outcome {
                        Some(passed) => agenda.later(name, passed),
                        None => drop(agenda.due.remove(name)),
                    }
                }
            }
        }
    }
}

/// The Service that changed, or whose endpoints did; `None` when the server stops.
async fn service_changed(
    services: &mut mpsc::Receiver<Change>,
    slices: &mut mpsc::Receiver<Change>,
) -> Option<ObjectKey> {
    loop {
        let (change, of_slices) = tokio::select! {
            change = services.recv() => (change?, false),
            change = slices.recv() => (change?, true),
        };
        let (Change::Applied { new: entry, .. } | Change::Deleted(entry)) = change else { continue };
        if !of_slices {
            return Some(entry.key.clone());
        }
        if let Some(service) = entry.labels.get("kubernetes.io/service-name") {
            return Some(ObjectKey::new(entry.key.namespace.as_str(), service));
        }
    }
}

impl Remote {
    fn is_served_by(&self, service: &ObjectKey) -> bool {
        let reference = &self.spec["service"];
        reference["namespace"] == service.namespace.as_str() && reference["name"] == service.name.as_str()
    }
}

/// What came of a look at an APIService.
struct Finding {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn passed() -> Self {
        Self { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }

    fn failed(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }
}

/// Looks at one APIService and says in its status what was found. `None`: it need not be looked at again.
async fn look(server: &ApiServer, name: &str) -> Option<bool> {
    let entry = server.aggregation.services.get(&ObjectKey::new("", name))?;
    let service = entry.to_value();
    let remotes = server.aggregation.remotes();
    let Some(remote) = remotes.values().find(|remote| remote.name == name) else {
        let message = "Local APIServices are always available".to_owned();
        let finding = Finding { status: "True", reason: "Local", message };
        return match say(server, service, &finding).await {
            Ok(()) => None,
            Err(_) => Some(false),
        };
    };
    let finding = match check(server, remote).await {
        Ok(()) => Finding::passed(),
        Err(finding) => finding,
    };
    if let Err(why) = say(server, service, &finding).await {
        debug!(name, %why, "the condition of an APIService could not be written");
        return Some(false);
    }
    Some(finding.status == "True")
}

async fn check(server: &ApiServer, remote: &Remote) -> Result<(), Finding> {
    let reference = &remote.spec["service"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (namespace, name, port) = (text("namespace"), text("name"), reference["port"].as_u64().unwrap_or(443));
    let called = format!("service/{name} in {namespace:?}");
    let cache = |group: &str, plural: &str| server.registry.catalogue.preferred(group, plural)?.cache.clone();
    let service = cache("", "services").and_then(|services| services.get(&ObjectKey::new(namespace, name)));
    let Some(service) = service.map(|entry| entry.to_value()) else {
        return Err(Finding::failed("ServiceNotFound", format!("{called} is not present")));
    };
    if service["spec"]["type"].as_str().unwrap_or("ClusterIP") == "ClusterIP" {
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let mut meant = ports.filter(|it| it["port"].as_u64() == Some(port));
        let Some(meant) = meant.next() else {
            return Err(Finding::failed("ServicePortError", format!("{called} is not listening on port {port}")));
        };
        let meant = meant["name"].as_str().unwrap_or_default();
        let slices = crate::streaming::slices_of(server.outbound.slices(), namespace, name);
        if slices.is_empty() {
            return Err(Finding::failed("EndpointsNotFound", format!("cannot find endpointslices for {called}")));
        }
        if crate::streaming::endpoints(&slices, meant).is_empty() {
            let why = format!("endpointslices for {called} have no addresses with port name {meant:?}");
            return Err(Finding::failed("MissingEndpoints", why));
        }
    }
    ask(server, remote).await.map_err(|why| Finding::failed("FailedDiscoveryCheck", why))
}

/// Asks a server for what it must be able to tell: its resources. What it says is kept for discovery.
async fn ask(server: &ApiServer, remote: &Remote) -> Result<(), String> {
    let aggregation = &server.aggregation;
    let callee = remote.callee.as_ref().map_err(Clone::clone)?;
    let path = match remote.group.as_str() {
        "" => format!("/api/{}", remote.version),
        group => format!("/apis/{group}/{}", remote.version),
    };
    let url = format!("https://{}{path}", callee.address.host());
    let failing = |why: String| format!("failing or missing response from {url}: {why}");
    let user = crate::authn::User::new("system:kube-aggregator", &[crate::authn::MASTERS]);
    let (code, body) =
        aggregation.outbound.get(callee, &path, &user, PATIENCE).await.map_err(|why| failing(why.to_string()))?;
    if !code.is_success() {
        return Err(failing(format!("bad status from {url}: {}", code.as_u16())));
    }
    let resources: Value = serde_json::from_slice(&body).unwrap_or_default();
    let known = aggregation.heard.lock().get(&remote.name).cloned();
    if known.is_some_and(|known| known.resources == resources) {
        return Ok(());
    }
    let document = async |path: &str| {
        let answer = aggregation.outbound.get(callee, path, &user, PATIENCE).await.ok();
        let (_, body) = answer.filter(|(code, _)| *code == StatusCode::OK)?;
        serde_json::from_slice::<Value>(&body).ok()
    };
    let schemas = document("/openapi/v2").await.unwrap_or_default();
    let index = document("/openapi/v3").await.unwrap_or_default();
    let address = index["paths"][path.trim_start_matches('/')]["serverRelativeURL"].as_str().unwrap_or_default();
    let heard = Heard { resources, schemas, document: address.to_owned() };
    aggregation.heard.lock().insert(remote.name.clone(), Arc::new(heard));
    Ok(())
}

/// Writes the condition, if it is not said already.
async fn say(server: &ApiServer, mut service: Value, finding: &Finding) -> Result<(), Status> {
    let Finding { status, reason, message } = finding;
    let conditions = service["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let known = conditions.iter().find(|condition| condition["type"] == "Available");
    let since = known.filter(|known| known["status"] == *status).map(|known| known["lastTransitionTime"].clone());
    if known
        .is_some_and(|known| known["status"] == *status && known["reason"] == *reason && known["message"] == *message)
    {
        return Ok(());
    }
    let name = service["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if *status != "True" && known.is_some_and(|known| known["status"] == "True") {
        super::WENT_AWAY.add(&[&name, reason], 1.0);
    }
    if since.is_none() {
        info!(name, status, reason, message, "an APIService's availability changed");
    }
    let condition = json!({
        "type": "Available", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| json!(clock::now())),
    });
    let others = conditions.into_iter().filter(|condition| condition["type"] != "Available");
    service["status"]["conditions"] = others.chain([condition]).collect();
    let served = server.registry.catalogue.preferred("apiregistration.k8s.io", "apiservices");
    let served = served.ok_or_else(Status::path_not_found)?;
    let target = ResourceRequest {
        group: served.row.group.clone(),
        version: served.version.name.clone(),
        resource: served.row.plural.clone(),
        name,
        subresource: "status".to_owned(),
        ..ResourceRequest::default()
    };
    let mut call = Call::internal(itself(), "update", target, service.to_string().into());
    server.registry.handle(&served, &mut call).await.map(drop)
}
