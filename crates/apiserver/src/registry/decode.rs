//! From what a client sent to a document in the storage version.

use api::codec::{self, normalise::Unknown};
use api::resource::{api_version, split_api_version};
use api::status::Status;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Call, Served};
use crate::document::Document;
use crate::negotiate::{self, Encoding};
use crate::protobuf;

/// A request's body as a document, with the fields that stand in it twice.
pub(super) struct Body {
    pub(super) value: Value,
    pub(super) duplicates: Vec<String>,
}

/// The object in a request's body, in the storage version, with its defaults.
pub(super) fn object(served: &Served, call: &mut Call) -> Result<Value, Status> {
    let body = document(&call.headers, &call.body)?;
    if !body.value.is_object() {
        return Err(Status::bad_request(cannot_be_handled(served, "it is not an object")));
    }
    typed(served, call, body.value, body.duplicates)
}

/// The options in a `DELETE` body, if there is one.
pub(super) fn delete_options(call: &Call) -> Result<Option<Value>, Status> {
    if call.body.is_empty() {
        return Ok(None);
    }
    document(&call.headers, &call.body).map(|body| Some(body.value))
}

/// A body in the encoding that its headers name.
pub(crate) fn document(headers: &HeaderMap, body: &[u8]) -> Result<Body, Status> {
    match negotiate::body_encoding(headers, true)? {
        Encoding::Yaml => yaml_document(body),
        Encoding::Json => json_document(body),
        Encoding::Protobuf => Ok(Body { value: protobuf::decode(body)?, duplicates: Vec::new() }),
    }
}

pub(super) fn json_document(body: &[u8]) -> Result<Body, Status> {
    let read = api::codec::json::parse(body)
        .map_err(|why| Status::bad_request(format!("the body of the request is not valid JSON: {why}")))?;
    Ok(Body { value: read.value, duplicates: read.duplicates })
}

pub(super) fn yaml_document(body: &[u8]) -> Result<Body, Status> {
    let refuse = |why: &dyn std::fmt::Display| Status::bad_request(format!("error converting YAML to JSON: {why}"));
    let text = std::str::from_utf8(body).map_err(|why| refuse(&why))?;
    let value = api::codec::yaml::parse(text).map_err(|why| refuse(&why))?;
    Ok(Body { value, duplicates: Vec::new() })
}

/// What an object must become before a verb looks at it: of the kind that the path names, in the storage version,
/// canonical and defaulted. Also for what a patch made.
pub(super) fn typed(
    served: &Served,
    call: &mut Call,
    mut object: Value,
    duplicates: Vec<String>,
) -> Result<Value, Status> {
    check_type(served, &object)?;
    let (group, version) = (&served.row.group, &served.version.name);
    object["apiVersion"] = json!(api_version(group, version));
    object["kind"] = json!(served.row.kind);
    object.metadata_mut();
    normalise(served, call, &mut object, duplicates)?;
    to_storage(served, &mut object);
    (served.row.hooks.default)(&mut object);
    Ok(object)
}

/// Canonical values, no unknown fields; what was unknown or doubled is reported as `?fieldValidation=` asks.
fn normalise(served: &Served, call: &mut Call, object: &mut Value, duplicates: Vec<String>) -> Result<(), Status> {
    let Some(model) = &served.model else { return Ok(()) };
    let mut reports = codec::normalise::normalise(object, model, Unknown::Report)
        .map_err(|why| Status::bad_request(cannot_be_handled(served, &why.to_string())))?;
    reports.extend(duplicates);
    if reports.is_empty() {
        return Ok(());
    }
    match call.param("fieldValidation").as_deref() {
        Some("Ignore") => Ok(()),
        Some("Strict") => {
            let said = format!("strict decoding error: {}", reports.join(", "));
            Err(Status::bad_request(cannot_be_handled(served, &said)))
        }
        None | Some("" | "Warn") => {
            call.warnings.extend(reports);
            Ok(())
        }
        Some(other) => Err(Status::bad_request(format!(
            "invalid fieldValidation value \"{other}\": supported values: \"Ignore\", \"Warn\", \"Strict\""
        ))),
    }
}

fn cannot_be_handled(served: &Served, why: &str) -> String {
    let kind = &served.row.kind;
    format!("{kind} in version \"{}\" cannot be handled as a {kind}: {why}", served.version.name)
}

/// The body must be of the kind and version that the path names, or leave them out.
fn check_type(served: &Served, object: &Value) -> Result<(), Status> {
    let sent = object["apiVersion"].as_str().unwrap_or_default();
    let expected = served.api_version();
    let kind = object["kind"].as_str().unwrap_or_default();
    if !kind.is_empty() && kind != served.row.kind {
        let (_, version) = split_api_version(sent);
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: converting ({kind}) to ({}): unknown conversion",
            served.row.kind, served.row.kind,
        )));
    }
    if !sent.is_empty() && sent != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({sent}) does not match the expected API version ({expected})"
        )));
    }
    Ok(())
}

/// Rewrites an object of the served version in the storage version.
pub(super) fn to_storage(served: &Served, object: &mut Value) {
    convert(served, object, &served.api_version(), &served.row.storage_api_version());
}

/// Rewrites a stored object in the served version.
pub(super) fn from_storage(served: &Served, object: &mut Value) {
    convert(served, object, &served.row.storage_api_version(), &served.api_version());
}

fn convert(served: &Served, object: &mut Value, from: &str, to: &str) {
    if from != to {
        (served.row.hooks.convert)(object, from, to);
        object["apiVersion"] = json!(to);
    }
}
