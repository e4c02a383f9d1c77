//! What a webhook is asked, and what it must answer: `admission.k8s.io/v1` AdmissionReview.

use std::collections::BTreeMap;

use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// The versions of AdmissionReview that are spoken. They differ in how much an answer must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1Beta1,
}

/// What a webhook answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// A JSON patch of the object.
    pub(super) patch: Option<Value>,
    /// The Status that explains a refusal.
    pub(super) result: Value,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: BTreeMap<String, String>,
}

impl ReviewVersion {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1Beta1),
            _ => None,
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The document that a webhook is sent.
pub(super) fn review(
    version: ReviewVersion,
    uid: &str,
    mut request: Value,
    object: Option<Value>,
    old: Option<Value>,
) -> Value {
    request["uid"] = json!(uid);
    request["object"] = object.unwrap_or_default();
    request["oldObject"] = old.unwrap_or_default();
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
}

/// Reads what a webhook answered to the review `uid`; the error says what is wrong with it.
pub(super) fn verdict(version: ReviewVersion, uid: &str, mutating: bool, answer: &[u8]) -> Result<Verdict, String> {
    let review: Value = serde_json::from_slice(answer).map_err(|why| why.to_string())?;
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if version == ReviewVersion::V1 {
        let answered = text(&response["uid"]);
        if answered != uid {
            return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
        }
        let (api_version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
        if api_version != version.api_version() || kind != "AdmissionReview" {
            return Err(format!(
                "expected webhook response of {}, Kind=AdmissionReview, got {api_version}, Kind={kind}",
                version.api_version()
            ));
        }
    }
    let list = response["warnings"].as_array().into_iter().flatten();
    let annotations = response["auditAnnotations"].as_object().into_iter().flatten();
    Ok(Verdict {
        allowed: response["allowed"].as_bool().unwrap_or(false),
        patch: patch(version, mutating, response)?,
        result: response["status"].clone(),
        warnings: list.map(text).collect(),
        annotations: annotations.map(|(key, value)| (key.clone(), text(value))).collect(),
    })
}

fn patch(version: ReviewVersion, mutating: bool, response: &Value) -> Result<Option<Value>, String> {
    let encoded = response["patch"].as_str().filter(|patch| !patch.is_empty());
    let kind = response["patchType"].as_str();
    let refuse = |why: &str| Err(why.to_owned());
    match (version, mutating) {
        (ReviewVersion::V1Beta1, false) => return Ok(None),
        (ReviewVersion::V1, false) if encoded.is_some() => {
            return refuse("validating webhook may not return response.patch");
        }
        (ReviewVersion::V1, false) if kind.is_some() => {
            return refuse("validating webhook may not return response.patchType");
        }
        (ReviewVersion::V1, true) => match (encoded, kind) {
            (Some(_), None) => return refuse("webhook returned response.patch but not response.patchType"),
            (None, Some(_)) => return refuse("webhook returned response.patchType but not response.patch"),
            (_, Some("")) => return refuse("webhook returned invalid response.patchType of \"\""),
            (_, Some(other)) if other != "JSONPatch" => return Err(format!("unsupported patch type {other:?}")),
            _ => {}
        },
        _ => {}
    }
    let Some(encoded) = encoded else { return Ok(None) };
    let undecodable = |why: &dyn std::fmt::Display| format!("received undecodable patch in webhook response: {why}");
    let bytes = STANDARD.decode(encoded).map_err(|why| undecodable(&why))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|why| undecodable(&why))
}

/// The refusal that a client sees, of the Status that a webhook answered.
pub(super) fn denial(webhook: &str, result: &Value) -> Status {
    let mut status = Status::from_json(result);
    status.code = status.code.max(400);
    let said = [status.message.as_str(), &status.reason].into_iter().find(|text| !text.is_empty());
    status.message = match said {
        Some(said) => format!("admission webhook {webhook:?} denied the request: {said}"),
        None => format!("admission webhook {webhook:?} denied the request without explanation"),
    };
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn an_answer_must_be_to_the_question() {
        let check = |mutating: bool, response: Value, expected: &str| {
            let why = verdict(ReviewVersion::V1, "u", mutating, &answer(response.clone())).unwrap_err();
            assert_eq!(why, expected, "{response}");
        };
        check(true, Value::Null, "webhook response was absent");
        check(true, json!({"uid": "x"}), "expected response.uid=\"u\", got \"x\"");
        check(false, json!({"uid": "u", "patch": "W10="}), "validating webhook may not return response.patch");
        check(
            false,
            json!({"uid": "u", "patchType": "JSONPatch"}),
            "validating webhook may not return response.patchType",
        );
        check(true, json!({"uid": "u", "patch": "W10="}), "webhook returned response.patch but not response.patchType");
        check(true, json!({"uid": "u", "patch": "W10=", "patchType": "Merge"}), "unsupported patch type \"Merge\"");
        let kind = json!({"apiVersion": "v1", "kind": "Pod", "response": {"uid": "u"}}).to_string();
        assert_eq!(
            verdict(ReviewVersion::V1, "u", true, kind.as_bytes()).unwrap_err(),
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got v1, Kind=Pod"
        );
        assert!(verdict(ReviewVersion::V1, "u", true, b"<html>").is_err());
    }

    #[test]
    fn an_answer_is_read() {
        let patch = STANDARD.encode(r#"[{"op":"remove","path":"/a"}]"#);
        let response = json!({
            "uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch", "warnings": ["careful"],
            "auditAnnotations": {"a": "b"},
        });
        let read = verdict(ReviewVersion::V1, "u", true, &answer(response)).unwrap();
        assert_eq!(read.patch, Some(json!([{"op": "remove", "path": "/a"}])));
        assert_eq!((read.allowed, read.warnings.len(), read.annotations.len()), (true, 1, 1));
    }

    #[test]
    fn a_denial_says_all_that_the_webhook_did() {
        let result = json!({
            "status": "Success", "message": "no", "reason": "it is Monday", "code": 451,
            "details": {"name": "a", "group": "g", "kind": "k", "uid": "u", "retryAfterSeconds": 7, "causes": [
                {"reason": "Calendar", "message": "see there", "field": "spec.day"},
            ]},
        });
        let told = denial("deny.example.com", &result).to_json();
        assert_eq!(
            (&told["status"], &told["reason"], &told["code"]),
            (&json!("Failure"), &result["reason"], &json!(451))
        );
        assert_eq!(told["details"], result["details"]);
    }

    #[test]
    fn a_denial_has_upstreams_words() {
        let check = |result: Value, code: u16, message: &str| {
            let status = denial("deny.example.com", &result);
            assert_eq!((status.code, status.message.as_str()), (code, message), "{result}");
        };
        check(Value::Null, 400, "admission webhook \"deny.example.com\" denied the request without explanation");
        check(
            json!({"message": "no", "code": 403, "reason": "Forbidden"}),
            403,
            "admission webhook \"deny.example.com\" denied the request: no",
        );
        check(
            json!({"reason": "it is Monday", "code": 200}),
            400,
            "admission webhook \"deny.example.com\" denied the request: it is Monday",
        );
    }
}
