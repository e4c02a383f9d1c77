//! What is to be done about a request, and how long it is kept.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;
use x509_parser::prelude::{FromDer, X509Certificate, parse_x509_pem};

use super::request::Requested;
use super::requested;

const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long certificates last, and how short they may be asked to.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
const SHORTEST: Duration = Duration::from_secs(600);

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Sign {
        pem: String,
        usages: Vec<String>,
        lifetime: Duration,
    },
    /// The request is not what its signer signs.
    Fail(String),
}

pub(super) fn signer(request: &Value) -> &str {
    request["spec"]["signerName"].as_str().unwrap_or_default()
}

fn condition<'a>(request: &'a Value, kind: &str) -> Option<&'a Value> {
    request["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

fn has_certificate(request: &Value) -> bool {
    request["status"]["certificate"].as_str().is_some_and(|text| !text.is_empty())
}

/// Whether somebody has decided about it.
pub(super) fn is_settled(request: &Value) -> bool {
    has_certificate(request) || condition(request, "Approved").is_some() || condition(request, "Denied").is_some()
}

fn usages(request: &Value) -> Vec<String> {
    let usages = request["spec"]["usages"].as_array().into_iter().flatten();
    usages.filter_map(|usage| usage.as_str().map(str::to_owned)).collect()
}

/// The rights of which any is enough for a request to be approved, and what is said then.
pub(super) fn approvals(request: &Value, asked: &Requested) -> Vec<(&'static str, &'static str)> {
    if signer(request) != KUBELET_CLIENT || asked.check_kubelet_client(&usages(request)).is_err() {
        return Vec::new();
    }
    let own = request["spec"]["username"] == asked.common_name;
    let for_itself =
        own.then_some(("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."));
    let for_any = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    for_itself.into_iter().chain([for_any]).collect()
}

/// What a signer of this cluster does with a request; `None` if it is not approved, done, or another signer's.
pub(super) fn step(request: &Value) -> Option<Step> {
    let is_true = |kind| condition(request, kind).is_some_and(|it| it["status"].as_str().is_none_or(|it| it == "True"));
    let known = [KUBELET_CLIENT, KUBELET_SERVING, CLIENT, LEGACY].contains(&signer(request));
    if !known || has_certificate(request) || !is_true("Approved") || is_true("Denied") || is_true("Failed") {
        return None;
    }
    let (pem, asked) = requested(request)?;
    let usages = usages(request);
    let checked = match signer(request) {
        KUBELET_CLIENT => asked.check_kubelet_client(&usages),
        KUBELET_SERVING => asked.check_kubelet_serving(&usages),
        CLIENT => check_client(&usages),
        _ => Ok(()),
    };
    let lifetime = request["spec"]["expirationSeconds"].as_u64().map(Duration::from_secs);
    Some(match checked {
        Err(why) => Step::Fail(why),
        Ok(()) => Step::Sign { pem, usages, lifetime: lifetime.map_or(LONGEST, |it| it.clamp(SHORTEST, LONGEST)) },
    })
}

fn check_client(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(usage) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {usage}"));
    }
    match usages.iter().any(|usage| usage == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

/// How long a request is kept; `None` if nothing says when it ends.
pub(super) fn left(request: &Value, now: Timestamp) -> Option<Duration> {
    let issued = has_certificate(request);
    // What ends after all of time does not end.
    let since = |moment: &Value, kept: Duration| moment.as_str()?.parse::<Timestamp>().ok()?.checked_add(kept).ok();
    let of = |kind, kept| condition(request, kind).and_then(|condition| since(&condition["lastUpdateTime"], kept));
    let untouched = request["status"]["conditions"].as_array().is_none_or(Vec::is_empty);
    let ends = [
        of("Approved", if issued { HOUR } else { DAY }),
        of("Denied", HOUR),
        of("Failed", HOUR),
        if untouched { since(&request["metadata"]["creationTimestamp"], DAY) } else { None },
        if issued { certificate_end(request) } else { None },
    ];
    let end = ends.into_iter().flatten().min()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

/// When the certificate that was made is no longer good.
fn certificate_end(request: &Value) -> Option<Timestamp> {
    let pem = STANDARD.decode(request["status"]["certificate"].as_str()?).ok()?;
    let (_, block) = parse_x509_pem(&pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&block.contents).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_kubelets_are_approved_unseen() {
        let asked = Requested {
            common_name: "system:node:n".into(),
            organizations: vec!["system:nodes".into()],
            ..Requested::default()
        };
        let request = |signer: &str, user: &str| json!({"spec": {"signerName": signer, "username": user, "usages": ["digital signature", "client auth"]}});
        let rights = |request: Value| approvals(&request, &asked).iter().map(|it| it.0).collect::<Vec<_>>();
        assert_eq!(rights(request(KUBELET_CLIENT, "system:node:n")), ["selfnodeclient", "nodeclient"]);
        assert_eq!(rights(request(KUBELET_CLIENT, "system:bootstrap:abcdef")), ["nodeclient"]);
        assert!(rights(request(CLIENT, "system:node:n")).is_empty());
    }

    #[test]
    fn requests_are_kept_as_long_as_somebody_may_want_them() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let check = |status: Value, expected: Option<u64>| {
            let request = json!({"metadata": {"creationTimestamp": "2026-01-01T12:00:00Z"}, "status": status});
            assert_eq!(left(&request, now), expected.map(Duration::from_secs), "{status}");
        };
        let condition = |kind: &str, at: &str| json!([{"type": kind, "lastUpdateTime": at}]);
        check(json!({}), Some(12 * 3600));
        check(json!({"conditions": condition("Approved", "2026-01-01T23:30:00Z")}), Some(23 * 3600 + 1800));
        check(json!({"conditions": condition("Approved", "2026-01-01T23:30:00Z"), "certificate": "x"}), Some(1800));
        check(json!({"conditions": condition("Denied", "2026-01-01T22:00:00Z")}), Some(0));
        check(json!({"conditions": condition("Failed", "2026-01-01T23:59:00Z")}), Some(3540));
        check(json!({"conditions": condition("Other", "2026-01-01T00:00:00Z")}), None);
    }

    #[test]
    fn clients_may_only_be_clients() {
        let usages = |list: &[&str]| list.iter().map(|&usage| usage.to_owned()).collect::<Vec<_>>();
        assert_eq!(check_client(&usages(&["client auth", "digital signature"])), Ok(()));
        assert_eq!(
            check_client(&usages(&["digital signature"])).unwrap_err(),
            "missing required usage for client certificate: client auth"
        );
        assert_eq!(
            check_client(&usages(&["server auth"])).unwrap_err(),
            "invalid usage for client certificate: server auth"
        );
    }
}
