//! The options of reads and deletions, from the query or a `DeleteOptions` body.

use api::object::ObjectKey;
use api::selector::field::FieldSelector;
use api::selector::label::LabelSelector;
use api::status::{Cause, Status};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Call, Served};
use crate::cache::Filter;
use crate::request::truthy;

/// What a list or watch asks for.
#[derive(Debug)]
pub(super) struct ReadOptions {
    pub filter: Filter,
    /// As sent: absent, `0`, or a revision.
    pub revision: Option<u64>,
    pub revision_match: RevisionMatch,
    pub limit: usize,
    pub resume: Option<Resume>,
    pub bookmarks: bool,
    /// A watch begins with what is there.
    pub initial_events: Option<bool>,
    pub timeout_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RevisionMatch {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
}

/// Where a paged list goes on: the content of its `continue` token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resume {
    #[serde(rename = "rv")]
    pub revision: u64,
    /// The last object that was returned.
    #[serde(rename = "ns", default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(rename = "n")]
    pub name: String,
}

/// How a deletion is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub orphan_dependents: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl ReadOptions {
    pub(super) fn parse(served: &Served, call: &Call) -> Result<Self, Status> {
        let text = |key: &str| call.param(key).filter(|value| !value.is_empty());
        let labels = LabelSelector::parse(&text("labelSelector").unwrap_or_default())
            .map_err(|why| Status::bad_request(format!("unable to parse requirement: {why}")))?;
        let fields = FieldSelector::parse(&text("fieldSelector").unwrap_or_default())
            .map_err(|why| Status::bad_request(why.to_string()))?;
        let namespace =
            (served.row.namespaced && !call.target.namespace.is_empty()).then(|| call.target.namespace.clone());
        let filter = Filter::new(namespace, labels, &fields, &served.row.selectable)
            .map_err(|field| Status::bad_request(format!("field label not supported: {field}")))?;
        let options = Self {
            filter,
            revision: text("resourceVersion").map(|value| parse_revision(&value)).transpose()?,
            revision_match: parse_match(text("resourceVersionMatch").as_deref())?,
            limit: text("limit").and_then(|value| value.parse().ok()).unwrap_or(0),
            resume: text("continue").map(|token| Resume::parse(&token)).transpose()?,
            bookmarks: truthy(call.param("allowWatchBookmarks")),
            initial_events: call.param("sendInitialEvents").map(|value| truthy(Some(value))),
            timeout_seconds: text("timeoutSeconds").and_then(|value| value.parse().ok()),
        };
        options.check(call)?;
        Ok(options)
    }

    /// Upstream's `ValidateListOptions`.
    fn check(&self, call: &Call) -> Result<(), Status> {
        let mut causes = Vec::new();
        let mut forbid = |field: &str, why: &str| {
            causes.push(Cause {
                reason: "FieldValueForbidden",
                message: format!("Forbidden: {why}"),
                field: field.to_owned(),
            });
        };
        let watching = call.verb == "watch";
        let matched = self.revision_match != RevisionMatch::Unset;
        if watching && self.initial_events.is_none() && matched {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        if watching && self.initial_events.is_some() && self.revision_match != RevisionMatch::NotOlderThan {
            forbid("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
        }
        if !watching && self.initial_events.is_some() {
            forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if !watching && matched {
            if self.revision.is_none() {
                forbid("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if self.resume.is_some() {
                forbid("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided");
            }
            if self.revision_match == RevisionMatch::Exact && self.revision == Some(0) {
                forbid("resourceVersionMatch", "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
        }
        if causes.is_empty() {
            return Ok(());
        }
        Err(Status::invalid("meta.k8s.io", "ListOptions", "", causes))
    }
}

fn parse_revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        let message = format!("Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax");
        let cause = Cause { reason: "FieldValueInvalid", message, field: "resourceVersion".to_owned() };
        Status::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
    })
}

fn parse_match(text: Option<&str>) -> Result<RevisionMatch, Status> {
    match text {
        None => Ok(RevisionMatch::Unset),
        Some("Exact") => Ok(RevisionMatch::Exact),
        Some("NotOlderThan") => Ok(RevisionMatch::NotOlderThan),
        Some(other) => {
            let message = format!("Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\"");
            let cause = Cause { reason: "FieldValueNotSupported", message, field: "resourceVersionMatch".to_owned() };
            Err(Status::invalid("meta.k8s.io", "ListOptions", "", vec![cause]))
        }
    }
}

impl Resume {
    fn parse(token: &str) -> Result<Self, Status> {
        let bad = || Status::bad_request("continue key is not valid: the token is not one that this server made");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?).map_err(|_| bad())
    }

    pub(super) fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!(self).to_string())
    }

    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.as_str(), self.name.as_str())
    }
}

impl DeleteOptions {
    /// From the body, or where there is none from the query.
    pub fn parse(call: &Call, body: Option<&Value>) -> Result<Self, Status> {
        let text = |key: &str| match body {
            Some(body) => body[key].as_str().map(str::to_owned),
            None => call.param(key).filter(|value| !value.is_empty()),
        };
        let number = |key: &str| match body {
            Some(body) => body[key].as_i64(),
            None => call.param(key).and_then(|value| value.parse().ok()),
        };
        let propagation = match text("propagationPolicy").as_deref() {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => return Err(unsupported_policy(other)),
        };
        let precondition = |key: &str| body.and_then(|body| body["preconditions"][key].as_str()).map(str::to_owned);
        let dry_run_body = body.is_some_and(|body| body["dryRun"].as_array().is_some_and(|list| !list.is_empty()));
        Ok(Self {
            grace_period_seconds: number("gracePeriodSeconds"),
            propagation,
            orphan_dependents: match body {
                Some(body) => body["orphanDependents"].as_bool(),
                None => call.param("orphanDependents").map(|value| truthy(Some(value))),
            },
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run: dry_run_body || call.dry_run()?,
        })
    }
}

fn unsupported_policy(policy: &str) -> Status {
    let supported = "supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"";
    let cause = Cause {
        reason: "FieldValueNotSupported",
        message: format!("Unsupported value: \"{policy}\": {supported}"),
        field: "propagationPolicy".to_owned(),
    };
    Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![cause])
}
