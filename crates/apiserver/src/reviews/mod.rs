//! Questions that are posted, answered and not stored: who is this, may they.

mod access;

use std::sync::Arc;

use api::status::Status;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::authn::serviceaccounts::Verified;
use crate::authn::{Notes, User};
use crate::authz::node::node_of;
use crate::clock;
use crate::document::owned_words;
use crate::registry::posted::{self, SystemFields};
use crate::registry::{Call, Outcome, Served};
use crate::server::ApiServer;
use crate::subresources;

/// Answers a posted review.
pub(crate) async fn handle(server: &ApiServer, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    match (served.row.plural.as_str(), call.verb) {
        ("componentstatuses", _) => return component_statuses(server, served, call).await,
        ("bindings", "create") => return subresources::bind(server, served, call).await,
        (_, "create") => {}
        _ => return Err(Status::method_not_allowed()),
    }
    let review = posted::read(served, call, SystemFields::Wiped)?;
    let mut asked = admission::Request::new(Operation::Create, served, call, call.dry_run()?);
    asked.object = Some(review);
    server.registry.admission.admit(call, &mut asked).await?;
    check(served, asked.object.as_ref().unwrap_or(&Value::Null))?;
    server.registry.admission.validate(call, &asked).await?;
    let mut review = asked.object.take().unwrap_or_default();
    let status = match served.row.plural.as_str() {
        "tokenreviews" => token(server, &review["spec"], call).await,
        "selfsubjectreviews" => json!({"userInfo": call.user.info()}),
        "selfsubjectrulesreviews" => rules(server, &call.user, &review["spec"]),
        "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews" => {
            access::answer(server, served, call, &review).await
        }
        _ => return Err(Status::path_not_found()),
    };
    match served.row.plural.as_str() {
        // These are answered by themselves, not with what was posted.
        "selfsubjectreviews" => review["metadata"] = json!({"creationTimestamp": clock::now()}),
        "selfsubjectrulesreviews" => {
            review["metadata"] = json!({});
            review["spec"] = json!({});
        }
        _ => {}
    }
    review["status"] = status;
    Ok(Outcome::Document { code: 201, document: review })
}

/// What is wrong with a question.
fn check(served: &Served, review: &Value) -> Result<(), Status> {
    let is_empty = |field: &str| review["spec"][field].as_str().unwrap_or_default().is_empty();
    match served.row.plural.as_str() {
        "tokenreviews" if is_empty("token") => {
            Err(Status::bad_request("token is required for TokenReview in authentication"))
        }
        "selfsubjectrulesreviews" if is_empty("namespace") => Err(Status::bad_request("no namespace on request")),
        "selfsubjectaccessreviews" | "subjectaccessreviews" | "localsubjectaccessreviews" => {
            access::check(served, review)
        }
        _ => Ok(()),
    }
}

async fn token(server: &ApiServer, spec: &Value, call: &mut Call) -> Value {
    let token = spec["token"].as_str().unwrap_or_default();
    let audiences = owned_words(&spec["audiences"]);
    let mut notes = Notes::default();
    let found = server.authenticator.token(token, &audiences, &mut notes).await;
    call.warnings.append(&mut notes.warnings);
    call.annotations.append(&mut notes.annotations);
    match found {
        Some(Verified { user, audiences }) => {
            json!({"authenticated": true, "user": user.info(), "audiences": audiences})
        }
        None => json!({"user": {}, "error": "invalid bearer token"}),
    }
}

fn rules(server: &ApiServer, user: &User, spec: &Value) -> Value {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    let mut resources = Vec::new();
    let mut paths = Vec::new();
    let authorizer = &server.authorizer;
    if authorizer.allows_all() {
        resources.push(json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}));
        paths.push(json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
    }
    let (stated, stated_paths) = authorizer.stated_rules(user, namespace);
    resources.extend(stated);
    paths.extend(stated_paths);
    let granted = if authorizer.asks_rbac() { authorizer.rbac.rules(user, namespace) } else { Vec::new() };
    for rule in granted {
        if !rule.non_resource_urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
        if !rule.resources.is_empty() {
            let mut entry = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                entry["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(entry);
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    let mut untold = authorizer.untold_rules();
    if authorizer.asks_node() && node_of(user).is_some() {
        // What a node may do hangs on its Pods.
        untold.insert(0, "node authorizer does not support user rule resolution");
    }
    if !untold.is_empty() {
        status["incomplete"] = json!(true);
        status["evaluationError"] = json!(untold.join(", "));
    }
    status
}

/// What `kubectl get componentstatuses` shows: the parts of the server, which live or die together.
async fn component_statuses(server: &ApiServer, served: &Served, call: &Call) -> Result<Outcome, Status> {
    let (status, message) =
        if server.health.datastore().await.is_ok() { ("True", "ok") } else { ("False", "unhealthy") };
    let item = |name: &str| {
        json!({
            "kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name},
            "conditions": [{"type": "Healthy", "status": status, "message": message}],
        })
    };
    let names = ["controller-manager", "etcd-0", "scheduler"];
    let document = match call.verb {
        "list" => json!({
            "kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {},
            "items": names.iter().map(|name| item(name)).collect::<Vec<_>>(),
        }),
        _ => {
            let name = names.iter().find(|name| **name == call.target.name);
            let object = item(name.ok_or_else(|| Status::not_found(served.subject(), &call.target.name))?);
            return Ok(Outcome::Object { code: 200, object });
        }
    };
    Ok(Outcome::Document { code: 200, document })
}
