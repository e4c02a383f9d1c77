//! Why a request was refused, in the words clients match on.
//!
//! The HTTP code, the machine-readable reason and the message of each refusal are upstream's
//! (`k8s.io/apimachinery/pkg/api/errors`): client-go branches on the reason, people and scripts on the text.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::validation::quote;

/// A refused request: upstream's `metav1.Status` with `status: Failure`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// `metav1.StatusReason`; empty for those without one. Webhooks and other servers have reasons of their own.
    pub reason: Cow<'static, str>,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// Where an expired list can be gone on with: a `continue` token.
    pub resume: Option<Box<str>>,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The kind, or for most reasons the plural resource.
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

/// One reason among several, at one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// `metav1.CauseType`, such as `FieldValueRequired`.
    pub reason: Cow<'static, str>,
    pub message: String,
    /// The path of the field, such as `spec.containers[0].name`.
    pub field: String,
}

/// The group and plural resource (or kind) that a [`Status`] names: `deployments.apps`.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub group: &'a str,
    pub resource: &'a str,
}

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.group {
            "" => f.write_str(self.resource),
            group => write!(f, "{}.{group}", self.resource),
        }
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: None, resume: None }
    }

    fn about(mut self, subject: Subject<'_>, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = subject.group.to_owned();
        details.kind = subject.resource.to_owned();
        details.name = name.to_owned();
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The object does not exist.
    pub fn not_found(subject: Subject<'_>, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{subject} {} not found", quote(name))).about(subject, name)
    }

    /// No such path, group, version, resource or verb route.
    pub fn path_not_found() -> Self {
        let mut status = Self::new(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// The object exists.
    pub fn already_exists(subject: Subject<'_>, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{subject} {} already exists", quote(name))).about(subject, name)
    }

    /// The object changed since it was read, or a precondition does not hold.
    pub fn conflict(subject: Subject<'_>, name: &str, why: &str) -> Self {
        Self::new(409, "Conflict", format!("Operation cannot be fulfilled on {subject} {}: {why}", quote(name)))
            .about(subject, name)
    }

    /// Server-side apply: other managers own the fields that `causes` name.
    pub fn apply_conflict(causes: Vec<Cause>, message: String) -> Self {
        let mut status = Self::new(409, "Conflict", message);
        status.details = Some(Box::new(Details { causes, ..Details::default() }));
        status
    }

    /// The object breaks rules of its kind. `kind` and `group` name the kind, not the resource.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let subject = Subject { group, resource: kind };
        let mut list: Vec<String> = Vec::with_capacity(causes.len());
        for cause in &causes {
            let said = format!("{}: {}", cause.field, cause.message);
            // What is found twice is said once.
            if !list.contains(&said) {
                list.push(said);
            }
        }
        let said = match list.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut status =
            Self::new(422, "Invalid", format!("{subject} {} is invalid: {said}", quote(name))).about(subject, name);
        status.details.get_or_insert_default().causes = causes;
        status
    }

    /// The request is malformed.
    pub fn bad_request(why: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", why)
    }

    /// No identity could be made out.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The identity may not do this.
    pub fn forbidden(subject: Subject<'_>, name: &str, why: &str) -> Self {
        let message = match (subject.resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{subject} is forbidden: {why}"),
            _ => format!("{subject} {} is forbidden: {why}", quote(name)),
        };
        Self::new(403, "Forbidden", message).about(subject, name)
    }

    /// The resource has no such verb.
    pub fn method_not_supported(subject: Subject<'_>, verb: &str) -> Self {
        Self::new(405, "MethodNotAllowed", format!("{verb} is not supported on resources of kind \"{subject}\""))
            .about(subject, "")
    }

    /// The path exists, but not with this method.
    pub fn method_not_allowed() -> Self {
        let why = "the server does not allow this method on the requested resource";
        let mut status = Self::new(405, "MethodNotAllowed", why);
        status.details = Some(Box::default());
        status
    }

    /// The patch does not fit the object, or its dialect's own rules.
    pub fn unprocessable() -> Self {
        let mut status = Self::new(422, "Invalid", "the server rejected our request due to an error in our request");
        status.details = Some(Box::default());
        status
    }

    /// A fault that upstream gives no reason, for which clients have no branch.
    pub fn unreasoned(why: impl Into<String>) -> Self {
        Self::new(500, "", why)
    }

    /// The path answers in none of the media types that the client takes.
    pub fn no_representation(available: &str) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {available}");
        let mut status = Self::new(406, "NotAcceptable", message);
        status.details = Some(Box::default());
        status
    }

    /// The path takes no body of this media type.
    pub fn unsupported_body() -> Self {
        let mut status = Self::new(415, "UnsupportedMediaType", "415: Unsupported Media Type");
        status.details = Some(Box::default());
        status
    }

    /// None of the encodings that the client takes can be made.
    pub fn not_acceptable(accepted: &str) -> Self {
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {accepted}"))
    }

    /// The object is not of the kind that the view is for.
    pub fn no_such_view(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// The body's encoding cannot be read.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self::new(
            415,
            "UnsupportedMediaType",
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}"),
        )
    }

    /// The revision asked for has been compacted away: list again.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// The revision of a paged list has been compacted away: list again, or go on by `token` with what is there now.
    pub fn expired_page(token: String) -> Self {
        let mut status = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
             the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
             Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
             deleted between the time the first chunk was returned and now may show up in the list.",
        );
        status.resume = Some(token.into());
        status
    }

    /// The body is larger than is read.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// Too many requests: try again later.
    pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Self {
        Self::new(429, "TooManyRequests", message).retry_after(seconds)
    }

    /// The revision asked for has not been reached yet.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let mut status =
            Self::new(504, "Timeout", format!("Timeout: Too large resource version: {asked}, current: {current}"))
                .retry_after(1);
        status.details.get_or_insert_default().causes = vec![Cause {
            reason: "ResourceVersionTooLarge".into(),
            message: "Too large resource version".to_owned(),
            field: String::new(),
        }];
        status
    }

    /// The server met a fault of its own; `why` is for people.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let mut status = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        status.details = Some(Box::new(Details { causes: vec![Cause::plain(why.to_string())], ..Details::default() }));
        status
    }

    /// The server cannot serve this now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message).retry_after(1)
    }

    /// The request ran out of time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", format!("Timeout: {}", message.into())).retry_after(1)
    }

    /// True when this says that an object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    pub fn is_conflict(&self) -> bool {
        self.reason == "Conflict"
    }

    /// A refusal that another server worded.
    pub fn from_json(document: &Value) -> Self {
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let number = |value: &Value, field: &str| value[field].as_u64().unwrap_or_default();
        let cause = |cause: &Value| Cause {
            reason: text(cause, "reason").into(),
            message: text(cause, "message"),
            field: text(cause, "field"),
        };
        let details = document.get("details").filter(|details| details.is_object()).map(|details| {
            Box::new(Details {
                name: text(details, "name"),
                group: text(details, "group"),
                kind: text(details, "kind"),
                uid: text(details, "uid"),
                causes: details["causes"].as_array().into_iter().flatten().map(cause).collect(),
                retry_after_seconds: u32::try_from(number(details, "retryAfterSeconds")).unwrap_or(u32::MAX),
            })
        });
        Self {
            code: u16::try_from(number(document, "code")).ok().filter(|code| *code < 1000).unwrap_or_default(),
            reason: text(document, "reason").into(),
            message: text(document, "message"),
            details,
            resume: document["metadata"]["continue"].as_str().map(Into::into),
        }
    }

    /// The document that goes over the wire.
    pub fn to_json(&self) -> Value {
        let mut doc = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            doc["reason"] = json!(self.reason);
        }
        if let Some(details) = &self.details {
            doc["details"] = details.to_json();
        }
        if let Some(token) = &self.resume {
            doc["metadata"]["continue"] = json!(token);
        }
        doc
    }
}

impl Details {
    fn to_json(&self) -> Value {
        let mut doc = json!({});
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !value.is_empty() {
                doc[key] = json!(value);
            }
        }
        if !self.causes.is_empty() {
            doc["causes"] = self.causes.iter().map(Cause::to_json).collect();
        }
        if self.retry_after_seconds != 0 {
            doc["retryAfterSeconds"] = json!(self.retry_after_seconds);
        }
        doc
    }
}

impl Cause {
    pub fn new(reason: &'static str, message: impl Into<String>, field: impl Into<String>) -> Self {
        Self { reason: reason.into(), message: message.into(), field: field.into() }
    }

    /// One of no known type, at no field.
    pub fn plain(message: impl Into<String>) -> Self {
        Self::new("", message, "")
    }

    fn to_json(&self) -> Value {
        let mut doc = json!({});
        for (key, value) in [("reason", &*self.reason), ("message", &self.message), ("field", &self.field)] {
            if !value.is_empty() {
                doc[key] = json!(value);
            }
        }
        doc
    }
}
