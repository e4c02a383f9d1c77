//! What requests for certificates need beyond pure rules: a signature that holds, and a clock.
//!
//! Upstream does both in the kind's strategy (`pkg/registry/certificates/certificates`).

use api::status::{Cause, Status};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use store::BoxFuture;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Operation, Plugin, Request};
use crate::clock;

const GROUP: &str = "certificates.k8s.io";
const RESOURCE: &str = "certificatesigningrequests";

pub struct SigningRequests;

impl Plugin for SigningRequests {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        let written = matches!(request.subresource.as_str(), "status" | "approval");
        if is_ours(request)
            && written
            && let Some(object) = &mut request.object
        {
            stamp(object, request.old.as_ref(), &clock::now());
        }
        Box::pin(async { Ok(()) })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let checked = match &request.object {
            Some(object) if is_ours(request) && request.operation == Operation::Create => check_signature(object)
                .map_err(|why| {
                    let cause = Cause {
                        reason: "FieldValueInvalid".into(),
                        message: format!("Invalid value: {}: {why}", object["spec"]["request"]),
                        field: "spec.request".to_owned(),
                    };
                    Status::invalid(GROUP, &request.kind, &request.name, vec![cause])
                }),
            _ => Ok(()),
        };
        Box::pin(async { checked })
    }
}

fn is_ours(request: &Request) -> bool {
    request.group == GROUP && request.resource == RESOURCE
}

/// A condition says when it was last seen, and since when it holds; who sets it may leave both to the server.
fn stamp(object: &mut Value, old: Option<&Value>, now: &str) {
    let before = old.and_then(|old| old["status"]["conditions"].as_array()).map_or(&[][..], Vec::as_slice);
    let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else { return };
    for condition in conditions {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = json!(now);
        }
        if condition["lastTransitionTime"].is_null() {
            let same = |was: &&Value| was["type"] == condition["type"] && was["status"] == condition["status"];
            let since = before.iter().filter(same).map(|was| &was["lastTransitionTime"]).find(|time| !time.is_null());
            condition["lastTransitionTime"] = since.cloned().unwrap_or_else(|| json!(now));
        }
    }
}

/// That the request is signed with the key that it asks a certificate for.
fn check_signature(object: &Value) -> Result<(), String> {
    let pem = STANDARD.decode(object["spec"]["request"].as_str().unwrap_or_default()).map_err(|why| why.to_string())?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).map_err(|why| why.to_string())?;
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|why| why.to_string())?;
    request.verify_signature().map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_the_time_at_which_it_began() {
        let condition = |kind: &str| json!({"type": kind, "status": "True"});
        let old =
            json!({"status": {"conditions": [{"type": "Approved", "status": "True", "lastTransitionTime": "then"}]}});
        let mut new = json!({"status": {"conditions": [condition("Approved"), condition("Ready")]}});
        stamp(&mut new, Some(&old), "now");
        let conditions = &new["status"]["conditions"];
        assert_eq!(conditions[0]["lastTransitionTime"], "then");
        assert_eq!(conditions[0]["lastUpdateTime"], "now");
        assert_eq!(conditions[1]["lastTransitionTime"], "now");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let pem = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert!(check_signature(&json!({"spec": {"request": STANDARD.encode(pem)}})).is_err());
        assert!(check_signature(&json!({"spec": {}})).is_err());
    }
}
