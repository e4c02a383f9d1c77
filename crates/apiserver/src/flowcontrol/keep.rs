//! Follows the objects: makes the plan anew when they change, keeps those that every cluster has, says in the status of
//! a FlowSchema whether its level exists; and lends seats while somebody needs them.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use client::informer::{Informers as _, Scope};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::config::{FlowSchema, GROUP, PriorityLevel};
use super::plan::Plan;
use super::{FlowControl, bootstrap};
use crate::authn::{MASTERS, User};
use crate::clock;
use crate::document::Document;
use crate::registry::Call;
use crate::request::ResourceRequest;
use crate::server::ApiServer;

/// How often seats are lent anew while there is need.
const PERIOD: Duration = Duration::from_secs(10);
const OWNER: &str = "api-priority-and-fairness-config-consumer-v1";

/// Follows until the server stops.
pub(crate) async fn keep(server: Arc<ApiServer>) {
    let informers = server.informers(server.streams.clone(), server.stop.clone());
    let schemas = informers.informer(Scope::all(GROUP, "v1", "flowschemas"));
    let levels = informers.informer(Scope::all(GROUP, "v1", "prioritylevelconfigurations"));
    let (mut of_schemas, mut of_levels) = (schemas.subscribe(), levels.subscribe());
    let mut lent = Instant::now();
    // Whether somebody had to wait, or what is lent still changes.
    let mut restless = false;
    let mut changed = true;
    loop {
        if std::mem::take(&mut changed) {
            let read =
                |entries: Vec<Arc<api::object::Entry>>| entries.iter().map(|it| it.to_value()).collect::<Vec<_>>();
            settle(&server, &read(schemas.list(None)), &read(levels.list(None))).await;
            lent = Instant::now();
        }
        tokio::select! {
            change = of_schemas.recv() => match change {
                Some(_) => changed = true,
                None => return,
            },
            change = of_levels.recv() => match change {
                Some(_) => changed = true,
                None => return,
            },
            () = server.flow_control.pressure.notified(), if !restless => restless = true,
            () = sleep_until(lent + PERIOD), if restless => {
                restless = server.flow_control.lend();
                lent = Instant::now();
            }
        }
        // One look answers for all that has happened meanwhile.
        while of_schemas.try_recv().is_ok() || of_levels.try_recv().is_ok() {}
    }
}

impl FlowControl {
    /// True if what a level may have has changed.
    fn lend(&self) -> bool {
        self.plan.read().clone().lend(PERIOD)
    }

    fn follow(&self, schemas: &[Value], levels: &[Value]) {
        let schemas: Vec<_> = schemas.iter().filter_map(FlowSchema::read).collect();
        let levels: Vec<_> = levels.iter().filter_map(PriorityLevel::read).collect();
        let before = self.plan.read().clone();
        *self.plan.write() = Arc::new(Plan::make(&schemas, &levels, self.capacity, &before));
    }
}

async fn settle(server: &ApiServer, schemas: &[Value], levels: &[Value]) {
    let shared = server.flow_control.is_shared();
    if shared {
        server.flow_control.follow(schemas, levels);
    }
    if let Err(status) = bootstrap::ensure(server).await {
        warn!(why = status.message, "the suggested flow schemas and priority levels cannot be kept");
    }
    // The objects are there in any case; what they come to is said by what goes by them.
    let followed = if shared { schemas } else { &[] };
    for schema in followed {
        let Some(condition) = dangling(schema, levels) else { continue };
        let patch = json!({
            "apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema", "metadata": {"name": schema.name()},
            "status": {"conditions": [condition]},
        });
        match call(server, "patch", "flowschemas", schema.name(), "status", &patch).await {
            Err(status) if !status.is_not_found() => {
                warn!(schema = schema.name(), why = status.message, "whether a flow schema dangles cannot be said");
            }
            _ => {}
        }
    }
}

/// What the status of a schema is to say of its level; `None` if it does.
fn dangling(schema: &Value, levels: &[Value]) -> Option<Value> {
    let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
    let known = levels.iter().any(|it| it.name() == level);
    let told = format!("This FlowSchema references the PriorityLevelConfiguration object named \"{level}\"");
    let (status, reason, message) = match known {
        true => ("False", "Found", format!("{told} and it exists")),
        false => ("True", "NotFound", format!("{told} but there is no such object")),
    };
    let said = schema["status"]["conditions"].as_array().into_iter().flatten().find(|it| it["type"] == "Dangling");
    let same = |said: &Value| said["status"] == status && said["reason"] == reason && said["message"] == message;
    (!said.is_some_and(same)).then(|| {
        json!({
            "type": "Dangling", "status": status, "lastTransitionTime": clock::now(), "reason": reason,
            "message": message,
        })
    })
}

/// Writes one of the objects; a patch is an apply.
pub(super) async fn call(
    server: &ApiServer,
    verb: &'static str,
    resource: &str,
    name: &str,
    subresource: &str,
    body: &Value,
) -> Result<(), Status> {
    let served = server.registry.catalogue.find(GROUP, "v1", resource).ok_or_else(Status::path_not_found)?;
    let target = ResourceRequest {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: resource.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        ..ResourceRequest::default()
    };
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let mut call = Call::internal(User::component("system:apiserver", &[MASTERS]), verb, target, body);
    call.query = "fieldManager=api-priority-and-fairness-config-producer-v1".to_owned();
    if verb == "patch" {
        call.query = format!("fieldManager={OWNER}&force=true");
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/apply-patch+yaml"));
    }
    server.registry.handle(&served, &mut call).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_says_whether_its_level_exists() {
        let levels = [json!({"metadata": {"name": "system"}})];
        let schema = |level: &str, conditions: Value| json!({"spec": {"priorityLevelConfiguration": {"name": level}}, "status": {"conditions": conditions}});
        let found = dangling(&schema("system", Value::Null), &levels).unwrap();
        assert_eq!((&found["status"], &found["reason"]), (&json!("False"), &json!("Found")));
        assert_eq!(dangling(&schema("system", json!([found.clone()])), &levels), None);
        let lost = dangling(&schema("gone", json!([found])), &levels).unwrap();
        assert_eq!((&lost["status"], &lost["reason"]), (&json!("True"), &json!("NotFound")));
        assert!(lost["message"].as_str().unwrap().ends_with("named \"gone\" but there is no such object"));
    }
}
