//! `scale`: the number of replicas of a workload, in one shape for all of them.

use std::sync::Arc;

use api::custom::Scale;
use api::patch::{json, merge};
use api::selector::label::LabelSelector;
use api::status::{Cause, Status};
use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::admission::{self, Operation};
use crate::document::Document;
use crate::registry::{Call, Outcome, Registry, Served, document, versions};
use crate::server::ApiServer;

/// Reads or writes the scale of the object that the path names.
pub(super) async fn handle(server: &ApiServer, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let registry = &server.registry;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let key = call.key(served.row.namespaced);
    registry.caches.reach_current().await;
    let found = cache.get(&key).ok_or_else(|| Status::not_found(served.subject(), &key.name))?;
    let mut object = versions::working(served, &found).await?;
    let place = Place::of(served);
    if call.verb == "get" {
        place.check(&object)?;
        return Ok(Outcome::Document { code: 200, document: scale_of(place, &object)? });
    }
    let scale = match call.verb {
        "update" => document(&call.headers, &call.body)?,
        _ => patched(scale_of(place, &object)?, call)?,
    };
    let mut asked = admission::Request::new(Operation::Update, served, call, call.dry_run()?);
    (asked.object, asked.old) = (Some(scale), Some(scale_of(place, &object)?));
    registry.admission.check(call, &mut asked).await?;
    // What is stored is the object, but what was written is its scale.
    call.admitted = true;
    let scale = asked.object.take().unwrap_or_default();
    let replicas = checked_replicas(&scale, &key.name)?;
    place.set(&mut object, replicas)?;
    let stated = scale.resource_version().to_owned();
    match stated.as_str() {
        "" => {
            object.remove_meta("resourceVersion");
        }
        stated => object.set_meta("resourceVersion", serde_json::json!(stated)),
    }
    let outcome = update_object(registry, served, call, object).await?;
    let document = match outcome {
        Outcome::Entry { entry, .. } => scale_of(place, &versions::working(served, &entry).await?)?,
        Outcome::Object { object, .. } => scale_of(place, &object)?,
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
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
        field: "spec.replicas".to_owned(),
    };
    Err(Status::invalid("autoscaling", "Scale", name, vec![cause]))
}

/// Where an object's replicas stand: in workloads all at one place, in custom resources where their definition says.
#[derive(Clone, Copy)]
enum Place<'s> {
    Workload,
    Custom(&'s Scale),
}

impl<'s> Place<'s> {
    fn of(served: &'s Served) -> Self {
        let custom = served.custom.as_ref().and_then(|custom| custom.version().scale.as_ref());
        custom.map_or(Self::Workload, Self::Custom)
    }

    /// A custom resource that asks for no replicas has no scale to read.
    fn check(self, object: &Value) -> Result<(), Status> {
        let Self::Custom(scale) = self else { return Ok(()) };
        match scale.replicas(object).map_err(Status::unreasoned)? {
            Some(_) => Ok(()),
            None => Err(Status::internal(format!("the spec replicas field {:?} does not exist", scale.spec_replicas))),
        }
    }

    fn set(self, object: &mut Value, replicas: i64) -> Result<(), Status> {
        match self {
            Self::Workload => object["spec"]["replicas"] = serde_json::json!(replicas),
            Self::Custom(scale) => scale.set_replicas(object, replicas).map_err(Status::unreasoned)?,
        }
        Ok(())
    }

    /// The replicas asked for, those reported, and the selector of what is scaled.
    fn read(self, object: &Value) -> Result<(i64, i64, String), String> {
        match self {
            Self::Workload => Ok((
                object["spec"]["replicas"].as_i64().unwrap_or(0),
                object["status"]["replicas"].as_i64().unwrap_or(0),
                workload_selector(object),
            )),
            Self::Custom(scale) => {
                Ok((scale.replicas(object)?.unwrap_or(0), scale.status(object)?, scale.selector(object)?))
            }
        }
    }
}

fn workload_selector(object: &Value) -> String {
    match object["spec"]["selector"].as_object() {
        // A ReplicationController selects by plain labels.
        Some(labels) if labels.values().all(Value::is_string) => {
            let labels = labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
            LabelSelector::from_labels(&labels.collect()).to_string()
        }
        _ => LabelSelector::from_json(object["spec"].get("selector"))
            .map(|selector| selector.to_string())
            .unwrap_or_default(),
    }
}

fn scale_of(place: Place<'_>, object: &Value) -> Result<Value, Status> {
    let (replicas, reported, selector) = place.read(object).map_err(Status::unreasoned)?;
    let mut metadata = serde_json::json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if object.has_meta(field) {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let mut spec = serde_json::json!({});
    if replicas != 0 {
        spec["replicas"] = serde_json::json!(replicas);
    }
    let mut status = serde_json::json!({"replicas": reported});
    if !selector.is_empty() {
        status["selector"] = serde_json::json!(selector);
    }
    Ok(serde_json::json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status,
    }))
}
