//! `pods/eviction`: a deletion that PodDisruptionBudgets may put off.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::selector::label::LabelSelector;
use api::status::{Cause, Status};
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::cache::Filter;
use crate::document::Document;
use crate::registry::{Call, Decision, DeleteOptions, Modified, Modify, Outcome, Served, document};
use crate::server::ApiServer;

/// How long a client that was put off is asked to wait.
const RETRY_SECONDS: u32 = 10;

/// Takes one disruption from a budget.
struct Disrupt {
    pod: String,
    budget: String,
}

/// Tells in a Pod's status why it goes.
struct Mark {
    uid: String,
    /// It was not counted because it was not ready.
    unready: bool,
}

/// Evicts the Pod that the path names.
pub(super) async fn evict(server: &ApiServer, pods: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let eviction = document(&call.headers, &call.body)?;
    let mut options = DeleteOptions::parse(call, Some(&eviction["deleteOptions"]))?;
    let key = call.key(true);
    if eviction.name() != key.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let cache = pods.cache.as_ref().ok_or_else(Status::path_not_found)?;
    server.registry.caches.reach_current().await;
    let pod = cache.get(&key).ok_or_else(|| Status::not_found(pods.subject(), &key.name))?;
    let mut asked = admission::Request::new(Operation::Create, pods, call, options.dry_run);
    asked.object = Some(eviction);
    server.registry.admission.check(call, &mut asked).await?;
    // The deletion is what was admitted, not a second write.
    call.admitted = true;
    let unready = counts(&pod.to_value()) && take_from_budget(server, &pod, options.dry_run).await?;
    let asked_for = options.resource_version.as_ref().is_none_or(|version| *version == pod.revision.to_string());
    if asked_for && options.uid.as_ref().is_none_or(|uid| *uid == pod.uid) {
        let marked =
            server.registry.write(pods, &key, options.dry_run, &mut Mark { uid: pod.uid.clone(), unready }).await?;
        if let (Some(version), Modified::Updated(entry)) = (&mut options.resource_version, marked) {
            *version = entry.revision.to_string();
        }
    }
    call.target.subresource.clear();
    server.registry.delete_with(pods, call, options).await?;
    let document = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Outcome::Document { code: 201, document })
}

/// Only a running Pod is somebody's disruption.
fn counts(pod: &Value) -> bool {
    !pod.is_terminating() && !matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"))
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Whether Pods that are not ready may go without being counted: nobody is disrupted by that, and if the budget keeps
/// them for their application's sake, that has what it needs.
fn spares_unready(budget: &Value) -> bool {
    let count = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        || count("desiredHealthy") > 0 && count("currentHealthy") >= count("desiredHealthy")
}

/// True if the Pod may go without being counted, as long as it is not ready.
async fn take_from_budget(server: &ApiServer, pod: &Entry, dry_run: bool) -> Result<bool, Status> {
    let budgets =
        server.registry.catalogue.find("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::path_not_found)?;
    let cache = budgets.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let here = Filter { namespace: Some(pod.key.namespace.clone()), ..Filter::default() };
    let mut matching = cache.list(&here).entries.into_iter().filter(|entry| {
        LabelSelector::from_json(entry.to_value()["spec"].get("selector"))
            .is_ok_and(|selector| selector.matches(&pod.labels))
    });
    let Some(budget) = matching.next() else { return Ok(false) };
    if matching.next().is_some() {
        return Err(Status::internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
        ));
    }
    if !is_ready(&pod.to_value()) && spares_unready(&budget.to_value()) {
        return Ok(true);
    }
    let key = ObjectKey::new(pod.key.namespace.as_str(), budget.key.name.as_str());
    let mut disrupt = Disrupt { pod: pod.key.name.clone(), budget: budget.key.name.clone() };
    server.registry.write(&budgets, &key, dry_run, &mut disrupt).await.map(|_| false)
}

fn would_violate() -> Status {
    Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", RETRY_SECONDS)
}

impl Modify for Disrupt {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        // A budget that has gone holds nothing back.
        let Some(live) = live else { return Ok(Decision::Keep) };
        let mut budget = live.to_value();
        let status = &budget["status"];
        let observed = status["observedGeneration"].as_i64().unwrap_or(0);
        let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        let refuse = |why: String| {
            let mut status = would_violate();
            status.details.get_or_insert_default().causes = vec![Cause::new("DisruptionBudget", why, "")];
            Err(status)
        };
        if observed < generation {
            return refuse(format!("The disruption budget {} is still being processed by the server.", self.budget));
        }
        if allowed < 1 {
            let (healthy, desired) = (&status["currentHealthy"], &status["desiredHealthy"]);
            return refuse(format!(
                "The disruption budget {} needs {desired} healthy pods and has {healthy} currently",
                self.budget
            ));
        }
        budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
        budget["status"]["disruptedPods"][&self.pod] = json!(crate::clock::now());
        budget.remove_meta("resourceVersion");
        Ok(Decision::Put(budget))
    }
}

impl Modify for Mark {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let Some(live) = live.filter(|live| live.uid == self.uid) else { return Ok(Decision::Keep) };
        let mut pod = live.to_value();
        if self.unready && is_ready(&pod) {
            return Err(would_violate());
        }
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": crate::clock::now()});
        let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        match conditions.iter_mut().find(|known| known["type"] == condition["type"]) {
            Some(known) if known["status"] == "True" => return Ok(Decision::Keep),
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
        pod["status"]["conditions"] = json!(conditions);
        pod.remove_meta("resourceVersion");
        Ok(Decision::Put(pod))
    }
}
