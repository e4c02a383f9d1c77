//! Lists, written while they are read: what is in memory of one is the entries, which are the cache's own, and the piece
//! that is on its way. The entries are those of one revision, whatever is written meanwhile; a reader who takes too long
//! loses them.

use std::sync::Arc;
use std::time::Duration;

use api::codec::protobuf::{TAIL, item_head};
use api::object::Entry;
use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{encode, go_type, in_version, kind_of, metadata_only};
use crate::limits;
use crate::negotiate::{Encoding, Negotiated, View};
use crate::protobuf;
use crate::registry::{Served, read, versions};
use crate::response::{self, BoxError, Lengthy, Response};
use crate::table::Rows;

/// Lists of no more than this go out whole.
const WHOLE: usize = 256 << 10;
/// What is made at once of a longer one, about.
const PIECE: usize = 128 << 10;
/// For the item that makes a piece full, of most kinds.
const HEADROOM: usize = 8 << 10;
/// Messages that are kept between being measured and being sent. Those beyond are made twice.
const MEASURED: usize = 4 << 20;

/// The answer that carries `list`.
pub(super) async fn answer(
    served: &Arc<Served>,
    list: read::List,
    asked: Negotiated,
    query: &str,
    most: Duration,
) -> Result<Response, Status> {
    if asked.view == View::Metadata && !asked.listed {
        let kind = go_type(served, &served.row.list_kind);
        let why = format!("you requested PartialObjectMetadata, but the requested object is a list ({kind})");
        return Err(Status::no_such_view(why));
    }
    let metadata = metadata(served, &list, asked);
    let mut entries = list.entries;
    if entries.is_empty() && asked.view == View::Metadata {
        // Go's list of nothing.
        let (media_type, bytes) = encode(&partial(metadata, Value::Null, asked), asked)?;
        return Ok(response::bytes(StatusCode::OK, media_type, bytes));
    }
    if served.custom.as_ref().is_some_and(|custom| custom.definition.webhook.is_some()) {
        entries = versions::shown_entries(served, entries).await?;
    }
    let rest = Rest::new(served.clone(), entries, metadata, asked, query).await?;
    let media_type = rest.media_type();
    if rest.size <= WHOLE {
        return Ok(response::bytes(StatusCode::OK, media_type, rest.whole()?));
    }
    let deadline = Instant::now() + limits::allowed_time(query, most)?;
    let lengthy = Lengthy::default();
    Ok(response::lengthy(media_type, rest.exact, lengthy.clone(), pieces(rest, lengthy, deadline)))
}

fn metadata(served: &Served, list: &read::List, asked: Negotiated) -> Value {
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
    metadata
}

fn partial(metadata: Value, items: Value, asked: Negotiated) -> Value {
    let version = asked.view_version();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": metadata, "items": items})
}

/// What is still to be sent of a list.
struct Rest {
    served: Arc<Served>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    form: Form,
    head: Bytes,
    tail: Bytes,
    /// The length of the answer, about.
    size: usize,
    /// The same, where it is known beforehand.
    exact: Option<u64>,
    begun: bool,
    ended: bool,
}

/// How an entry becomes an item.
enum Form {
    /// As JSON that is kept with it.
    Copied,
    Json(Shown),
    Yaml(Shown),
    Protobuf(Messages),
}

/// What of an object is shown.
enum Shown {
    Whole,
    Metadata(Negotiated),
    Row(Rows),
}

/// Items in protobuf, whose lengths stand before them and before all.
struct Messages {
    item: protobuf::Kind,
    /// Items are whole objects, whose messages are kept with them.
    whole: bool,
    /// In the order of the entries; `None` is made once more.
    made: std::vec::IntoIter<Option<Bytes>>,
}

impl Rest {
    async fn new(
        served: Arc<Served>,
        entries: Vec<Arc<Entry>>,
        metadata: Value,
        asked: Negotiated,
        query: &str,
    ) -> Result<Self, Status> {
        let (list, field, shown) = match asked.view {
            View::Table => {
                let rows = Rows::asked(query, asked)?;
                (rows.table(&served, Vec::new(), metadata), "rows", Shown::Row(rows))
            }
            View::Metadata => (partial(metadata, json!([]), asked), "items", Shown::Metadata(asked)),
            View::Whole => {
                let (kind, api_version) = (&served.row.list_kind, served.api_version());
                let list = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": []});
                (list, "items", Shown::Whole)
            }
        };
        let size = entries.iter().map(|entry| entry.json_length()).sum();
        let mut rest = Self {
            served,
            entries: entries.into_iter(),
            form: Form::Copied,
            head: Bytes::new(),
            tail: Bytes::new(),
            size,
            exact: None,
            begun: false,
            ended: false,
        };
        match asked.encoding {
            Encoding::Yaml => rest.begin_yaml(&list, field, shown)?,
            Encoding::Protobuf if rest.begin_protobuf(&list, asked.view).await? => {}
            _ => rest.begin_json(list, field, shown),
        }
        Ok(rest)
    }

    fn media_type(&self) -> &'static str {
        match self.form {
            Form::Copied | Form::Json(_) => Encoding::Json.media_type(),
            Form::Yaml(_) => Encoding::Yaml.media_type(),
            Form::Protobuf(_) => Encoding::Protobuf.media_type(),
        }
    }

    fn begin_json(&mut self, mut list: Value, field: &str, shown: Shown) {
        if let Some(fields) = list.as_object_mut() {
            fields.remove(field);
        }
        let mut head = list.to_string();
        // The items are its last field.
        head.pop();
        self.head = format!("{head},\"{field}\":[").into();
        self.tail = Bytes::from_static(b"]}\n");
        self.form = match shown {
            Shown::Whole if self.served.is_written_as_shown() => Form::Copied,
            shown => Form::Json(shown),
        };
        if matches!(self.form, Form::Copied) && self.served.custom.is_none() {
            let items: usize = self.entries.as_slice().iter().map(|entry| entry.item_length()).sum();
            let commas = self.entries.len().saturating_sub(1);
            self.exact = Some((self.head.len() + items + commas + self.tail.len()) as u64);
        }
    }

    fn begin_yaml(&mut self, list: &Value, field: &str, shown: Shown) -> Result<(), Status> {
        let text = write_yaml(list)?;
        let empty = format!("{field}: []\n");
        let (head, tail) = text.split_once(&empty).ok_or_else(|| Status::internal("a list lacks its items"))?;
        let title = if self.entries.len() == 0 { empty } else { format!("{field}:\n") };
        self.head = format!("{head}{title}").into();
        self.tail = tail.to_owned().into();
        self.form = Form::Yaml(shown);
        Ok(())
    }

    /// False for kinds without protobuf, which are told as what they are.
    async fn begin_protobuf(&mut self, list: &Value, view: View) -> Result<bool, Status> {
        let (list_kind, item, whole) = match view {
            View::Whole => {
                let list_kind = protobuf::Kind::find(&self.served.api_version(), &self.served.row.list_kind);
                (list_kind, kind_of(&self.served), true)
            }
            _ => {
                let version = list["apiVersion"].as_str().unwrap_or_default();
                let meta = |kind| protobuf::Kind::find(version, kind);
                (meta("PartialObjectMetadataList"), meta("PartialObjectMetadata"), false)
            }
        };
        let (Some(list_kind), Some(item)) = (list_kind, item) else { return Ok(false) };
        let mut messages = Messages { item, whole, made: Vec::new().into_iter() };
        let (mut made, mut items, mut held, mut since) = (Vec::new(), 0, 0, 0);
        for entry in self.entries.as_slice() {
            let message = messages.of(&self.served, entry)?;
            let length = message.len();
            items += item_head(length).len() + length;
            held += length;
            since += entry.stored_length();
            made.push((held <= MEASURED).then_some(message));
            if since > PIECE {
                since = 0;
                tokio::task::yield_now().await;
            }
        }
        messages.made = made.into_iter();
        self.head = list_kind.list_head(list, items);
        self.tail = Bytes::from_static(TAIL);
        self.size = self.head.len() + items + self.tail.len();
        self.exact = Some(self.size as u64);
        self.form = Form::Protobuf(messages);
        Ok(true)
    }

    /// The next piece of at least `most` bytes, but for the last; nothing after that.
    fn piece(&mut self, most: usize) -> Result<Option<Bytes>, Status> {
        if self.ended {
            return Ok(None);
        }
        let mut out = BytesMut::with_capacity(most.min(self.size) + HEADROOM);
        out.put_slice(&std::mem::take(&mut self.head));
        while out.len() < most && !self.ended {
            match self.entries.next() {
                Some(entry) => self.put(&entry, &mut out)?,
                None => {
                    out.put_slice(&self.tail);
                    self.ended = true;
                }
            }
        }
        Ok(Some(out.freeze()))
    }

    fn whole(mut self) -> Result<Bytes, Status> {
        Ok(self.piece(usize::MAX)?.unwrap_or_default())
    }

    /// Appends one item.
    fn put(&mut self, entry: &Arc<Entry>, out: &mut BytesMut) -> Result<(), Status> {
        let separated = std::mem::replace(&mut self.begun, true);
        if separated && matches!(self.form, Form::Copied | Form::Json(_)) {
            out.put_u8(b',');
        }
        match &mut self.form {
            Form::Copied if self.served.custom.is_none() => entry.write_item(out),
            Form::Copied => immediately(&self.served, entry)?.write_json(out),
            Form::Json(shown) => {
                let item = shown.item(&self.served, entry)?;
                serde_json::to_writer(out.writer(), &item).map_err(Status::internal)?;
            }
            Form::Yaml(shown) => out.put_slice(write_yaml(&json!([shown.item(&self.served, entry)?]))?.as_bytes()),
            Form::Protobuf(messages) => {
                let message = match messages.made.next().flatten() {
                    Some(message) => message,
                    None => messages.of(&self.served, entry)?,
                };
                out.put_slice(&item_head(message.len()));
                out.put_slice(&message);
            }
        }
        Ok(())
    }

    fn is_laborious(&self) -> bool {
        !matches!(self.form, Form::Copied)
    }
}

impl Shown {
    fn item(&self, served: &Served, entry: &Arc<Entry>) -> Result<Value, Status> {
        let object = immediately(served, entry)?.to_value();
        Ok(match self {
            Self::Whole => untyped(served, in_version(served, object)),
            Self::Metadata(asked) => metadata_only(served, object, *asked),
            Self::Row(rows) => rows.row(served, &object),
        })
    }
}

impl Messages {
    fn of(&self, served: &Served, entry: &Arc<Entry>) -> Result<Bytes, Status> {
        Ok(match self.whole {
            true => versions::message(served, &self.item, entry),
            false => self.item.message(&Shown::Metadata(Negotiated::default()).item(served, entry)?),
        })
    }
}

/// Whoever has to be asked how an entry is converted has been.
fn immediately(served: &Served, entry: &Arc<Entry>) -> Result<Arc<Entry>, Status> {
    versions::shown_at_once(served, entry)?.ok_or_else(|| Status::internal("an object of a list is not converted"))
}

/// Items of typed lists have no type of their own; those of custom resources do.
fn untyped(served: &Served, mut document: Value) -> Value {
    if served.custom.is_none()
        && let Some(fields) = document.as_object_mut()
    {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    document
}

fn write_yaml(document: &Value) -> Result<String, Status> {
    api::codec::yaml::write(document).map_err(Status::internal)
}

/// The pieces of a list, until its reader has had the time that a request has. Then all is given up that is kept for
/// him, though he may never ask again.
fn pieces(
    rest: Rest,
    lengthy: Lengthy,
    deadline: Instant,
) -> impl futures::Stream<Item = Result<Bytes, BoxError>> + Send + 'static {
    let sending = Sending { laborious: rest.is_laborious(), rest: Arc::new(Mutex::new(Some(rest))), lengthy };
    let (mut timer, rest, lengthy) = (JoinSet::new(), sending.rest.clone(), sending.lengthy.clone());
    timer.spawn(async move {
        sleep_until(deadline).await;
        rest.lock().take();
        lengthy.let_go();
    });
    stream::unfold((sending, timer, false), |(sending, timer, begun)| async move {
        if begun && sending.laborious {
            tokio::task::yield_now().await;
        }
        let piece = sending.piece().transpose()?;
        Some((piece, (sending, timer, true)))
    })
}

/// A list on its way.
struct Sending {
    rest: Arc<Mutex<Option<Rest>>>,
    /// A piece takes so long to make that others are to be served in between.
    laborious: bool,
    lengthy: Lengthy,
}

impl Sending {
    fn piece(&self) -> Result<Option<Bytes>, BoxError> {
        match &mut *self.rest.lock() {
            Some(rest) => rest.piece(PIECE).map_err(|status| status.message.into()),
            None => Err("the list was not read in the time that a request has".into()),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.lengthy.let_go();
    }
}
