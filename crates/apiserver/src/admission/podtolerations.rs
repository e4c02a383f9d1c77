//! `PodTolerationRestriction`: what the Pods of a namespace tolerate unasked, and what they may tolerate at all (upstream:
//! `plugin/pkg/admission/podtolerationrestriction`).

use std::sync::Arc;

use api::field_path::Path;
use api::resources::core::pods::{qos, tolerations};
use api::status::{Status, Subject};
use api::validation::Errors;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::BoxFuture;

use super::optional::namespace;
use super::{Operation, Plugin, Request};
use crate::cache::{Caches, ResourceCache};

/// What is tolerated unasked, as JSON.
const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
/// What may be tolerated, as JSON.
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

pub(super) struct PodTolerations {
    pub(super) caches: Arc<Caches>,
    pub(super) namespaces: Arc<ResourceCache>,
    /// For namespaces that do not say it themselves.
    pub(super) told: Told,
}

/// What the configuration says (`podtolerationrestriction.admission.k8s.io/v1alpha1` Configuration).
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    #[serde(default)]
    default: Vec<Toleration>,
    #[serde(default)]
    whitelist: Vec<Toleration>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Toleration {
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    operator: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    toleration_seconds: Option<i64>,
}

impl Told {
    pub(super) fn read(document: Value) -> Result<Self, String> {
        let version = "podtolerationrestriction.admission.k8s.io/v1alpha1";
        if document["apiVersion"] != version || document["kind"] != "Configuration" {
            return Err(format!("write apiVersion: {version} and kind: Configuration"));
        }
        let mut errors = Errors::new();
        let root = Path::root("podtolerationrestriction");
        for list in ["default", "whitelist"] {
            tolerations(&mut errors, &json!({"tolerations": document[list]}), &root.child(list));
        }
        let wrong: Vec<String> = errors.causes().iter().map(|it| format!("{}: {}", it.field, it.message)).collect();
        match wrong.as_slice() {
            [] => serde_json::from_value(document).map_err(|why| why.to_string()),
            _ => Err(format!("invalid config: [{}]", wrong.join(" "))),
        }
    }
}

/// A Pod that is being made or changed, itself.
fn pod(request: &Request) -> Option<&Value> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    request.object.as_ref().filter(|_| writes && request.is("", "pods"))
}

impl Plugin for PodTolerations {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            let Some(pod) = pod(request) else { return Ok(()) };
            let mut more = match request.operation {
                Operation::Create => {
                    let own = self.stated(&request.namespace, DEFAULTS).await?;
                    own.unwrap_or_else(|| self.told.default.clone())
                }
                _ => Vec::new(),
            };
            // A node that is short of memory keeps only those away that asked for none.
            let class = pod["status"]["qosClass"].as_str().filter(|class| !class.is_empty());
            if class.unwrap_or_else(|| qos::class(&pod["spec"])) != "BestEffort" {
                more.push(Toleration {
                    key: "node.kubernetes.io/memory-pressure".to_owned(),
                    operator: "Exists".to_owned(),
                    effect: "NoSchedule".to_owned(),
                    ..Toleration::default()
                });
            }
            if !more.is_empty() {
                let merged = merge(of(pod)?.into_iter().chain(more).collect());
                if let Some(pod) = &mut request.object {
                    pod["spec"]["tolerations"] = json!(merged);
                }
            }
            self.check(request).await
        })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

impl PodTolerations {
    /// What an annotation of the namespace says; `None` where it has none, nothing where that is empty.
    async fn stated(&self, name: &str, annotation: &str) -> Result<Option<Vec<Toleration>>, Status> {
        let found = namespace(&self.caches, &self.namespaces, name).await;
        let missing = || Status::not_found(Subject { group: "", resource: "namespaces" }, name);
        let value = found.ok_or_else(missing)?.to_value();
        match value["metadata"]["annotations"][annotation].as_str() {
            None => Ok(None),
            Some("") => Ok(Some(Vec::new())),
            Some(text) => {
                let read: Option<Vec<Toleration>> = serde_json::from_str(text).map_err(|why| {
                    Status::unreasoned(format!(
                        "namespace {name}: its annotation {annotation} is no list of tolerations: {why}"
                    ))
                })?;
                Ok(Some(read.unwrap_or_default()))
            }
        }
    }

    /// Refuses Pods that tolerate what they may not.
    async fn check(&self, request: &Request) -> Result<(), Status> {
        let Some(pod) = pod(request) else { return Ok(()) };
        let own = of(pod)?;
        if own.is_empty() {
            return Ok(());
        }
        let stated = self.stated(&request.namespace, ALLOWED).await?;
        let scope = if stated.is_some() { "namespace" } else { "cluster" };
        let allowed = stated.as_deref().unwrap_or(&self.told.whitelist);
        match allowed.is_empty() || own.iter().all(|own| allowed.iter().any(|allowed| allowed.covers(own))) {
            true => Ok(()),
            false => Err(Status::unreasoned(format!(
                "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
            ))),
        }
    }
}

fn of(pod: &Value) -> Result<Vec<Toleration>, Status> {
    let list = pod["spec"]["tolerations"].as_array().into_iter().flatten();
    list.map(|it| Toleration::deserialize(it).map_err(|why| Status::bad_request(why.to_string()))).collect()
}

/// Those that no other one covers; of equal ones the first.
fn merge(all: Vec<Toleration>) -> Vec<Toleration> {
    let mut merged: Vec<Toleration> = Vec::new();
    for (at, one) in all.iter().enumerate() {
        let behind = all[at + 1..].iter().any(|later| later != one && later.covers(one));
        if !behind && !merged.iter().any(|kept| kept.covers(one)) {
            merged.push(one.clone());
        }
    }
    merged
}

impl Toleration {
    /// True where this tolerates all that `other` does.
    fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let every_key = self.key.is_empty() && self.operator == "Exists";
        let key = every_key || self.key == other.key;
        let effect = self.effect.is_empty() || self.effect == other.effect;
        // Who is tolerated for a while covers those who are tolerated for no longer.
        let long = self.effect != "NoExecute"
            || self.toleration_seconds.is_none_or(|most| other.toleration_seconds.is_some_and(|theirs| theirs <= most));
        let value = match self.operator.as_str() {
            "Equal" | "" => other.operator == "Equal" && self.value == other.value,
            operator => operator == "Exists",
        };
        key && effect && long && value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(stated: Value) -> Toleration {
        serde_json::from_value(stated).unwrap()
    }

    #[test]
    fn one_covers_another_that_tolerates_no_more() {
        let check = |one: Value, other: Value, expected: bool| {
            assert_eq!(toleration(one.clone()).covers(&toleration(other.clone())), expected, "{one} {other}");
        };
        let equal = json!({"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"});
        check(json!({"operator": "Exists"}), equal.clone(), true);
        check(json!({"operator": "Exists", "effect": "NoExecute"}), equal.clone(), false);
        check(json!({"key": "a", "operator": "Exists"}), equal.clone(), true);
        check(json!({"key": "c", "operator": "Exists"}), equal.clone(), false);
        check(json!({"key": "a", "value": "b"}), equal.clone(), true);
        check(json!({"key": "a", "value": "c"}), equal.clone(), false);
        // What is not said is Equal, though only what says it is found to be.
        check(equal, json!({"key": "a", "value": "b", "effect": "NoSchedule"}), false);
        let seconds = |seconds: Value| json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
        check(seconds(json!(60)), seconds(json!(30)), true);
        check(seconds(json!(60)), seconds(json!(90)), false);
        check(seconds(json!(60)), seconds(Value::Null), false);
        check(seconds(Value::Null), seconds(json!(60)), true);
    }

    #[test]
    fn what_another_covers_is_left_out() {
        let one = |key: &str, value: &str| {
            let operator = if value.is_empty() { "Exists" } else { "Equal" };
            toleration(json!({"key": key, "operator": operator, "value": value}))
        };
        let merged = merge(vec![one("a", "x"), one("b", "y"), one("b", "y"), one("a", ""), one("a", "z")]);
        assert_eq!(merged, [one("b", "y"), one("a", "")]);
    }

    #[test]
    fn a_configuration_is_of_its_kind_and_valid() {
        let read = |lists: Value| {
            let mut document = json!({
                "apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1", "kind": "Configuration",
            });
            document.as_object_mut().unwrap().extend(lists.as_object().unwrap().clone());
            Told::read(document)
        };
        let told = read(json!({"default": [{"key": "a", "operator": "Exists"}]})).unwrap();
        assert_eq!((told.default.len(), told.whitelist.len()), (1, 0));
        let wrong = read(json!({"whitelist": [{"key": "a"}, {"operator": "Equal"}]})).unwrap_err();
        let part = "podtolerationrestriction.whitelist[1].operator: Invalid value: \"Equal\": operator must be Exists";
        assert!(wrong.starts_with("invalid config: [") && wrong.contains(part), "{wrong}");
        assert!(Told::read(json!({"default": []})).unwrap_err().starts_with("write apiVersion"));
    }
}
