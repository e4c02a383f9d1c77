//! From what a verb came to, to the bytes that a client asked for.
//!
//! Objects in the storage version go out as JSON by copying what the cache holds; every other encoding, version
//! or view starts from the document.

use std::sync::Arc;

use api::codec::protobuf::watch_frame;
use api::object::Entry;
use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::watch::{Item, Stream};
use super::{Outcome, Served, decode, read, versions};
use crate::cache::{EventKind, json_line};
use crate::document::Document;
use crate::negotiate::{Encoding, Negotiated, View};
use crate::response::{self, Response};
use crate::{protobuf, table};

/// The annotation of the bookmark that ends the initial events of a watch (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// The answer that carries `outcome`.
pub async fn answer(
    served: &Arc<Served>,
    outcome: Outcome,
    asked: Negotiated,
    query: &str,
) -> Result<Response, Status> {
    match outcome {
        Outcome::Entry { entry, code } if asked.is_copy_of(served) => Ok(copied(code, &entry)),
        Outcome::Entry { code, entry } => {
            let object = versions::working(served, &entry).await?;
            one(served, code, object, asked, query)
        }
        Outcome::Object { code, object } => one(served, code, object, asked, query),
        Outcome::List(list) => list_answer(served, &list, asked, query).await,
        Outcome::Watch(watch) => Ok(watch_answer(served.clone(), *watch, asked, query)),
        Outcome::Document { code, document } => document_answer(served, code, document, asked, query),
    }
}

/// A refusal, as text where the client asked for that.
pub fn refusal(status: &Status, asked: Negotiated) -> Response {
    let mut answer = response::refusal(status);
    if asked.encoding == Encoding::Yaml
        && let Ok(text) = yaml(&status.to_json())
    {
        *answer.body_mut() = response::full(text);
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Encoding::Yaml.media_type()));
    }
    answer
}

impl Negotiated {
    /// True when the answer is what the cache holds, byte for byte.
    fn is_copy_of(self, served: &Served) -> bool {
        self.encoding == Encoding::Json && self.view == View::Whole && served.is_shown_as_stored()
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
        View::Metadata => metadata_only(object),
        View::Table => {
            let revision = object.resource_version().to_owned();
            table::of(served, vec![object], json!({"resourceVersion": revision}), query, asked, true)?
        }
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
    let (media_type, bytes) = encode(&document, asked)?;
    Ok(response::bytes(status_code(code), media_type, bytes))
}

async fn list_answer(served: &Served, list: &read::List, asked: Negotiated, query: &str) -> Result<Response, Status> {
    let mut metadata = json!({"resourceVersion": list.revision.to_string()});
    match &list.resume {
        Some(token) => metadata["continue"] = json!(token),
        // Lists of custom resources say so, too, that nothing is left.
        None if served.custom.is_some() && asked.view == View::Whole => metadata["continue"] = json!(""),
        None => {}
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    if asked.is_copy_of(served) {
        let bytes = list_json(served, &list.entries, &metadata);
        return Ok(response::bytes(StatusCode::OK, Encoding::Json.media_type(), bytes));
    }
    let documents = match &served.custom {
        Some(_) => versions::shown_entries(served, &list.entries).await?,
        None => list.entries.iter().map(|entry| entry.to_value()).collect(),
    };
    let shown = match asked.view {
        View::Table => table::of(served, documents, metadata, query, asked, true)?,
        View::Metadata => {
            let items: Vec<Value> = documents.into_iter().map(metadata_only).collect();
            // Go's list of nothing.
            let items = if items.is_empty() { Value::Null } else { json!(items) };
            json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
        }
        View::Whole => {
            let items: Vec<Value> =
                documents.into_iter().map(|document| item(served, in_version(served, document))).collect();
            json!({"kind": served.row.list_kind, "apiVersion": served.api_version(), "metadata": metadata, "items": items})
        }
    };
    let (media_type, bytes) = encode(&shown, asked)?;
    Ok(response::bytes(StatusCode::OK, media_type, bytes))
}

/// A list, made by copying the entries.
fn list_json(served: &Served, entries: &[Arc<Entry>], metadata: &Value) -> Bytes {
    let size: usize = entries.iter().map(|entry| entry.stored_json().len() + 40).sum();
    let mut out = BytesMut::with_capacity(size + 256);
    let head = json!({"kind": served.row.list_kind, "apiVersion": served.api_version(), "metadata": metadata});
    let head = head.to_string();
    out.put_slice(head.trim_end_matches('}').as_bytes());
    // The head's own metadata lost its brace above.
    out.put_slice(b"},\"items\":[");
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        entry.write_item(&mut out);
    }
    out.put_slice(b"]}\n");
    out.freeze()
}

/// Items of typed lists have no type of their own; those of custom resources do.
fn item(served: &Served, mut document: Value) -> Value {
    if served.custom.is_none()
        && let Some(fields) = document.as_object_mut()
    {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    document
}

/// An object that writes have worked on, as clients see it.
pub(crate) fn in_version(served: &Served, mut document: Value) -> Value {
    decode::from_storage(served, &mut document);
    document
}

/// `PartialObjectMetadata` of an object.
pub fn metadata_only(mut document: Value) -> Value {
    let metadata = document.get_mut("metadata").map(Value::take).unwrap_or_else(|| Value::Object(Map::new()));
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

/// `document` as it was asked for, with the media type that it has become.
fn encode(document: &Value, asked: Negotiated) -> Result<(&'static str, Bytes), Status> {
    let json = || Bytes::from(document.to_string() + "\n");
    match asked.encoding {
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

fn watch_answer(served: Arc<Served>, watch: Stream, asked: Negotiated, query: &str) -> Response {
    let encoder = WatchEncoder { served, asked, query: query.to_owned(), columns_sent: false };
    let chunks = stream::unfold((watch, encoder), |(mut watch, mut encoder)| async move {
        let item = watch.next().await?;
        let bytes = encoder.encode(item).await;
        Some((bytes, (watch, encoder)))
    });
    response::with_body(StatusCode::OK, asked.encoding.stream_media_type(), response::stream(chunks))
}

struct WatchEncoder {
    served: Arc<Served>,
    asked: Negotiated,
    query: String,
    /// Only the first Table of a watch names its columns.
    columns_sent: bool,
}

impl WatchEncoder {
    async fn encode(&mut self, item: Item) -> Bytes {
        let copied = self.asked.is_copy_of(&self.served);
        match item {
            Item::Initial(entry) if copied => json_line("ADDED", &entry),
            Item::Initial(entry) => self.event("ADDED", &entry).await,
            // What left the selection is shown as it was before, which the shared line does not say.
            Item::Event(EventKind::Deleted, event) if copied && !event.deleted => {
                json_line("DELETED", &event.shown(EventKind::Deleted))
            }
            Item::Event(kind, event) if copied => event.json_line(kind),
            Item::Event(kind, event) => self.event(kind.as_str(), &event.shown(kind)).await,
            Item::Bookmark { revision, initial_events_end } => {
                let mut metadata = json!({"resourceVersion": revision.to_string()});
                if initial_events_end {
                    metadata["annotations"] = json!({INITIAL_EVENTS_END: "true"});
                }
                let object = json!({
                    "kind": self.served.row.kind, "apiVersion": self.served.api_version(), "metadata": metadata,
                });
                self.line("BOOKMARK", &object)
            }
            Item::Error(status) => self.line("ERROR", &status.to_json()),
        }
    }

    async fn event(&mut self, kind: &str, entry: &Entry) -> Bytes {
        let document = match versions::working(&self.served, entry).await {
            Ok(document) => document,
            Err(status) => return self.line("ERROR", &status.to_json()),
        };
        let shown = match self.asked.view {
            View::Whole => in_version(&self.served, document),
            View::Metadata => metadata_only(document),
            View::Table => {
                let metadata = json!({"resourceVersion": document.resource_version()});
                let first = !std::mem::replace(&mut self.columns_sent, true);
                table::of(&self.served, vec![document], metadata, &self.query, self.asked, first)
                    .unwrap_or_else(|status| status.to_json())
            }
        };
        self.line(kind, &shown)
    }

    fn line(&self, kind: &str, object: &Value) -> Bytes {
        match (self.asked.encoding, protobuf::encode(object)) {
            (Encoding::Protobuf, Some(object)) => Bytes::from(watch_frame(kind, &object)),
            _ => Bytes::from(json!({"type": kind, "object": object}).to_string() + "\n"),
        }
    }
}
