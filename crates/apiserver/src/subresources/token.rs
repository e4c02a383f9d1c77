//! `serviceaccounts/token`: a bound token for an account (KEP-1205).

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::{Cause, Status, Subject};
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::authn::serviceaccounts::{Binding, Bound};
use crate::clock;
use crate::document::owned_words;
use crate::registry::{Call, Outcome, Served, document, record_posted};
use crate::server::ApiServer;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// Answers a posted `TokenRequest`.
pub(super) async fn issue(server: &ApiServer, accounts: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let mut request = document(&call.headers, &call.body)?;
    let key = call.key(true);
    server.registry.caches.reach_current().await;
    let account = accounts
        .cache
        .as_ref()
        .and_then(|cache| cache.get(&key))
        .ok_or_else(|| Status::not_found(accounts.subject(), &key.name))?;

    let mut asked = admission::Request::new(Operation::Create, accounts, call, false);
    asked.object = Some(request);
    server.registry.admission.check(call, &mut asked).await?;
    request = asked.object.unwrap_or_default();

    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!("TokenRequest");
    record_posted(call, &mut request);
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    check_seconds(seconds, &key.name)?;
    let audiences = owned_words(&spec["audiences"]);
    let mut binding = Binding {
        namespace: key.namespace.clone(),
        serviceaccount: Bound { name: key.name.clone(), uid: account.uid.clone() },
        ..Binding::default()
    };
    bind(server, &mut binding, &spec["boundObjectRef"], &key)?;
    let jti = uuid::Uuid::new_v4().to_string();
    let tokens = &server.authenticator.service_accounts;
    let (token, expires) = tokens.issue(binding, &audiences, seconds, jti).map_err(Status::internal)?;

    let owners = request["metadata"]["managedFields"].take();
    request["metadata"] = json!({
        "name": key.name, "namespace": key.namespace, "creationTimestamp": clock::now(), "uid": uuid::Uuid::new_v4().to_string(),
        "managedFields": owners,
    });
    if request["spec"]["boundObjectRef"].is_null() {
        request["spec"]["boundObjectRef"] = Value::Null;
    }
    request["spec"]["expirationSeconds"] = json!(seconds);
    if audiences.is_empty() {
        request["spec"]["audiences"] = json!(tokens.audiences());
    }
    request["status"] = json!({"token": token, "expirationTimestamp": clock::seconds_text(expires)});
    Ok(Outcome::Document { code: 201, document: request })
}

fn check_seconds(seconds: i64, name: &str) -> Result<(), Status> {
    let why = match seconds {
        _ if seconds < MIN_SECONDS => "may not specify a duration less than 10 minutes",
        _ if seconds > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {seconds}: {why}"),
        field: "spec.expirationSeconds".to_owned(),
    };
    Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![cause]))
}

/// Binds the token to the object that the request names, which must be there and be the one meant.
fn bind(server: &ApiServer, binding: &mut Binding, reference: &Value, account: &ObjectKey) -> Result<(), Status> {
    if reference.is_null() {
        return Ok(());
    }
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let (resource, namespace) = match text("kind") {
        "Pod" => ("pods", account.namespace.as_str()),
        "Secret" => ("secrets", account.namespace.as_str()),
        "Node" => ("nodes", ""),
        kind => {
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {}, Kind={kind}",
                text("apiVersion")
            )));
        }
    };
    let subject = Subject { group: "", resource };
    let find = |resource: &str, key: &ObjectKey| {
        let served = server.registry.catalogue.find("", "v1", resource)?;
        served.cache.as_ref()?.get(key)
    };
    let found = find(resource, &ObjectKey::new(namespace, text("name")))
        .ok_or_else(|| Status::not_found(subject, text("name")))?;
    if !text("uid").is_empty() && text("uid") != found.uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(Status::conflict(subject, text("name"), &why));
    }
    let bound = Some(Bound { name: found.key.name.clone(), uid: found.uid.clone() });
    match resource {
        "pods" => {
            let pod = found.to_value();
            if pod["spec"]["serviceAccountName"] != account.name.as_str() {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount \"{}\" to pod running with different serviceaccount name.",
                    account.name
                )));
            }
            let node = pod["spec"]["nodeName"].as_str().and_then(|name| find("nodes", &ObjectKey::new("", name)));
            binding.node = node.map(|node| Bound { name: node.key.name.clone(), uid: node.uid.clone() });
            binding.pod = bound;
        }
        "secrets" => binding.secret = bound,
        _ => binding.node = bound,
    }
    Ok(())
}
