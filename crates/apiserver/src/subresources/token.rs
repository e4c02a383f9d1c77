//! `serviceaccounts/token`: a bound token for an account (KEP-1205).

use std::sync::Arc;

use api::field_path::Path;
use api::object::ObjectKey;
use api::resource::split_api_version;
use api::status::{Status, Subject};
use api::validation::Errors;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::authn::serviceaccounts::{Binding, Bound};
use crate::clock;
use crate::document::{Document, owned_words};
use crate::registry::posted::{self, SystemFields, TOKEN_REQUEST};
use crate::registry::{Call, Outcome, Served};
use crate::server::ApiServer;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;

/// Answers a posted `TokenRequest`.
pub(super) async fn issue(server: &ApiServer, accounts: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let request = posted::read(&TOKEN_REQUEST, call, SystemFields::Kept)?;
    let key = call.key(true);
    let mut asked = admission::Request::new(Operation::Create, accounts, call, call.dry_run()?);
    asked.object = Some(request);
    server.registry.admission.admit(call, &mut asked).await?;
    let request = asked.object.as_mut().ok_or_else(|| Status::internal("a token request was lost in admission"))?;
    check_place(request, &key)?;
    server.registry.caches.reach_current().await;
    let account = accounts
        .cache
        .as_ref()
        .and_then(|cache| cache.get(&key))
        .ok_or_else(|| Status::not_found(accounts.subject(), &key.name))?;
    let uid = request.uid();
    if !uid.is_empty() && uid != account.uid {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            account.uid
        );
        return Err(Status::conflict(Subject { group: GROUP, resource: KIND }, &key.name, &why));
    }
    let tokens = &server.authenticator.service_accounts;
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!(tokens.audiences());
    }
    request.set_meta("name", json!(key.name));
    request.set_meta("uid", json!(account.uid));
    request.set_meta("creationTimestamp", json!(clock::now()));
    request["status"] = json!({"token": "", "expirationTimestamp": null});
    let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or_default();
    check_seconds(seconds)?;
    server.registry.admission.validate(call, &asked).await?;

    let mut request = asked.object.unwrap_or_default();
    let seconds = match server.tokens.longest {
        Some(longest) if seconds > longest => {
            let why = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
            call.warnings.push(why);
            request["spec"]["expirationSeconds"] = json!(longest);
            longest
        }
        _ => seconds,
    };
    let spec = &request["spec"];
    let audiences = owned_words(&spec["audiences"]);
    let mut binding = Binding {
        namespace: key.namespace.clone(),
        serviceaccount: Bound { name: key.name.clone(), uid: account.uid.clone() },
        ..Binding::default()
    };
    bind(server, &mut binding, &spec["boundObjectRef"], &key)?;
    let life = server.tokens.life(seconds, binding.pod.is_some(), &audiences, tokens.audiences());
    let jti = uuid::Uuid::new_v4().to_string();
    let (token, expires) = tokens.issue(binding, &audiences, life, jti).map_err(Status::internal)?;
    request["status"] = json!({"token": token, "expirationTimestamp": clock::seconds_text(expires)});
    Ok(Outcome::Document { code: 201, document: request })
}

/// A request that says whose token it asks for says so rightly.
fn check_place(request: &Value, account: &ObjectKey) -> Result<(), Status> {
    let path = Path::root("metadata");
    for (field, is, why) in [
        ("name", &account.name, "must match the service account name if specified"),
        ("namespace", &account.namespace, "must match the service account namespace if specified"),
    ] {
        let stated = request.meta(field);
        if !stated.is_empty() && stated != is.as_str() {
            let mut errors = Errors::new();
            errors.invalid(&path.child(field), stated, why);
            return errors.into_result(GROUP, KIND, &account.name);
        }
    }
    Ok(())
}

fn check_seconds(seconds: i64) -> Result<(), Status> {
    let path = Path::root("spec");
    let path = path.child("expirationSeconds");
    let mut errors = Errors::new();
    if seconds < MIN_SECONDS {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > MAX_SECONDS {
        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    errors.into_result(GROUP, KIND, "")
}

/// Binds the token to the object that the request names, which must be there and be the one meant.
fn bind(server: &ApiServer, binding: &mut Binding, reference: &Value, account: &ObjectKey) -> Result<(), Status> {
    if reference.is_null() {
        return Ok(());
    }
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    let (group, version) = split_api_version(text("apiVersion"));
    let (resource, namespace) = match (group, text("kind")) {
        ("", "Pod") => ("pods", account.namespace.as_str()),
        ("", "Secret") => ("secrets", account.namespace.as_str()),
        ("", "Node") => ("nodes", ""),
        (_, kind) => {
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(why));
        }
    };
    let subject = Subject { group: "", resource };
    let find = |resource: &str, key: &ObjectKey| {
        let served = server.registry.catalogue.find("", "v1", resource)?;
        served.cache.as_ref()?.get(key)
    };
    if text("name").is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let found = find(resource, &ObjectKey::new(namespace, text("name")))
        .ok_or_else(|| Status::not_found(subject, text("name")))?;
    let check_uid = || {
        if text("uid").is_empty() || text("uid") == found.uid {
            return Ok(());
        }
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        Err(Status::conflict(Subject { group, resource: text("kind") }, text("name"), &why))
    };
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
    check_uid()
}
