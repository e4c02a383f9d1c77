//! From what a verb came to, to the bytes that a client asked for.
//!
//! Objects in the storage version go out as JSON by copying what the cache holds; every other encoding, version
//! or view starts from the document. Lists are written while they are read ([`list`]).

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
use super::{Outcome, Served, decode, versions};
use crate::cache::{EventKind, json_line};
use crate::metrics::Sent;
use crate::negotiate::{Encoding, Negotiated, View};
use crate::response::{self, Response};
use crate::{negotiate, protobuf, table};

mod list;

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
        Outcome::List(list) => list::answer(served, list, asked, query).await,
        Outcome::Watch(watch) => Ok(watch_answer(served.clone(), *watch, asked, query)),
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
    let kind = kind_of(&served).filter(|_| asked.is_whole_protobuf());
    let sent = Sent::of(&served.row.group, &served.version.name, &served.row.plural);
    let encoder = WatchEncoder { served, kind, asked, query: query.to_owned(), columns_sent: false, sent };
    // Boxed, since it is moved at every event.
    let chunks = stream::unfold(Box::new((watch, encoder)), |mut state| async move {
        let (watch, encoder) = &mut *state;
        let item = watch.next().await?;
        if encoder.asked.listed {
            // No event is a list: the first one ends the watch.
            return None;
        }
        let bytes = encoder.encode(item).await;
        encoder.sent.event(bytes.len());
        Some((bytes, state))
    });
    response::with_body(StatusCode::OK, asked.encoding.stream_media_type(), response::stream(chunks))
}

struct WatchEncoder {
    served: Arc<Served>,
    /// For objects in protobuf.
    kind: Option<protobuf::Kind>,
    asked: Negotiated,
    query: String,
    /// Only the first Table of a watch names its columns.
    columns_sent: bool,
    sent: Sent,
}

impl WatchEncoder {
    async fn encode(&mut self, item: Item) -> Bytes {
        let copied = self.asked.is_copied() && self.served.is_shown_as_stored();
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
                self.document("BOOKMARK", object)
            }
            Item::Error(status) => self.line("ERROR", &status.to_json()),
        }
    }

    async fn event(&mut self, kind: &str, entry: &Arc<Entry>) -> Bytes {
        if self.asked.is_copied() && self.served.is_written_as_shown() {
            return match versions::shown_entry(&self.served, entry).await {
                Ok(shown) => json_line(kind, &shown),
                Err(status) => self.line("ERROR", &status.to_json()),
            };
        }
        if let Some(own) = &self.kind {
            let object = own.alone(&versions::message(&self.served, own, entry));
            return Bytes::from(watch_frame(kind, &object));
        }
        let document = match versions::working(&self.served, entry).await {
            Ok(document) => document,
            Err(status) => return self.line("ERROR", &status.to_json()),
        };
        let document = match self.asked.view {
            View::Whole => in_version(&self.served, document),
            _ => document,
        };
        self.document(kind, document)
    }

    /// An event about an object, or about a bookmark's, as the client looks at it.
    fn document(&mut self, kind: &str, document: Value) -> Bytes {
        let shown = match self.asked.view {
            View::Whole => document,
            View::Metadata => metadata_only(&self.served, document, self.asked),
            View::Table => {
                let first = !std::mem::replace(&mut self.columns_sent, true);
                table::of_one(&self.served, document, &self.query, self.asked, first)
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
