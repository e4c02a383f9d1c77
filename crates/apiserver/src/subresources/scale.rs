//! `scale`: the number of replicas of a workload, in one shape for all of them.

use std::sync::Arc;

use api::patch::{json, merge};
use api::selector::label::LabelSelector;
use api::status::{Cause, Status};
use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::admission::{self, Operation};
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
        _ => patched(scale_of(&object), call)?,
    };
    let mut asked = admission::Request::new(Operation::Update, served, call, call.dry_run()?);
    (asked.object, asked.old) = (Some(scale), Some(scale_of(&object)));
    registry.admission.check(call, &mut asked).await?;
    // What is stored is the object, but what was written is its scale.
    call.admitted = true;
    let scale = asked.object.take().unwrap_or_default();
    let replicas = checked_replicas(&scale, &key.name)?;
    object["spec"]["replicas"] = serde_json::json!(replicas);
    let stated = scale.resource_version().to_owned();
    match stated.as_str() {
        "" => {
            object.remove_meta("resourceVersion");
        }
        stated => object.set_meta("resourceVersion", serde_json::json!(stated)),
    }
    let outcome = update_object(registry, served, call, object).await?;
    let document = match outcome {
        Outcome::Entry { entry, .. } => scale_of(&entry.to_value()),
        Outcome::Object { object, .. } => scale_of(&object),
        _ => return Err(Status::internal("a scale was not stored as an object")),
    };
    Ok(Outcome::Document { code: 200, document })
}

/// Writes the object itself: the rules of its kind hold, whatever path its replicas came by. Who scales owns the
/// replicas through the scale, apart from what else they own (upstream's `managedfields.NewScaleHandler`).
async fn update_object(
    registry: &Registry,
    served: &Served,
    call: &mut Call,
    object: Value,
) -> Result<Outcome, Status> {
    let subresource = std::mem::take(&mut call.target.subresource);
    call.through = Some("scale");
    let outcome = registry.update_object(served, call, object).await;
    call.through = None;
    call.target.subresource = subresource;
    outcome
}

/// A scale has no lists, so the merging dialects are one.
fn patched(scale: Value, call: &Call) -> Result<Value, Status> {
    let patch: Value = serde_json::from_slice(&call.body)
        .map_err(|why| Status::bad_request(format!("the body of the request is not valid JSON: {why}")))?;
    let dialect = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if dialect.starts_with("application/json-patch+json") {
        return json::apply(scale, &patch).map_err(Status::from);
    }
    merge::apply(scale, patch).map_err(Status::from)
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
    let mut metadata = serde_json::json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if object.has_meta(field) {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let mut spec = serde_json::json!({});
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|replicas| *replicas != 0) {
        spec["replicas"] = serde_json::json!(replicas);
    }
    let mut status = serde_json::json!({"replicas": object["status"]["replicas"].as_i64().unwrap_or(0)});
    if !selector.is_empty() {
        status["selector"] = serde_json::json!(selector);
    }
    serde_json::json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}
