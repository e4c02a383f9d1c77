//! A kubelet's client certificate is approved if its author may have one: for himself, or for any node.

use api::object::Entry;
use api::resource::GroupVersionResource;
use client::reconcile::Action;
use client::typed::resource_of;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

use super::{plan, requested};
use crate::{ReconcileError, Session};

pub(super) async fn reconcile(session: &Session, entry: &Entry) -> Result<Action, ReconcileError> {
    let request = entry.to_value();
    if plan::is_settled(&request) {
        return Ok(Action::Done);
    }
    let Some((_, asked)) = requested(&request) else { return Ok(Action::Done) };
    for (right, message) in plan::approvals(&request, &asked) {
        if !is_allowed(session, &request["spec"], right).await? {
            continue;
        }
        let mut conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.push(json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message}));
        let change = json!({"status": {"conditions": conditions}});
        let resource = resource_of::<CertificateSigningRequest>();
        session.requests.edit(&resource, entry, Some("approval"), &change).await?;
        break;
    }
    Ok(Action::Done)
}

async fn is_allowed(session: &Session, spec: &Value, right: &str) -> Result<bool, ReconcileError> {
    let reviews = GroupVersionResource {
        group: "authorization.k8s.io".to_owned(),
        version: "v1".to_owned(),
        resource: "subjectaccessreviews".to_owned(),
    };
    let mut asked = json!({"resourceAttributes": {
        "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
        "subresource": right, "version": "*",
    }});
    for (field, of) in [("user", "username"), ("uid", "uid"), ("groups", "groups"), ("extra", "extra")] {
        if !spec[of].is_null() {
            asked[field] = spec[of].clone();
        }
    }
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": asked});
    let answer = session.requests.create(&reviews, "", &review).await?;
    Ok(answer["status"]["allowed"] == true)
}
