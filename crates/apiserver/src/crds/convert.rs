//! Conversion by a webhook (upstream: `apiextensions-apiserver/pkg/apiserver/conversion`).

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use store::BoxFuture;

use crate::document::Document;
use crate::outbound::{Address, Callee, Outbound, client_config};
use crate::registry::versions::Converter;

/// How long a webhook may take, whatever it converts.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who knows how versions become each other.
pub(super) struct Webhook {
    outbound: Arc<Outbound>,
    callee: Result<Callee, String>,
    /// The version of ConversionReview that both know.
    review_version: Option<&'static str>,
}

impl Webhook {
    /// From `spec.conversion.webhook`.
    pub(super) fn read(webhook: &Value, outbound: Arc<Outbound>) -> Self {
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        let known = |version: &Value| match version.as_str()? {
            "v1" => Some("apiextensions.k8s.io/v1"),
            "v1beta1" => Some("apiextensions.k8s.io/v1beta1"),
            _ => None,
        };
        Self { outbound, callee: callee(&webhook["clientConfig"]), review_version: versions.filter_map(known).next() }
    }

    async fn ask(&self, objects: Vec<Value>, to: &str) -> Result<Vec<Value>, Status> {
        let first = objects.first().cloned().unwrap_or_default();
        let kind = |object: &Value| {
            let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
            format!("{}, Kind={}", text("apiVersion"), text("kind"))
        };
        let subject = kind(&first);
        let failed =
            |why: &dyn std::fmt::Display| Status::unreasoned(format!("conversion webhook for {subject} failed: {why}"));
        let callee = self.callee.as_ref().map_err(|why| failed(why))?;
        let version =
            self.review_version.ok_or_else(|| Status::unreasoned("no supported conversion review versions"))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let request = json!({"uid": uid, "desiredAPIVersion": to, "objects": objects});
        let review = json!({"kind": "ConversionReview", "apiVersion": version, "request": request});
        let answer = self.outbound.post_untold(callee, Bytes::from(review.to_string()), PATIENCE).await;
        let answer = answer.map_err(|why| failed(&why))?;
        let converted = converted(version, &uid, &answer).map_err(|why| failed(&why))?;
        if converted.len() != objects.len() {
            return Err(Status::unreasoned(format!(
                "conversion webhook for {subject} returned {} objects, expected {}",
                converted.len(),
                objects.len()
            )));
        }
        let pairs = objects.into_iter().zip(converted).enumerate();
        pairs
            .map(|(index, (original, converted))| {
                restored(original, converted, to).map_err(|why| {
                    Status::unreasoned(format!(
                        "conversion webhook for {subject} returned invalid converted object at index {index}: {why}"
                    ))
                })
            })
            .collect()
    }
}

impl Converter for Webhook {
    fn convert<'a>(&'a self, objects: Vec<Value>, to: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>> {
        Box::pin(self.ask(objects, to))
    }
}

fn callee(config: &Value) -> Result<Callee, String> {
    let address = Address::of(config).map_err(|why| why.to_string())?;
    let authorities = STANDARD.decode(config["caBundle"].as_str().unwrap_or_default());
    let authorities = authorities.map_err(|why| format!("unable to load root certificates: {why}"))?;
    let authorities = if authorities.trim_ascii().is_empty() { &[] } else { authorities.as_slice() };
    let tls = client_config(authorities, None).map_err(|why| why.to_string())?;
    Ok(Callee { address, tls })
}

/// The objects of an answer that is one to the review `uid`.
fn converted(version: &str, uid: &str, answer: &[u8]) -> Result<Vec<Value>, String> {
    let mut review = api::codec::json::foreign(answer).map_err(|why| why.to_string())?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
    let strict = version == "apiextensions.k8s.io/v1";
    if strict && (api_version != version || kind != "ConversionReview") {
        return Err(format!(
            "expected webhook response of {version}, Kind=ConversionReview, got {api_version}, Kind={kind}"
        ));
    }
    let response = &mut review["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    let answered = text(&response["uid"]);
    if strict && answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let (result, why) = (text(&response["result"]["status"]), text(&response["result"]["message"]));
    match (result.as_str(), why.is_empty()) {
        ("Success", _) => {}
        (_, false) => return Err(why),
        (other, true) => return Err(format!("response.result.status was '{other}', not 'Success'")),
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// A converted object with the metadata that no conversion changes: all but labels and annotations.
fn restored(original: Value, mut converted: Value, to: &str) -> Result<Value, String> {
    let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let version = text(&converted, "apiVersion");
    if version != to {
        return Err(format!("invalid groupVersion (expected {to}, received {version})"));
    }
    let (kind, wanted) = (text(&converted, "kind"), text(&original, "kind"));
    if kind != wanted {
        return Err(format!("invalid kind (expected {wanted}, received {kind})"));
    }
    if !converted["metadata"].is_object() {
        return Err("missing metadata in converted object".to_owned());
    }
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (was, is) = (text(&original["metadata"], field), text(&converted["metadata"], field));
        if was != is {
            return Err(format!("must have the same {name}: {was} != {is}"));
        }
    }
    let mut metadata = original["metadata"].clone();
    for field in ["labels", "annotations"] {
        match converted["metadata"].get(field).filter(|map| !map.is_null()) {
            Some(map) => metadata[field] = map.clone(),
            None => drop(metadata.as_object_mut().and_then(|metadata| metadata.remove(field))),
        }
    }
    *converted.metadata_mut() = metadata.as_object().cloned().unwrap_or_default();
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_labels_and_annotations_may_change_beside_the_object() {
        let original = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x", "uid": "u", "labels": {"l": "1"},
            "resourceVersion": "7"}, "host": "h:1"});
        let made = json!({"apiVersion": "a/v2", "kind": "A", "metadata": {"name": "x", "uid": "u", "annotations": {"n": "2"},
            "resourceVersion": "8"}, "host": "h", "port": "1"});
        let expected = json!({"apiVersion": "a/v2", "kind": "A", "metadata": {"name": "x", "uid": "u",
            "annotations": {"n": "2"}, "resourceVersion": "7"}, "host": "h", "port": "1"});
        assert_eq!(restored(original.clone(), made.clone(), "a/v2").unwrap(), expected);
        assert_eq!(
            restored(original.clone(), made.clone(), "a/v3").unwrap_err(),
            "invalid groupVersion (expected a/v3, received a/v2)"
        );
        let mut other = made;
        other["metadata"]["name"] = json!("y");
        assert_eq!(restored(original, other, "a/v2").unwrap_err(), "must have the same name: x != y");
    }

    #[test]
    fn a_failure_is_told_as_the_webhook_says_it() {
        let answer = |response: Value| {
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response})
                .to_string()
        };
        let check = |response: Value, expected: Result<usize, &str>| {
            let outcome = converted("apiextensions.k8s.io/v1", "u", answer(response).as_bytes());
            assert_eq!(outcome.map(|objects| objects.len()), expected.map_err(str::to_owned));
        };
        check(Value::Null, Err("no response provided"));
        check(json!({"uid": "x"}), Err("expected response.uid=\"u\", got \"x\""));
        check(json!({"uid": "u", "result": {"status": "Failure", "message": "no"}}), Err("no"));
        check(json!({"uid": "u"}), Err("response.result.status was '', not 'Success'"));
        check(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}), Ok(1));
    }
}
