//! What is likely wrong with the expressions of validating policies, told in their status: each is compiled against
//! the schemas of the kinds that the policy's rules name (`validating/typechecking.go`,
//! `pkg/controller/validatingadmissionpolicystatus`). Nothing of it changes what a policy does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::cel::Shape;
use api::cel::expressions::{Compiler, Purpose};
use api::object::ObjectKey;
use api::resource::{GroupVersionResource, split_api_version};
use api::status::Status;
use bytes::Bytes;
use client::clock::SystemClock;
use client::informer::{Informer, Scope};
use client::reconcile::{Action, Controller, Failure, own_key};
use client::view::View;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::{MASTERS, User};
use crate::document::{Document, words};
use crate::registry::{Call, Catalogue, Served};
use crate::request::ResourceRequest;
use crate::server::ApiServer;

const NAME: &str = "validatingadmissionpolicy-status";
const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";

/// The most kinds that a policy is checked against.
const MOST_KINDS: usize = 10;

/// A status could not be written; it is tried again.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Fault(#[from] Status);

impl Failure for Fault {
    fn is_stale(&self) -> bool {
        self.0.reason == "Conflict"
    }
}

/// Checks policies as they come and change, until `stop`.
pub(crate) async fn keep(server: Arc<ApiServer>, tasks: TaskTracker, stop: CancellationToken) {
    let informers = server.informers(tasks, stop.clone());
    let resource =
        GroupVersionResource { group: GROUP.to_owned(), version: "v1".to_owned(), resource: PLURAL.to_owned() };
    let scope = Scope { resource, namespace: None, fields: String::new(), labels: String::new() };
    let view = Arc::new(View::new(&*informers, scope));
    let controller: Controller<ObjectKey> = Controller::new(NAME, SystemClock::shared()).watch(&view, own_key);
    controller
        .run(stop, move |key| {
            let (server, view) = (server.clone(), view.clone());
            async move {
                if let Some(entry) = view.get(&key) {
                    reconcile(&server, entry.to_value()).await?;
                }
                Ok::<_, Fault>(Action::Done)
            }
        })
        .await;
}

/// Writes what there is to say of a policy, unless that was done for this generation. What changed or went meanwhile
/// is left alone: its change brings it here again.
async fn reconcile(server: &ApiServer, mut policy: Value) -> Result<(), Fault> {
    let generation = policy["metadata"]["generation"].as_i64().unwrap_or_default();
    if generation <= policy["status"]["observedGeneration"].as_i64().unwrap_or_default() {
        return Ok(());
    }
    let warnings = warnings(&policy["spec"], &server.registry.catalogue);
    let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    policy["status"]["observedGeneration"] = json!(generation);
    policy["status"]["typeChecking"] = checked;
    let Some(served) = server.registry.catalogue.find(GROUP, "v1", PLURAL) else { return Ok(()) };
    let target = ResourceRequest {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        resource: PLURAL.to_owned(),
        name: policy.name().to_owned(),
        subresource: "status".to_owned(),
        ..ResourceRequest::default()
    };
    let user = User::component("system:apiserver", &[MASTERS]);
    let mut call = Call::internal(user, "update", target, Bytes::new());
    call.query = format!("fieldManager={NAME}");
    match server.registry.update_object(&served, &mut call, policy).await {
        Err(status) if !status.is_not_found() && status.reason != "Conflict" => Err(status.into()),
        _ => Ok(()),
    }
}

/// The `expressionWarnings` of a policy: of its validations and their messages.
fn warnings(spec: &Value, catalogue: &Catalogue) -> Vec<Value> {
    let params = &spec["paramKind"];
    let (group, version) = split_api_version(params["apiVersion"].as_str().unwrap_or_default());
    let param_kind = catalogue.kind(group, version, params["kind"].as_str().unwrap_or_default());
    let param_shape = param_kind.as_ref().and_then(|served| shape(served));
    let compilers: Vec<(String, Compiler)> = kinds(spec, catalogue)
        .into_iter()
        .filter_map(|(name, served)| {
            let object = (served.row.kind.clone(), shape(&served)?);
            let params = param_kind.as_ref().map(|served| served.row.kind.clone()).zip(param_shape.clone());
            let mut compiler = Compiler::composing(!spec["paramKind"].is_null()).typed(object, params);
            for variable in spec["variables"].as_array().into_iter().flatten() {
                let text = |field: &str| variable[field].as_str().unwrap_or_default();
                compiler.declare(text("name"), text("expression"));
            }
            Some((name, compiler))
        })
        .collect();
    let mut warnings = Vec::new();
    for (at, validation) in spec["validations"].as_array().into_iter().flatten().enumerate() {
        for field in ["expression", "messageExpression"] {
            let text = validation[field].as_str().unwrap_or_default();
            if text.is_empty() {
                continue;
            }
            let found: Vec<String> = compilers
                .iter()
                .filter_map(|(name, compiler)| {
                    let expression = compiler.compile(text, Purpose::Variable);
                    expression.flaw().map(|why| format!("{name}: {why}\n"))
                })
                .collect();
            if !found.is_empty() {
                let place = format!("spec.validations[{at}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": found.join("\n")}));
            }
        }
    }
    warnings
}

fn shape(served: &Served) -> Option<Arc<Shape>> {
    served.model().map(|model| Arc::new(Shape::of_model(model)))
}

/// The kinds that the rules of a policy name, none of which may be meant by a wildcard; by what messages call them.
fn kinds(spec: &Value, catalogue: &Catalogue) -> BTreeMap<String, Arc<Served>> {
    let mut found = BTreeMap::new();
    for rule in spec["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
        let words = |field: &str| -> BTreeSet<&str> { words(&rule[field]).collect() };
        let (groups, versions) = (words("apiGroups"), words("apiVersions"));
        if groups.iter().chain(&versions).any(|word| word.contains('*')) {
            continue;
        }
        let resources = words("resources");
        let resources: Vec<&str> = resources.into_iter().filter(|word| !word.contains(['*', '/'])).collect();
        for (group, version) in groups.iter().flat_map(|group| versions.iter().map(move |version| (group, version))) {
            for served in resources.iter().filter_map(|resource| catalogue.find(group, version, resource)) {
                if found.len() == MOST_KINDS {
                    return found;
                }
                found.insert(format!("{group}/{version}, Kind={}", served.row.kind), served);
            }
        }
    }
    found
}
