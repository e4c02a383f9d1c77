//! `CertificateApproval`, `CertificateSigning`, `ClusterTrustBundleAttest` and `CertificateSubjectRestriction`: who may
//! speak for a signer, and what nobody may ask of the API server's own.

use std::sync::Weak;

use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use store::BoxFuture;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::{Operation, Plugin, Request};
use crate::authn::MASTERS;
use crate::authz::Attributes;
use crate::server::ApiServer;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
/// Whose certificates name users of the API.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

/// Approving, signing and attesting are rights on the synthetic resource `signers`.
pub struct Signers {
    pub server: Weak<ApiServer>,
    /// The right that this one is about: each is a plugin of its own, which can be left out.
    pub verb: &'static str,
}

/// No certificate makes its bearer an administrator whom RBAC cannot hold.
pub struct CertificateSubjects;

impl Plugin for Signers {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let asked = asked(request).filter(|(verb, ..)| *verb == self.verb);
        Box::pin(async move {
            match asked {
                Some((verb, what, signer)) if !self.allows(request, verb, &signer).await => {
                    Err(request.forbid(&format!("user not permitted to {what} signerName \"{signer}\"")))
                }
                _ => Ok(()),
            }
        })
    }
}

impl Signers {
    /// The right on one signer, or on all of its domain.
    async fn allows(&self, request: &Request, verb: &str, signer: &str) -> bool {
        let Some(server) = self.server.upgrade() else { return false };
        let domain = signer.split('/').next().unwrap_or_default();
        for name in [signer.to_owned(), format!("{domain}/*")] {
            let attributes = Attributes::resource(&request.user, verb, GROUP, "signers", "", &name);
            if server.authorizer.authorize(&attributes).await.allowed {
                return true;
            }
        }
        false
    }
}

/// What the write does in a signer's name: the right's verb, how a refusal says it, and the signer.
fn asked(request: &Request) -> Option<(&'static str, &'static str, String)> {
    if request.group != GROUP {
        return None;
    }
    let (new, old) = (request.object.as_ref()?, request.old.as_ref());
    let signer = |object: &Value| object["spec"]["signerName"].as_str().unwrap_or_default().to_owned();
    match (request.resource.as_str(), request.subresource.as_str(), request.operation) {
        // By the stored request: the name in this one may be changed in the same breath.
        (REQUESTS, "approval", Operation::Update) => Some(("approve", "approve requests with", signer(old?))),
        (REQUESTS, "status", Operation::Update) => {
            let old = old?;
            let changed = |field: &str| new["status"][field] != old["status"][field];
            (changed("certificate") || changed("conditions")).then(|| ("sign", "sign requests with", signer(old)))
        }
        ("clustertrustbundles", "", Operation::Create | Operation::Update) => {
            let changed = old.is_none_or(|old| old["spec"] != new["spec"]);
            (changed && !signer(new).is_empty()).then(|| ("attest", "attest for", signer(new)))
        }
        _ => None,
    }
}

impl Plugin for CertificateSubjects {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let refusal = match &request.object {
            Some(object) if request.operation == Operation::Create && request.is(GROUP, REQUESTS) => refuse(object),
            _ => None,
        };
        Box::pin(async move { refusal.map_or(Ok(()), |why| Err(request.forbid(&why))) })
    }
}

fn refuse(object: &Value) -> Option<String> {
    if object["spec"]["signerName"] != CLIENT_SIGNER {
        return None;
    }
    match organizations(object["spec"]["request"].as_str().unwrap_or_default()) {
        None => Some("failed to parse CSR: PEM block type must be CERTIFICATE REQUEST".to_owned()),
        Some(groups) if groups.iter().any(|group| group == MASTERS) => {
            Some(format!("use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"))
        }
        Some(_) => None,
    }
}

/// The organizations of the subject that a request, PEM in base64, wants certified: its groups.
fn organizations(request: &str) -> Option<Vec<String>> {
    let pem = STANDARD.decode(request).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    if block.label != "CERTIFICATE REQUEST" {
        return None;
    }
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents).ok()?;
    let subject = &parsed.certification_request_info.subject;
    Some(subject.iter_organization().filter_map(|name| name.as_str().ok().map(ToOwned::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Requests in the name of eve, of these organizations.
    const OF_MASTERS: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIak1JR0pBZ0VBTUNjeEZ6QVZCZ05WQkFvTURuTjVjM1JsYlRw\
        dFlYTjBaWEp6TVF3d0NnWURWUVFEREFObApkbVV3V1RBVEJnY3Foa2pPUFFJQkJnZ3Foa2pPUFFNQkJ3TkNBQVNYU2hBTnpzMXcv\
        TjkwcFRHcXBTa0hHb3Q1ClpvSy9zRzBSNFV4K0lXKzdsMlFiMlVnQjhaRHo5RGlKK2RVOTBvdzNwWEhRSmpnM3RaSjU2WkUrS1Y0\
        d29BQXcKQ2dZSUtvWkl6ajBFQXdJRFNRQXdSZ0loQU9zbWZxVGRpY0RFdUdIMDBRSTlWeTg0MldDTXhVYkIwS09xVTRuegpaTU9v\
        QWlFQWc0WkwzeGpXdGd2eE9XUjVxMnpIUm5LMkZtN1F1VkpCMUR3dm1KWXpFZTQ9Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVF\
        U1QtLS0tLQo=";
    const OF_PEOPLE: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWk1JR0JBZ0VBTUI4eER6QU5CZ05WQkFvTUJuQmxiM0JzWlRF\
        TU1Bb0dBMVVFQXd3RFpYWmxNRmt3RXdZSApLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFaG5xVWFzZVpCWWZuak9sOHluOG9R\
        dHpBK0NJbXNISll5dDdXCkJCUExkWlhFcnVZTFFoQXkyQVdzMllFVjdzVlJoc3ZLV2IzVjI5SUF3UnBTVGpMWk1LQUFNQW9HQ0Nx\
        R1NNNDkKQkFNQ0EwY0FNRVFDSUV5bWJRdWtYU2FDUVU0RlcyNmhsdnYyWk1OQmZnOEl3SVZvYys1OFA5TXhBaUIrN1ZSZwpROUpU\
        WWJNUFFiM1ZJVVRDYXZFOENWbXZvWi94bS9qTTI0UWlHZz09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=";

    #[test]
    fn nobody_is_certified_as_a_master() {
        let spec = |signer: &str, request: &str| json!({"spec": {"signerName": signer, "request": request}});
        assert_eq!(refuse(&spec(CLIENT_SIGNER, OF_PEOPLE)), None);
        let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
        assert_eq!(refuse(&spec(CLIENT_SIGNER, OF_MASTERS)).as_deref(), Some(why));
        assert_eq!(refuse(&spec("example.com/own", OF_MASTERS)), None);
        assert!(refuse(&spec(CLIENT_SIGNER, "AAAA")).is_some());
    }
}
