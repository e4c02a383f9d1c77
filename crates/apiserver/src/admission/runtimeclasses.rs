//! `RuntimeClass`: a Pod's class must be there; what the class costs and where it runs becomes the Pod's own (KEP-585).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::ObjectKey;
use api::quantity::Quantity;
use api::status::Status;
use serde_json::{Map, Value};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Caches, ResourceCache};

pub struct RuntimeClasses {
    pub caches: Arc<Caches>,
    pub classes: Arc<ResourceCache>,
}

impl Plugin for RuntimeClasses {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            let Some(class) = self.class(request).await? else { return Ok(()) };
            let Some(mut pod) = request.object.take() else { return Ok(()) };
            let outcome = fill(&mut pod["spec"], &class);
            request.object = Some(pod);
            outcome.map_err(|why| request.forbid(&why))
        })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            let Some(pod) = pod(request) else { return Ok(()) };
            let class = self.class(request).await?;
            let overhead = class.as_ref().map_or(&Value::Null, |class| &class["overhead"]);
            check(&pod["spec"]["overhead"], overhead).map_err(|why| request.forbid(why))
        })
    }
}

/// A Pod that is being made.
fn pod(request: &Request) -> Option<&Value> {
    request.object.as_ref().filter(|_| request.is("", "pods") && request.operation == Operation::Create)
}

impl RuntimeClasses {
    /// The class that a new Pod names, if it names one.
    async fn class(&self, request: &Request) -> Result<Option<Value>, Status> {
        let Some(name) = pod(request).and_then(|pod| pod["spec"]["runtimeClassName"].as_str()) else {
            return Ok(None);
        };
        let key = ObjectKey::new("", name);
        let mut class = self.classes.get(&key);
        if class.is_none() {
            self.caches.reach_current().await;
            class = self.classes.get(&key);
        }
        let why = || request.forbid(&format!("pod rejected: RuntimeClass {name:?} not found"));
        class.map(|class| Some(class.to_value())).ok_or_else(why)
    }
}

const DIFFERENT: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

fn fill(spec: &mut Value, class: &Value) -> Result<(), String> {
    let overhead = &class["overhead"];
    if !overhead.is_null() {
        let fixed = &overhead["podFixed"];
        if !is_empty(&spec["overhead"]) && !same(&spec["overhead"], fixed) {
            return Err(DIFFERENT.to_owned());
        }
        if !fixed.is_null() {
            spec["overhead"] = fixed.clone();
        }
    }
    schedule(spec, &class["scheduling"])
}

/// Whether a Pod costs what its class says, and nothing where that says nothing.
fn check(own: &Value, overhead: &Value) -> Result<(), &'static str> {
    match overhead.is_null() {
        true if own.is_null() => Ok(()),
        true => Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        false if same(own, &overhead["podFixed"]) => Ok(()),
        false => Err(DIFFERENT),
    }
}

fn is_empty(amounts: &Value) -> bool {
    amounts.as_object().is_none_or(Map::is_empty)
}

/// The same amounts, however they are written.
fn same(one: &Value, other: &Value) -> bool {
    let amounts = |value: &Value| -> BTreeMap<String, Option<Quantity>> {
        let fields = value.as_object().into_iter().flatten();
        fields.map(|(name, amount)| (name.clone(), Quantity::from_json(amount).ok())).collect()
    };
    amounts(one) == amounts(other)
}

/// The Pod goes where the class says, and bears what the class bears there.
fn schedule(spec: &mut Value, scheduling: &Value) -> Result<(), String> {
    for (key, value) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let own = &spec["nodeSelector"][key];
        if !own.is_null() && own != value {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(value),
                text(own)
            ));
        }
        spec["nodeSelector"][key] = value.clone();
    }
    for toleration in scheduling["tolerations"].as_array().into_iter().flatten() {
        match spec["tolerations"].as_array_mut() {
            Some(own) if own.contains(toleration) => {}
            Some(own) => own.push(toleration.clone()),
            None => spec["tolerations"] = Value::Array(vec![toleration.clone()]),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_costs_what_its_class_says_however_that_is_written() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m", "memory": "1Gi"}}});
        let fixed = &class["overhead"]["podFixed"];
        let mut spec = json!({"overhead": {"cpu": "0.25", "memory": "1024Mi"}});
        assert_eq!(fill(&mut spec, &class), Ok(()));
        assert_eq!(spec["overhead"], *fixed);
        let mut spec = json!({"overhead": {"cpu": "0.5", "memory": "1Gi"}});
        assert_eq!(fill(&mut spec, &class).unwrap_err(), DIFFERENT);
        assert_eq!(check(&json!({"cpu": "0.25", "memory": "1Gi"}), &class["overhead"]), Ok(()));
        assert_eq!(check(&Value::Null, &class["overhead"]), Err(DIFFERENT));
        assert_eq!(check(&Value::Null, &Value::Null), Ok(()));
        assert!(
            check(&json!({"cpu": "1"}), &Value::Null)
                .unwrap_err()
                .ends_with("without corresponding RuntimeClass defined Overhead")
        );
    }

    #[test]
    fn a_class_says_where_its_pods_go() {
        let scheduling = json!({"nodeSelector": {"a": "b"}, "tolerations": [{"key": "t"}]});
        let mut spec = json!({"nodeSelector": {"c": "d"}, "tolerations": [{"key": "t"}, {"key": "u"}]});
        schedule(&mut spec, &scheduling).unwrap();
        assert_eq!(spec, json!({"nodeSelector": {"a": "b", "c": "d"}, "tolerations": [{"key": "t"}, {"key": "u"}]}));
        let mut spec = json!({});
        schedule(&mut spec, &scheduling).unwrap();
        assert_eq!(spec, scheduling);
        let mut spec = json!({"nodeSelector": {"a": "x"}});
        assert!(schedule(&mut spec, &scheduling).unwrap_err().starts_with("conflict: runtimeClass"));
    }
}
