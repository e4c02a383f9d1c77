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
use crate::registry::{Call, Decision, DeleteOptions, Modified, Modify, Outcome, Served, record_own};
use crate::server::ApiServer;
use crate::subresources::set_condition;

/// How long a client is asked to wait for a budget that is still being looked at.
const RETRY_SECONDS: u32 = 10;

/// How often a Pod that has changed meanwhile is looked at again.
const ATTEMPTS: u32 = 20;

const SEVERAL: &str =
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";

/// Who writes down what evictions take of budgets.
const PROGRAM: &str = "kube-apiserver";

const PODS: Subject<'static> = Subject { group: "", resource: "pods" };

/// A budget with more evictions than this that its controller has not confirmed allows no further ones.
const MOST_DISRUPTED: usize = 2000;

/// Takes one disruption from a budget.
struct Disrupt<'a> {
    budgets: &'a Served,
    pod: String,
    budget: String,
}

/// Tells in a Pod's status why it goes.
struct Mark {
    name: String,
    /// What is asked of the Pod.
    uid: Option<String>,
    revision: Option<String>,
}

/// What a Pod's budget says.
enum Budget {
    /// The Pod may go.
    Allows,
    /// The Pod may go without being counted, by this budget, as long as it is as it is.
    Spares(String),
    /// There are several, which nobody can weigh.
    Several,
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
    let asked = DeleteOptions::of(&options)?;
    // The deletion is what was admitted, not a second write.
    call.admitted = true;
    call.target.subresource.clear();
    let pod = match remove_uncounted(server, pods, call, &key, &asked).await? {
        Some(pod) => pod,
        None => return Ok(said("Success", 201, None)),
    };
    let mut options = asked.clone();
    let spared = match take_from_budget(server, &pod, asked.dry_run).await? {
        Budget::Several => return Ok(said("Failure", 500, Some(SEVERAL))),
        Budget::Allows => None,
        Budget::Spares(budget) => {
            options.resource_version = Some(pod.revision.to_string());
            Some(budget)
        }
    };
    match (remove(server, pods, call, &key, options).await, spared) {
        // It was looked at as it is no longer, by us.
        (Err(status), Some(budget)) if status.is_conflict() && asked.resource_version.is_none() => {
            Err(still_processed(&budget))
        }
        (removed, _) => removed.map(|()| said("Success", 201, None)),
    }
}

/// The answer to an eviction, which is a Status whatever it says.
fn said(status: &str, code: u16, message: Option<&str>) -> Outcome {
    let mut document = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status, "code": code});
    if let Some(message) = message {
        document["message"] = json!(message);
    }
    Outcome::Document { code, document }
}

/// Removes a Pod that no budget counts, since nobody is disrupted; gives it back if it is counted. One that may come to be
/// counted is removed only as it was seen.
async fn remove_uncounted(
    server: &ApiServer,
    pods: &Arc<Served>,
    call: &mut Call,
    key: &ObjectKey,
    asked: &DeleteOptions,
) -> Result<Option<Arc<Entry>>, Status> {
    let cache = pods.cache.as_ref().ok_or_else(Status::path_not_found)?;
    for left in (0..ATTEMPTS).rev() {
        server.registry.caches.reach_current().await;
        let pod = cache.get(key).ok_or_else(|| Status::not_found(pods.subject(), &key.name))?;
        let value = pod.to_value();
        if counts(&value) {
            return Ok(Some(pod));
        }
        let mut options = asked.clone();
        if value["status"]["phase"] == "Pending" && !value.is_terminating() {
            options.resource_version.get_or_insert_with(|| pod.revision.to_string());
        }
        match remove(server, pods, call, key, options).await {
            Err(status) if status.is_conflict() && asked.resource_version.is_none() && left > 0 => {}
            removed => return removed.map(|()| None),
        }
    }
    Ok(None)
}

/// Marks the Pod, and deletes it.
async fn remove(
    server: &ApiServer,
    pods: &Arc<Served>,
    call: &mut Call,
    key: &ObjectKey,
    mut options: DeleteOptions,
) -> Result<(), Status> {
    if !options.dry_run {
        let (uid, revision) = (options.uid.clone(), options.resource_version.clone());
        let mut mark = Mark { name: key.name.clone(), uid, revision };
        let marked = server.registry.write(pods, key, false, &mut mark).await?;
        if let (Some(version), Modified::Updated(entry)) = (&mut options.resource_version, marked) {
            *version = entry.revision.to_string();
        }
    }
    server.registry.delete_with(pods, call, options).await.map(|_| ())
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

async fn take_from_budget(server: &ApiServer, pod: &Entry, dry_run: bool) -> Result<Budget, Status> {
    let budgets =
        server.registry.catalogue.find("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::path_not_found)?;
    let cache = budgets.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let here = Filter { namespace: Some(pod.key.namespace.clone()), ..Filter::default() };
    let mut matching = cache.list(&here).entries.into_iter().filter(|entry| {
        LabelSelector::from_json(entry.to_value()["spec"].get("selector"))
            .is_ok_and(|selector| selector.matches(&pod.labels))
    });
    let Some(budget) = matching.next() else { return Ok(Budget::Allows) };
    if matching.next().is_some() {
        return Ok(Budget::Several);
    }
    if !is_ready(&pod.to_value()) && spares_unready(&budget.to_value()) {
        return Ok(Budget::Spares(budget.key.name.clone()));
    }
    let key = ObjectKey::new(pod.key.namespace.as_str(), budget.key.name.as_str());
    let mut disrupt = Disrupt { budgets: &budgets, pod: pod.key.name.clone(), budget: budget.key.name.clone() };
    server.registry.write(&budgets, &key, dry_run, &mut disrupt).await.map(|_| Budget::Allows)
}

/// The refusal of an eviction that a budget has nothing left for.
fn would_violate(why: String, seconds: u32) -> Status {
    let said = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(said, seconds);
    status.details.get_or_insert_default().causes = vec![Cause::new("DisruptionBudget", why, "")];
    status
}

fn still_processed(budget: &str) -> Status {
    would_violate(format!("The disruption budget {budget} is still being processed by the server."), RETRY_SECONDS)
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

impl Modify for Disrupt<'_> {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        // A budget that has gone holds nothing back.
        let Some(live) = live else { return Ok(Decision::Keep) };
        let mut budget = live.to_value();
        let status = &budget["status"];
        let observed = status["observedGeneration"].as_i64().unwrap_or(0);
        let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        let forbid = |why: &str| {
            Err(Status::forbidden(Subject { group: "policy", resource: "poddisruptionbudget" }, &self.budget, why))
        };
        if observed < generation {
            return Err(still_processed(&self.budget));
        }
        if allowed < 0 {
            return forbid("pdb disruptions allowed is negative");
        }
        if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
            return forbid("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
        }
        if allowed == 0 {
            return Err(would_violate(format!("The disruption budget {} {}", self.budget, why_none(status)), 0));
        }
        budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
        budget["status"]["disruptedPods"][&self.pod] = json!(crate::clock::now());
        if allowed == 1 {
            exhaust(&mut budget["status"]);
        }
        record_own(self.budgets, PROGRAM, "status", &live.to_value(), &mut budget);
        budget.remove_meta("resourceVersion");
        Ok(Decision::Put(budget))
    }
}

/// Says of a budget that it has nothing left, before its controller does.
fn exhaust(status: &mut Value) {
    let observed = status["observedGeneration"].clone();
    let mut conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let known = conditions.iter().position(|known| known["type"] == "DisruptionAllowed");
    let at = known.unwrap_or_else(|| {
        conditions.push(json!({"type": "DisruptionAllowed"}));
        conditions.len() - 1
    });
    let condition = &mut conditions[at];
    if condition["status"] != "False" {
        condition["lastTransitionTime"] = json!(crate::clock::now());
    }
    condition["status"] = json!("False");
    condition["reason"] = json!("InsufficientPods");
    condition["message"] = json!("");
    if !observed.is_null() {
        condition["observedGeneration"] = observed;
    }
    status["conditions"] = json!(conditions);
}

impl Modify for Mark {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let Some(live) = live else { return Err(Status::not_found(PODS, &self.name)) };
        let revision = live.revision.to_string();
        let asked = [
            ("UID", &self.uid, &*live.uid, "might have been deleted and then recreated"),
            ("ResourceVersion", &self.revision, &revision, "might have been modified"),
        ];
        for (what, asked, is, may) in asked {
            if let Some(asked) = asked.as_ref().filter(|asked| !asked.is_empty() && *asked != is) {
                let why = format!(
                    "the {what} in the precondition ({asked}) does not match the {what} in record ({is}). The object {may}"
                );
                return Err(Status::conflict(Subject { group: "", resource: "Pod" }, &self.name, &why));
            }
        }
        let mut pod = live.to_value();
        let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting"});
        if !set_condition(&mut pod, condition) {
            return Ok(Decision::Keep);
        }
        pod.remove_meta("resourceVersion");
        Ok(Decision::Put(pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_with_nothing_left_says_so() {
        let mut status = json!({"observedGeneration": 3, "conditions": [
            {"type": "Other", "status": "True"},
            {"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods", "message": "", "lastTransitionTime": "then"},
        ]});
        exhaust(&mut status);
        let condition = status["conditions"][1].clone();
        assert_eq!(condition["status"], "False");
        assert_eq!(condition["reason"], "InsufficientPods");
        assert_eq!(condition["observedGeneration"], 3);
        assert_ne!(condition["lastTransitionTime"], "then");
        // Nothing has changed since.
        status["conditions"][1]["lastTransitionTime"] = json!("then");
        exhaust(&mut status);
        assert_eq!(status["conditions"][1]["lastTransitionTime"], "then");
        let mut fresh = json!({});
        exhaust(&mut fresh);
        assert_eq!(fresh["conditions"][0]["reason"], "InsufficientPods");
    }
}
