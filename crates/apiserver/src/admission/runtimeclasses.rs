//! `RuntimeClass`: a Pod's class must be there; what the class costs and where it runs becomes the Pod's own (KEP-585).

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::Status;
use serde_json::{Map, Value};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::ResourceCache;

pub struct RuntimeClasses {
    pub classes: Arc<ResourceCache>,
}

impl Plugin for RuntimeClasses {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            if !request.is("", "pods") || request.operation != Operation::Create {
                return Ok(());
            }
            let Some(mut pod) = request.object.take() else { return Ok(()) };
            let outcome = self.fill(&mut pod);
            request.object = Some(pod);
            outcome.map_err(|why| request.forbid(&format!("pod rejected: {why}")))
        })
    }
}

impl RuntimeClasses {
    fn fill(&self, pod: &mut Value) -> Result<(), String> {
        let spec = &mut pod["spec"];
        let Some(name) = spec["runtimeClassName"].as_str() else {
            return match spec["overhead"].as_object().is_none_or(Map::is_empty) {
                true => Ok(()),
                false => Err("Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned()),
            };
        };
        let class = self.classes.get(&ObjectKey::new("", name));
        let class = class.ok_or_else(|| format!("RuntimeClass {name:?} not found"))?.to_value();
        let overhead = &class["overhead"]["podFixed"];
        match (overhead.is_null(), spec["overhead"].is_null()) {
            (true, true) => {}
            (false, true) => spec["overhead"] = overhead.clone(),
            _ if spec["overhead"] == *overhead => {}
            _ => return Err("Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned()),
        }
        schedule(spec, &class["scheduling"])
    }
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
