//! `pods/binding`: the scheduler's word on where a Pod runs.

use std::sync::Arc;

use api::object::Entry;
use api::status::{Status, Subject};
use api::validation::quote;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::document::Document;
use crate::registry::posted::{self, BINDING, SystemFields};
use crate::registry::{Call, Decision, Modify, Outcome, Served, places};
use crate::server::ApiServer;
use crate::subresources::set_condition;

const PODS: Subject<'static> = Subject { group: "", resource: "pods/binding" };

struct Bind<'a> {
    pods: &'a Served,
    name: String,
    dry_run: bool,
    binding: Value,
    node: String,
}

/// Binds the Pod that the path (or for `bindings` the object) names.
pub(crate) async fn bind(server: &ApiServer, served: &Served, call: &mut Call) -> Result<Outcome, Status> {
    // Of the uid and the revision of a binding hangs which Pod is meant.
    let binding = posted::read(&BINDING, call, SystemFields::Kept)?;
    if call.target.name.is_empty() {
        binding.name().clone_into(&mut call.target.name);
    }
    let mut asked = admission::Request::new(Operation::Create, served, call, call.dry_run()?);
    asked.object = Some(binding);
    server.registry.admission.admit(call, &mut asked).await?;
    let binding = asked.object.as_ref().unwrap_or(&Value::Null);
    if binding.name() != call.target.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let node = target(&binding["target"])?;
    server.registry.admission.validate(call, &asked).await?;
    let binding = asked.object.take().unwrap_or_default();
    let pods = server.registry.catalogue.find("", "v1", "pods").ok_or_else(Status::path_not_found)?;
    let (key, dry_run) = (call.key(true), call.dry_run()?);
    let mut bind = Bind { pods: &pods, name: key.name.clone(), dry_run, binding, node };
    server.registry.write(&pods, &key, dry_run, &mut bind).await?;
    let document = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Outcome::Document { code: 201, document })
}

/// The name of the Node that a binding targets. Upstream refuses other targets as errors of its own.
fn target(target: &Value) -> Result<String, Status> {
    let text = |field: &str| target[field].as_str().unwrap_or_default();
    let mut wrong = Vec::new();
    if !matches!(text("kind"), "" | "Node") {
        let kind = quote(text("kind"));
        wrong.push(format!("target.kind: Unsupported value: {kind}: supported values: \"Node\", \"<empty>\""));
    }
    if text("name").is_empty() {
        wrong.push("target.name: Required value".to_owned());
    }
    match wrong.as_slice() {
        [] => Ok(text("name").to_owned()),
        [only] => Err(Status::unreasoned(only.as_str())),
        several => Err(Status::unreasoned(format!("[{}]", several.join(", ")))),
    }
}

impl Modify for Bind<'_> {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let Some(live) = live else {
            return Err(Status::not_found(Subject { group: "", resource: "pods" }, &self.name));
        };
        let conflict = |why: &str| Err(Status::conflict(PODS, &self.name, why));
        let mut pod = live.to_value();
        let revision = live.revision.to_string();
        let stated = [
            ("UID", self.binding.uid(), live.uid.as_str()),
            ("ResourceVersion", self.binding.resource_version(), &revision),
        ];
        if let Some(failed) = stated.into_iter().find(|(_, asked, is)| !asked.is_empty() && asked != is) {
            return Err(places::precondition_failed(self.pods, live, self.dry_run, failed));
        }
        if pod.is_terminating() {
            return conflict(&format!("pod {} is being deleted, cannot be assigned to a host", self.name));
        }
        match pod["spec"]["nodeName"].as_str() {
            Some(node) if !node.is_empty() => {
                return conflict(&format!("pod {} is already assigned to node \"{node}\"", self.name));
            }
            _ => {}
        }
        if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
            return conflict(&format!("pod {} has non-empty .spec.schedulingGates", self.name));
        }
        pod["spec"]["nodeName"] = json!(self.node);
        for field in ["annotations", "labels"] {
            for (key, value) in self.binding["metadata"][field].as_object().into_iter().flatten() {
                pod["metadata"][field][key] = value.clone();
            }
        }
        set_condition(&mut pod, json!({"type": "PodScheduled", "status": "True"}));
        // Where the Pod might have gone says nothing any more.
        if let Some(status) = pod["status"].as_object_mut() {
            status.remove("nominatedNodeName");
        }
        pod.remove_meta("resourceVersion");
        Ok(Decision::Put(pod))
    }
}
