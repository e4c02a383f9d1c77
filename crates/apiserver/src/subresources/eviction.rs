//! `pods/eviction`: a deletion that PodDisruptionBudgets may put off.

use std::sync::Arc;

use api::field_path::Path;
use api::object::{Entry, ObjectKey};
use api::selector::label::LabelSelector;
use api::status::{Cause, Status, Subject};
use api::validation::Errors;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::cache::Filter;
use crate::document::Document;
use crate::registry::posted::{self, EVICTION, SystemFields};
use crate::registry::{Call, Decision, DeleteOptions, Modified, Modify, Outcome, Served};
use crate::server::ApiServer;

/// How long a client is asked to wait for a budget that is still being looked at.
const RETRY_SECONDS: u32 = 10;

/// A budget with more evictions than this that its controller has not confirmed allows no further ones.
const MOST_DISRUPTED: usize = 2000;

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
    let eviction = posted::read(&EVICTION, call, SystemFields::Wiped)?;
    let key = call.key(true);
    let mut asked = admission::Request::new(Operation::Create, pods, call, call.dry_run()?);
    asked.object = Some(eviction);
    server.registry.admission.admit(call, &mut asked).await?;
    let eviction = asked.object.as_mut().ok_or_else(|| Status::internal("an eviction was lost in admission"))?;
    if eviction.name() != key.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = delete_options(eviction, call, &key.name)?;
    server.registry.admission.validate(call, &asked).await?;
    let cache = pods.cache.as_ref().ok_or_else(Status::path_not_found)?;
    server.registry.caches.reach_current().await;
    let pod = cache.get(&key).ok_or_else(|| Status::not_found(pods.subject(), &key.name))?;
    let mut options = DeleteOptions::of(&options)?;
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

/// How the Pod is to be deleted: a dry run where the request or its body says so. The eviction itself is told of it.
fn delete_options(eviction: &mut Value, call: &Call, name: &str) -> Result<Value, Status> {
    const PATH: Path<'static> = Path::root("deleteOptions");
    const UNSAFE: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
    let asked: Vec<String> = call.params("dryRun").collect();
    let options = &mut eviction["deleteOptions"];
    if options.is_null() {
        return Ok(json!({"dryRun": asked}));
    }
    if options[UNSAFE] == true {
        let mut errors = Errors::new();
        errors.invalid(&PATH.child(UNSAFE), true, "can not be set for pod eviction, try after removing the option");
        errors.into_result("policy", "Eviction", name)?;
    }
    let stated = options["dryRun"].as_array().map_or(&[][..], Vec::as_slice);
    match (stated, asked.as_slice()) {
        (_, []) => {}
        ([], asked) => options["dryRun"] = json!(asked),
        (stated, asked) if stated == asked => {}
        (stated, asked) => {
            let stated: Vec<&str> = stated.iter().filter_map(Value::as_str).collect();
            return Err(Status::unreasoned(format!(
                "Non-matching dry-run options in request and content: [{}] and [{}]",
                asked.join(" "),
                stated.join(" ")
            )));
        }
    }
    Ok(options.clone())
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

fn would_violate(seconds: u32) -> Status {
    Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", seconds)
}

/// Why a budget allows no disruption.
fn why_none(status: &Value) -> String {
    let count = |field: &str| status[field].as_i64().unwrap_or(0);
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let condition = conditions.find(|condition| condition["type"] == "DisruptionAllowed");
    let condition = condition.filter(|condition| condition["status"] == "False");
    let text = |field: &str| condition.and_then(|condition| condition[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    let (healthy, desired) = (count("currentHealthy"), count("desiredHealthy"));
    match () {
        () if !message.is_empty() && reason == "SyncFailed" => {
            format!("does not allow evicting pods currently because it failed sync: {message}")
        }
        () if healthy <= desired => format!("needs {desired} healthy pods and has {healthy} currently"),
        () if !message.is_empty() => format!("does not allow evicting pods currently ({reason}): {message}"),
        () => "does not allow evicting pods currently".to_owned(),
    }
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
        let refuse = |why: String, seconds: u32| {
            let mut status = would_violate(seconds);
            status.details.get_or_insert_default().causes = vec![Cause::new("DisruptionBudget", why, "")];
            Err(status)
        };
        let forbid = |why: &str| {
            Err(Status::forbidden(Subject { group: "policy", resource: "poddisruptionbudget" }, &self.budget, why))
        };
        if observed < generation {
            let why = format!("The disruption budget {} is still being processed by the server.", self.budget);
            return refuse(why, RETRY_SECONDS);
        }
        if allowed < 0 {
            return forbid("pdb disruptions allowed is negative");
        }
        if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
            return forbid("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
        }
        if allowed == 0 {
            return refuse(format!("The disruption budget {} {}", self.budget, why_none(status)), 0);
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
            return Err(would_violate(RETRY_SECONDS));
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
