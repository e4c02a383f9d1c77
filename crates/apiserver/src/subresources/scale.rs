//! `scale`: the number of replicas of a workload, in one shape for all of them.

use std::sync::Arc;

use api::patch::merge;
use api::selector::label::LabelSelector;
use api::status::{Cause, Status};
use serde_json::{Value, json};

use crate::document::Document;
use crate::registry::{Call, Outcome, Registry, Served, document};
use crate::server::ApiServer;

/// Reads or writes the scale of the object that the path names.
pub(super) async fn handle(server: &ApiServer, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let registry = &server.registry;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let key = call.key(served.row.namespaced);
    registry.caches.reach_current().await;
    let found = cache.get(&key).ok_or_else(|| Status::not_found(served.subject(), &key.name))?;
    let mut object = found.to_value();
    if call.verb == "get" {
        return Ok(Outcome::Document { code: 200, document: scale_of(&object) });
    }
    let scale = match call.verb {
        "update" => document(&call.headers, &call.body)?,
        _ => merge::apply(scale_of(&object), document(&call.headers, &call.body)?)
            .map_err(|why| Status::bad_request(why.to_string()))?,
    };
    let replicas = checked_replicas(&scale, &key.name)?;
    object["spec"]["replicas"] = json!(replicas);
    let stated = scale.resource_version().to_owned();
    match stated.as_str() {
        "" => {
            object.remove_meta("resourceVersion");
        }
        stated => object.set_meta("resourceVersion", json!(stated)),
    }
    let outcome = update_object(registry, served, call, object).await?;
    let document = match outcome {
        Outcome::Entry(entry) => scale_of(&entry.to_value()),
        Outcome::Object { object, .. } => scale_of(&object),
        _ => return Err(Status::internal("a scale was not stored as an object")),
    };
    Ok(Outcome::Document { code: 200, document })
}

/// Writes the object itself: the rules of its kind hold, whatever path its replicas came by.
async fn update_object(
    registry: &Registry,
    served: &Served,
    call: &mut Call,
    object: Value,
) -> Result<Outcome, Status> {
    let subresource = std::mem::take(&mut call.target.subresource);
    let outcome = registry.update_object(served, call, object).await;
    call.target.subresource = subresource;
    outcome
}

fn checked_replicas(scale: &Value, name: &str) -> Result<i64, Status> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if (0..=i64::from(i32::MAX)).contains(&replicas) {
        return Ok(replicas);
    }
    let cause = Cause {
        reason: "FieldValueInvalid",
        message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        field: "spec.replicas".to_owned(),
    };
    Err(Status::invalid("autoscaling", "Scale", name, vec![cause]))
}

fn scale_of(object: &Value) -> Value {
    let selector = match object["spec"]["selector"].as_object() {
        // A ReplicationController selects by plain labels.
        Some(labels) if labels.values().all(Value::is_string) => {
            let labels = labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
            LabelSelector::from_labels(&labels.collect()).to_string()
        }
        _ => LabelSelector::from_json(object["spec"].get("selector"))
            .map(|selector| selector.to_string())
            .unwrap_or_default(),
    };
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if object.has_meta(field) {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let mut spec = json!({});
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|replicas| *replicas != 0) {
        spec["replicas"] = json!(replicas);
    }
    let mut status = json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}
