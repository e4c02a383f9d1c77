//! What is told of one request at one of its stages: `audit.k8s.io/v1` Event.

use std::collections::BTreeMap;

use api::validation::quote;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::policy::{Level, Stage};
use crate::authn::User;
use crate::request::RequestInfo;

const NONE: &str = "<none>";
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

/// How events are written to a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Whole, as JSON.
    #[default]
    Json,
    /// In a few words, as before there was `audit.k8s.io`.
    Legacy,
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

    /// [`Self::line`] in either form. A few words always fit; but what is too large as JSON is not told in them either, as
    /// upstream measures.
    pub(super) fn line_as(&self, format: Format, most: Option<usize>) -> Option<Vec<u8>> {
        match format {
            Format::Json => self.line(most),
            Format::Legacy if most.is_some() => self.line(most).map(|_| self.legacy().into_bytes()),
            Format::Legacy => Some(self.legacy().into_bytes()),
        }
    }

    fn legacy(&self) -> String {
        let text = |user: &Value| user["username"].as_str().unwrap_or_default().to_owned();
        let groups = |user: &Value| {
            let groups = user["groups"].as_array().filter(|groups| !groups.is_empty())?;
            Some(groups.iter().filter_map(Value::as_str).map(quote).collect::<Vec<_>>().join(","))
        };
        let or = |said: Option<String>, none: &str| quote(&said.unwrap_or_else(|| none.to_owned()));
        let named = Some(&self.user).filter(|user| !text(user).is_empty());
        let other = self.impersonated_user.as_ref();
        let namespace = self.object_ref.as_ref().map(|object| object.namespace.clone());
        let code = self.response_status.as_ref().map(|status| status["code"].as_u64().unwrap_or_default().to_string());
        format!(
            "{} AUDIT: id={} stage={} ip={} method={} user={} groups={} as={} asgroups={} user-agent={} namespace={} \
             uri={} response=\"{}\"\n",
            self.received,
            quote(&self.id),
            quote(&format!("{:?}", self.stage)),
            or(self.sources.first().cloned(), "<unknown>"),
            quote(self.verb),
            or(named.map(text), NONE),
            or(named.and_then(groups), NONE),
            or(other.map(text), "<self>"),
            or(other.and_then(groups), "<lookup>"),
            quote(&self.user_agent),
            or(namespace.filter(|namespace| !namespace.is_empty()), NONE),
            quote(&self.uri),
            code.as_deref().unwrap_or("<deferred>"),
        )
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn few_words_say_who_asked_for_what_and_what_came_of_it() {
        let info = RequestInfo { verb: "get", path: "/version".to_owned(), ..RequestInfo::default() };
        let mut event = Event::new(Level::Request, "7".to_owned(), &info, &User::new("bob", &["dev", "\"ops\""]));
        event.received = "2026-01-31T10:00:00.5Z".parse().unwrap();
        let bare = "2026-01-31T10:00:00.5Z AUDIT: id=\"7\" stage=\"RequestReceived\" ip=\"<unknown>\" method=\"get\" \
                    user=\"bob\" groups=\"\\\"dev\\\",\\\"\\\\\\\"ops\\\\\\\"\\\"\" as=\"<self>\" asgroups=\"<lookup>\" user-agent=\"\" \
                    namespace=\"<none>\" uri=\"\" response=\"<deferred>\"\n";
        assert_eq!(event.legacy(), bare);
        event.impersonated_user = Some(json!({"username": "zoe", "groups": ["all"]}));
        event.sources = vec!["192.0.2.1".to_owned(), "192.0.2.2".to_owned()];
        event.object_ref = Some(ObjectRef { namespace: "shop".to_owned(), ..ObjectRef::default() });
        event.response_status = Some(json!({"metadata": {}, "code": 403}));
        event.uri = "/version?a=b".to_owned();
        event.user = User::default().info();
        let full = "user=\"<none>\" groups=\"<none>\" as=\"zoe\" asgroups=\"\\\"all\\\"\" user-agent=\"\" namespace=\"shop\" \
                    uri=\"/version?a=b\" response=\"403\"\n";
        assert!(event.legacy().ends_with(full), "{}", event.legacy());
        assert!(event.legacy().contains("ip=\"192.0.2.1\" "));
    }

    #[test]
    fn what_is_too_large_is_not_told_in_few_words_either() {
        let event = Event::new(Level::Request, "7".to_owned(), &RequestInfo::default(), &User::new("bob", &[]));
        assert!(event.line_as(Format::Legacy, Some(1000)).is_some() && event.line_as(Format::Legacy, None).is_some());
        assert_eq!(event.line_as(Format::Legacy, Some(10)), None);
    }
}
