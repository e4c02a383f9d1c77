//! Watches as bodies: each event as soon as it happens, encoded once for all who see it alike.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use api::codec::protobuf::watch_frame;
use api::object::Entry;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::StatusCode;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use super::super::watch::{Item, Stream};
use super::super::{Served, versions};
use super::{in_version, kind_of, metadata_only};
use crate::cache::{EventKind, json_line};
use crate::metrics::Sent;
use crate::negotiate::{Encoding, Negotiated, View};
use crate::response::{self, BoxError, Lifetime, Response};
use crate::{protobuf, table};

/// The annotation of the bookmark that ends the initial events of a watch (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

pub(super) fn answer(served: Arc<Served>, stream: Stream, asked: Negotiated, query: &str) -> Response {
    let kind = kind_of(&served).filter(|_| asked.is_whole_protobuf());
    let copied = asked.is_copied() && served.is_shown_as_stored();
    let sent = Sent::of(&served.row.group, &served.version.name, &served.row.plural);
    let encoder = Encoder { served, copied, kind, asked, query: query.to_owned(), columns_sent: false, sent };
    let lifetime = Lifetime::default();
    let lasting = lifetime.lasting();
    // Boxed, since it is moved where its next event takes time to make.
    let body = Watch { turn: Turn::Waiting(Box::new(Telling { stream, encoder })), _lifetime: lifetime };
    let mut answer = response::with_body(StatusCode::OK, asked.encoding.stream_media_type(), body.boxed_unsync());
    answer.extensions_mut().insert(lasting);
    answer
}

/// The body of a watch. A thousand of them are polled for one event, so it is no more than it must be.
struct Watch {
    turn: Turn,
    /// Of what lasts as long as the body.
    _lifetime: Lifetime,
}

enum Turn {
    /// For something to happen.
    Waiting(Box<Telling>),
    /// For what has happened to be made readable; nothing, if it is not for the client.
    Making(BoxFuture<'static, (Box<Telling>, Option<Bytes>)>),
    Over,
}

struct Telling {
    stream: Stream,
    encoder: Encoder,
}

impl Body for Watch {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let bytes = match &mut self.turn {
                Turn::Over => return Poll::Ready(None),
                Turn::Waiting(telling) => match ready!(telling.stream.poll_next(cx)) {
                    // No event is a list: the first one ends the watch.
                    Some(item) if !telling.encoder.asked.listed => match telling.at_once(&item) {
                        Some(bytes) => Some(bytes),
                        None => {
                            self.make(item);
                            continue;
                        }
                    },
                    _ => {
                        self.turn = Turn::Over;
                        continue;
                    }
                },
                Turn::Making(making) => {
                    let (telling, made) = ready!(making.poll_unpin(cx));
                    self.turn = Turn::Waiting(telling);
                    made
                }
            };
            if let (Some(bytes), Turn::Waiting(telling)) = (bytes, &self.turn) {
                telling.encoder.sent.event(bytes.len());
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }
}

impl Watch {
    fn make(&mut self, item: Item) {
        if let Turn::Waiting(mut telling) = std::mem::replace(&mut self.turn, Turn::Over) {
            self.turn = Turn::Making(Box::pin(async move {
                let made = telling.make(item).await;
                (telling, made)
            }));
        }
    }
}

impl Telling {
    fn at_once(&self, item: &Item) -> Option<Bytes> {
        self.stream.selection.is_everything().then(|| self.encoder.at_once(item)).flatten()
    }

    async fn make(&mut self, item: Item) -> Option<Bytes> {
        if self.stream.selection.is_everything() {
            return Some(self.encoder.encode(item).await);
        }
        match self.stream.selection.select(item).await {
            Ok(item) => Some(self.encoder.encode(item?).await),
            Err(status) => {
                self.stream.end();
                Some(self.encoder.encode(Item::Error(status)).await)
            }
        }
    }
}

/// From what happened to what the client reads.
struct Encoder {
    served: Arc<Served>,
    /// As the cache holds them, objects are what the client wants.
    copied: bool,
    /// For objects in protobuf.
    kind: Option<protobuf::Kind>,
    asked: Negotiated,
    query: String,
    /// Only the first Table of a watch names its columns.
    columns_sent: bool,
    sent: Sent,
}

impl Encoder {
    /// What takes no time to make: what is told as it is kept, or was made for others who see it alike.
    fn at_once(&self, item: &Item) -> Option<Bytes> {
        let framed = |kind: &str, own: &protobuf::Kind, entry: &Entry| {
            Bytes::from(watch_frame(kind, &own.alone(&versions::message(&self.served, own, entry))))
        };
        match (item, &self.kind) {
            // What left the selection is shown as it was before, which no event has ready.
            (Item::Event(EventKind::Deleted, event), _) if !event.deleted => None,
            (Item::Event(kind, event), _) if self.copied => Some(event.json_line(*kind)),
            (Item::Initial(entry), _) if self.copied => Some(json_line("ADDED", entry)),
            (Item::Event(kind, event), Some(own)) => {
                Some(event.frame(*kind, self.served.form, || framed(kind.as_str(), own, &event.object)))
            }
            (Item::Initial(entry), Some(own)) => Some(framed("ADDED", own, entry)),
            _ => None,
        }
    }

    async fn encode(&mut self, item: Item) -> Bytes {
        match item {
            Item::Initial(entry) => self.event("ADDED", &entry).await,
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
        if self.copied {
            return json_line(kind, entry);
        }
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
