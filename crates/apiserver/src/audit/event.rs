//! What is told of one request at one of its stages: `audit.k8s.io/v1` Event.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::policy::{Level, Stage};
use crate::authn::User;
use crate::request::RequestInfo;

pub(super) const TRUNCATED: &str = "audit.k8s.io/truncated";

/// Fields in the order of Go's struct, which is the order of upstream's log.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    kind: &'static str,
    api_version: &'static str,
    pub(super) level: Level,
    #[serde(rename = "auditID")]
    pub(super) id: String,
    pub(super) stage: Stage,
    #[serde(rename = "requestURI")]
    pub(super) uri: String,
    pub(super) verb: &'static str,
    pub(super) user: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authentication_metadata: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub(super) sources: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Box<RawValue>>,
    #[serde(rename = "requestReceivedTimestamp", serialize_with = "microseconds")]
    pub(super) received: Timestamp,
    #[serde(rename = "stageTimestamp", serialize_with = "microseconds")]
    pub(super) reached: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

/// The object that a request is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) subresource: String,
}

impl Event {
    pub(super) fn new(level: Level, id: String, info: &RequestInfo, user: &User) -> Self {
        let now = Timestamp::now();
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            id,
            stage: Stage::RequestReceived,
            uri: String::new(),
            verb: info.verb,
            user: user.info(),
            impersonated_user: None,
            authentication_metadata: None,
            sources: Vec::new(),
            user_agent: String::new(),
            object_ref: info.resource.as_ref().map(|target| ObjectRef {
                resource: target.resource.clone(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                api_group: target.group.clone(),
                api_version: target.version.clone(),
                subresource: target.subresource.clone(),
                ..ObjectRef::default()
            }),
            response_status: None,
            request_object: None,
            response_object: None,
            received: now,
            reached: now,
            annotations: BTreeMap::new(),
        }
    }
}

impl Event {
    /// The event as a line, of at most so many bytes: larger ones lose their objects. `None` if it is too large still.
    pub(super) fn line(&self, most: Option<usize>) -> Option<Vec<u8>> {
        let fits = |line: &Vec<u8>| most.is_none_or(|most| line.len() <= most);
        let line = self.written();
        if fits(&line) {
            return Some(line);
        }
        let mut event = self.clone();
        (event.request_object, event.response_object) = (None, None);
        event.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        Some(event.written()).filter(fits)
    }

    fn written(&self) -> Vec<u8> {
        // Its maps have text for keys: it can always be written.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// `metav1.MicroTime`.
fn microseconds<S: serde::Serializer>(moment: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&moment.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"))
}
