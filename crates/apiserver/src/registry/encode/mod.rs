//! From what a verb came to, to the bytes that a client asked for.
//!
//! Objects in the storage version go out as JSON by copying what the cache holds; every other encoding, version
//! or view starts from the document. Lists are written while they are read ([`list`]), watches while they last ([`watch`]).

use std::sync::Arc;
use std::time::Duration;

use api::object::Entry;
use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::{Outcome, Served, decode, versions};
use crate::negotiate::{Encoding, Negotiated, View};
use crate::response::{self, Response};
use crate::{negotiate, protobuf, table};

mod list;
mod watch;

/// The answer that carries `outcome`; the client gets it in `most`, unless it asked for less time.
pub async fn answer(
    served: &Arc<Served>,
    outcome: Outcome,
    asked: Negotiated,
    query: &str,
    most: Duration,
) -> Result<Response, Status> {
    match outcome {
        Outcome::Entry { entry, code } if asked.is_copied() && served.is_written_as_shown() => {
            Ok(copied(code, &*versions::shown_entry(served, &entry).await?))
        }
        Outcome::Entry { entry, code } if asked.is_whole_protobuf() => match kind_of(served) {
            Some(kind) => {
                let bytes = kind.alone(&versions::message(served, &kind, &entry));
                Ok(response::bytes(status_code(code), Encoding::Protobuf.media_type(), bytes))
            }
            None => one(served, code, versions::working(served, &entry).await?, asked, query),
        },
        Outcome::Entry { code, entry } => {
            let object = versions::working(served, &entry).await?;
            one(served, code, object, asked, query)
        }
        Outcome::Object { code, object } => one(served, code, object, asked, query),
        Outcome::List(list) => list::answer(served, list, asked, query, most).await,
        Outcome::Watch(watch) => Ok(watch::answer(served.clone(), *watch, asked, query)),
        Outcome::Document { code, document } => document_answer(served, code, document, asked, query),
    }
}

/// The kind of a built-in resource's objects in protobuf.
fn kind_of(served: &Served) -> Option<protobuf::Kind> {
    protobuf::Kind::find(&served.api_version(), &served.row.kind).filter(|_| served.custom.is_none())
}

/// A refusal in the encoding that the client takes.
pub fn refusal(status: &Status, accept: Option<&HeaderValue>) -> Response {
    let mut answer = response::refusal(status);
    let encoding = negotiate::of_refusal(accept);
    let body = match encoding {
        Encoding::Json => None,
        Encoding::Yaml => yaml(&status.to_json()).ok(),
        Encoding::Protobuf => protobuf::encode(&status.to_json()).map(Bytes::from),
    };
    if let Some(body) = body {
        *answer.body_mut() = response::full(body);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    }
    answer
}

impl Negotiated {
    /// True when an object is answered as the JSON that it is kept as.
    fn is_copied(self) -> bool {
        self.encoding == Encoding::Json && self.view == View::Whole
    }

    fn is_whole_protobuf(self) -> bool {
        self.encoding == Encoding::Protobuf && self.view == View::Whole
    }

    /// The version of Tables and of metadata.
    pub(crate) fn view_version(self) -> &'static str {
        if self.beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
    }
}

fn copied(code: u16, entry: &Entry) -> Response {
    let mut out = BytesMut::new();
    entry.write_json(&mut out);
    out.put_u8(b'\n');
    response::bytes(status_code(code), Encoding::Json.media_type(), out.freeze())
}

/// One object, which is as writes work on it.
fn one(served: &Served, code: u16, object: Value, asked: Negotiated, query: &str) -> Result<Response, Status> {
    let shown = match asked.view {
        View::Whole => in_version(served, object),
        View::Metadata if asked.listed => {
            let kind = go_type(served, &served.row.kind);
            let why =
                format!("you requested PartialObjectMetadataList, but the requested object is not a list ({kind})");
            return Err(Status::no_such_view(why));
        }
        View::Metadata => metadata_only(served, object, asked),
        View::Table => table::of_one(served, object, query, asked, true)?,
    };
    let (media_type, bytes) = encode(&shown, asked)?;
    Ok(response::bytes(status_code(code), media_type, bytes))
}

/// A document of its own kind goes as it is; a list of the resource that nothing stores is shown as others are.
fn document_answer(
    served: &Served,
    code: u16,
    mut document: Value,
    asked: Negotiated,
    query: &str,
) -> Result<Response, Status> {
    if asked.view == View::Table && document["kind"] == *served.row.list_kind {
        let items = document["items"].take();
        let items = serde_json::from_value(items).map_err(|why| Status::internal(why.to_string()))?;
        document = table::of(served, items, document["metadata"].take(), query, asked, true)?;
    }
    if asked.view == View::Table && document["kind"] == "Scale" {
        document = table::of_scale(served, &document, query, asked)?;
    }
    let (media_type, bytes) = encode(&document, asked)?;
    Ok(response::bytes(status_code(code), media_type, bytes))
}

/// An object that writes have worked on, as clients see it.
pub(crate) fn in_version(served: &Served, mut document: Value) -> Value {
    decode::from_storage(served, &mut document);
    document
}

/// `PartialObjectMetadata` of an object.
fn metadata_only(served: &Served, mut document: Value, asked: Negotiated) -> Value {
    let mut metadata = document.get_mut("metadata").map(Value::take).unwrap_or_else(|| Value::Object(Map::new()));
    (served.row.hooks.metadata_alone)(&mut metadata);
    json!({"kind": "PartialObjectMetadata", "apiVersion": asked.view_version(), "metadata": metadata})
}

/// What upstream's refusals call an object: its Go type, which is of the package named for the group.
fn go_type(served: &Served, kind: &str) -> String {
    let package = match served.row.group.split('.').next() {
        None | Some("" | "events") => "core",
        Some(package) => package,
    };
    match served.custom {
        Some(_) if kind == served.row.list_kind => "*unstructured.UnstructuredList".to_owned(),
        Some(_) => "*unstructured.Unstructured".to_owned(),
        None => format!("*{package}.{kind}"),
    }
}

/// `document` as it was asked for.
fn encode(document: &Value, asked: Negotiated) -> Result<(&'static str, Bytes), Status> {
    self::document(document, asked.encoding)
}

/// A document in an encoding, with the media type that it has become.
pub(crate) fn document(document: &Value, encoding: Encoding) -> Result<(&'static str, Bytes), Status> {
    let json = || Bytes::from(document.to_string() + "\n");
    match encoding {
        Encoding::Yaml => Ok((Encoding::Yaml.media_type(), yaml(document)?)),
        Encoding::Json => Ok((Encoding::Json.media_type(), json())),
        // A kind without a protobuf form is told as what it is.
        Encoding::Protobuf => Ok(match protobuf::encode(document) {
            Some(bytes) => (Encoding::Protobuf.media_type(), Bytes::from(bytes)),
            None => (Encoding::Json.media_type(), json()),
        }),
    }
}

fn yaml(document: &Value) -> Result<Bytes, Status> {
    api::codec::yaml::write(document).map(Bytes::from).map_err(Status::internal)
}

fn status_code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::OK)
}
