//! Informers over the wire: list, then watch, and never lose a change.
//!
//! A [`Reflector`] is a state machine (the shape is kube-rs's): each state holds what is true in it, and
//! [`Reflector::step`] is the only way from one to the next.
//!
//! ```text
//!          +--------------------- 410, or the stream holds nonsense ---------------------+
//!          v                                                                             |
//!        Start --streaming list--> Watching{initial} --bookmark--> Watching              |
//!          |  \--refused: list--> Listing --last page--> Resume{revision} --> Watching --+
//!          |                                               ^                    |
//!          +---- failed: wait, again                       +-- stream ended ----+
//! ```
//!
//! What is held stays readable while a connection is down, and a list that follows is compared with it: subscribers
//! see differences only.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::codec::json;
use api::object::{Entry, EntryError, ObjectKey};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream::BoxStream};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::informer::{Change, Informer, Informers, Scope};
use crate::request::{collection_path, escape};
use crate::shared::{EntryMap, SharedStore};

/// Objects per page of a list.
const PAGE: usize = 500;
/// The longest event line taken: an object is at most 3 MiB, and JSON escapes can multiply that.
const LONGEST_LINE: usize = 32 << 20;
/// How long a watch is asked to last; the true figure is up to twice as much, so that watches do not end together.
const WATCH_SECONDS: f64 = 300.0;
/// How long after its time a silent watch is taken for dead: the server closes it, so silence means a lost connection.
const WATCH_GRACE: Duration = Duration::from_secs(30);
const FIRST_RETRY: Duration = Duration::from_millis(50);
/// After this many failures in a row, within about two seconds, a watch is not only between two servers.
const WORTH_TELLING: u32 = 6;
const LAST_RETRY: Duration = Duration::from_secs(10);
/// The annotation of the bookmark behind the last initial event (KEP-3157).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Informers filled over the wire, one task each, shared by scope. An informer that nobody holds any more ends.
pub struct RemoteInformers {
    client: Client,
    clock: Arc<dyn Clock>,
    tracker: TaskTracker,
    token: CancellationToken,
    informers: Mutex<HashMap<Scope, Weak<Handle>>>,
}

impl RemoteInformers {
    /// Informers run on `tracker` until `token` is cancelled.
    pub fn new(client: Client, clock: Arc<dyn Clock>, tracker: TaskTracker, token: CancellationToken) -> Arc<Self> {
        Arc::new(Self { client, clock, tracker, token, informers: Mutex::default() })
    }
}

impl Informers for RemoteInformers {
    fn informer(&self, scope: Scope) -> Arc<dyn Informer> {
        let mut informers = self.informers.lock();
        if let Some(handle) = informers.get(&scope).and_then(Weak::upgrade) {
            return handle;
        }
        // Those of pods that are gone; there are never more of them than pods came and went since.
        informers.retain(|_, handle| handle.strong_count() > 0);
        let store = Arc::new(SharedStore::default());
        let mut reflector = Reflector::new(self.client.clone(), self.clock.clone(), scope.clone(), store.clone());
        let token = self.token.child_token();
        let running = token.clone().drop_guard();
        self.tracker.spawn(async move { token.run_until_cancelled(reflector.run()).await });
        let handle = Arc::new(Handle { store, _running: running });
        informers.insert(scope, Arc::downgrade(&handle));
        handle
    }
}

struct Handle {
    store: Arc<SharedStore>,
    _running: DropGuard,
}

impl Informer for Handle {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.store.get(key)
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        self.store.list(namespace)
    }

    fn synced(&self) -> bool {
        self.store.synced()
    }

    fn subscribe(&self) -> mpsc::Receiver<Change> {
        self.store.subscribe()
    }
}

/// Why a list or watch did not go on.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("no answer from the API server")]
    Transport(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the API server refused with {code}: {message}")]
    Refused { code: u16, message: String },
    #[error("the resource version is too old")]
    Expired,
    #[error("a line of {0} bytes has no end")]
    LineTooLong(usize),
    #[error("answer is not JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Object(#[from] EntryError),
    #[error("{0:?} is no resource version")]
    Revision(String),
    #[error("nothing came from the watch long after its end")]
    Silent,
}

/// Where a reflector stands.
enum State {
    /// All objects are to be read.
    Start,
    /// Pages of a list have been read; the next begins at `next`.
    Listing { read: EntryMap, next: String },
    /// Everything up to `revision` is in the store.
    Resume { revision: u64 },
    /// Events arrive. Until the bookmark that ends the initial ones, they collect in `initial`.
    Watching { lines: Lines, deadline: Duration, revision: u64, initial: Option<EntryMap> },
}

/// Keeps one [`SharedStore`] equal to a scope of the server.
struct Reflector {
    client: Client,
    clock: Arc<dyn Clock>,
    scope: Scope,
    store: Arc<SharedStore>,
    backoff: Backoff,
    /// False once the server has refused a streaming list.
    streaming_list: bool,
}

impl Reflector {
    fn new(client: Client, clock: Arc<dyn Clock>, scope: Scope, store: Arc<SharedStore>) -> Self {
        let backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        Self { client, clock, scope, store, backoff, streaming_list: true }
    }

    async fn run(&mut self) {
        let mut state = State::Start;
        loop {
            state = self.step(state).await;
        }
    }

    async fn step(&mut self, state: State) -> State {
        match state {
            State::Start if self.streaming_list => self.start_streaming().await,
            State::Start => self.read_page(EntryMap::default(), String::new()).await,
            State::Listing { read, next } => self.read_page(read, next).await,
            State::Resume { revision } => match self.open_watch(&format!("resourceVersion={revision}")).await {
                Ok(lines) => self.watching(lines, revision, None),
                Err(WatchError::Expired) => State::Start,
                Err(error) => self.wait(&error, State::Resume { revision }).await,
            },
            State::Watching { lines, deadline, revision, initial } => {
                self.next_event(lines, deadline, revision, initial).await
            }
        }
    }

    /// Asks for a watch that begins with everything there is.
    async fn start_streaming(&mut self) -> State {
        match self.open_watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=").await {
            Ok(lines) => self.watching(lines, 0, Some(EntryMap::default())),
            Err(WatchError::Refused { code: 400 | 422, .. }) => {
                self.streaming_list = false;
                State::Start
            }
            Err(error) => self.wait(&error, State::Start).await,
        }
    }

    fn watching(&mut self, lines: Lines, revision: u64, initial: Option<EntryMap>) -> State {
        // The request said how long the watch lasts at most.
        let deadline = self.clock.elapsed() + Duration::from_secs_f64(2.0 * WATCH_SECONDS) + WATCH_GRACE;
        State::Watching { lines, deadline, revision, initial }
    }

    async fn read_page(&mut self, mut read: EntryMap, next: String) -> State {
        match self.list_page(&next).await {
            Ok(page) => {
                self.backoff.reset();
                for entry in page.entries {
                    read.insert(entry);
                }
                if !page.next.is_empty() {
                    return State::Listing { read, next: page.next };
                }
                self.store.replace(read);
                State::Resume { revision: page.revision }
            }
            // The snapshot that the pages are of is gone: begin again.
            Err(WatchError::Expired) => self.wait(&WatchError::Expired, State::Start).await,
            Err(error) => self.wait(&error, State::Listing { read, next }).await,
        }
    }

    async fn next_event(
        &mut self,
        mut lines: Lines,
        deadline: Duration,
        revision: u64,
        initial: Option<EntryMap>,
    ) -> State {
        let line = tokio::select! {
            line = lines.next() => line,
            () = self.clock.until(deadline) => Err(WatchError::Silent),
        };
        // A stream that breaks before its initial events were complete has told nothing that can be resumed from.
        let again = if initial.is_some() { State::Start } else { State::Resume { revision } };
        let line = match line {
            Ok(Some(line)) => line,
            Ok(None) if self.backoff.failures() == 0 && initial.is_none() => {
                // An ordinary end. Should the next watch end without an event too, it will wait.
                self.backoff.fail();
                return again;
            }
            Ok(None) => return self.wait(&WatchError::Silent, again).await,
            Err(error) => return self.wait(&error, again).await,
        };
        match self.take(&line, revision, initial) {
            Ok((revision, initial)) => {
                self.backoff.reset();
                State::Watching { lines, deadline, revision, initial }
            }
            Err(WatchError::Expired) => State::Start,
            Err(error @ (WatchError::Transport(_) | WatchError::Refused { .. })) => self.wait(&error, again).await,
            // What cannot be read cannot be skipped either: the list will have it.
            Err(error) => self.wait(&error, State::Start).await,
        }
    }

    /// Takes in one event; answers with the revision reached and the initial events still being collected.
    fn take(
        &self,
        line: &[u8],
        revision: u64,
        mut initial: Option<EntryMap>,
    ) -> Result<(u64, Option<EntryMap>), WatchError> {
        let event: Event<'_> = serde_json::from_slice(line)?;
        if event.kind == "ERROR" {
            let status: ErrorStatus = serde_json::from_str(event.object.get())?;
            return Err(status.into());
        }
        if event.kind == "BOOKMARK" {
            let bookmark: Bookmark = serde_json::from_str(event.object.get())?;
            let reached = parse_revision(&bookmark.metadata.resource_version)?;
            if bookmark.metadata.annotations.contains_key(INITIAL_EVENTS_END)
                && let Some(complete) = initial.take()
            {
                self.store.replace(complete);
            }
            return Ok((reached.max(revision), initial));
        }
        let entry = Arc::new(entry_of(json::trusted(event.object.get().as_bytes())?)?);
        let reached = entry.revision.max(revision);
        match (event.kind, &mut initial) {
            ("DELETED", Some(initial)) => drop(initial.remove(&entry.key)),
            (_, Some(initial)) => drop(initial.insert(entry)),
            ("DELETED", None) => self.store.delete(entry),
            (_, None) => self.store.apply(entry),
        }
        Ok((reached, initial))
    }

    async fn wait(&mut self, error: &WatchError, then: State) -> State {
        let delay = self.backoff.fail();
        let resource = &self.scope.resource;
        // Once for each time that it is more than the end of a connection.
        if self.backoff.failures() == WORTH_TELLING {
            tracing::warn!(resource = %resource.resource, %error, "cannot watch; trying again");
        } else {
            tracing::debug!(resource = %resource.resource, %error, "watch interrupted");
        }
        self.clock.after(delay).await;
        then
    }

    async fn list_page(&self, next: &str) -> Result<Page, WatchError> {
        let mut query = format!("limit={PAGE}");
        if !next.is_empty() {
            query.push_str("&continue=");
            query.push_str(&escape(next));
        }
        let mut lines = self.get(&query).await?;
        let body = lines.rest().await?;
        let mut list: List = json::trusted(&body)?;
        let item_kind = list.kind.strip_suffix("List").unwrap_or_default();
        let mut entries = Vec::with_capacity(list.items.len());
        for mut item in list.items.drain(..) {
            // Upstream's lists of built-in kinds leave these out of the items.
            if let Some(item) = item.as_object_mut() {
                item.entry("apiVersion").or_insert_with(|| Value::String(list.api_version.clone()));
                item.entry("kind").or_insert_with(|| Value::String(item_kind.to_owned()));
            }
            entries.push(Arc::new(entry_of(item)?));
        }
        let revision = parse_revision(&list.metadata.resource_version)?;
        Ok(Page { entries, next: list.metadata.next, revision })
    }

    async fn open_watch(&mut self, from: &str) -> Result<Lines, WatchError> {
        let seconds = (WATCH_SECONDS * (1.0 + self.backoff.random())).floor();
        self.get(&format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&{from}")).await
    }

    async fn get(&self, query: &str) -> Result<Lines, WatchError> {
        let mut uri = format!("{}?{query}", collection_path(&self.scope.resource, self.scope.namespace.as_deref()));
        for (name, selector) in [("fieldSelector", &self.scope.fields), ("labelSelector", &self.scope.labels)] {
            if !selector.is_empty() {
                uri.push_str(&format!("&{name}={}", escape(selector)));
            }
        }
        let request = Request::get(uri)
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| WatchError::Transport(Box::new(error)))?;
        let response = self.client.send(request).await.map_err(|error| WatchError::Transport(Box::new(error)))?;
        let status = response.status();
        let mut lines = Lines::new(response.into_body());
        if status == StatusCode::OK {
            return Ok(lines);
        }
        let body = lines.rest().await?;
        let refused = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorStatus {
            code: status.as_u16(),
            message: String::from_utf8_lossy(&body[..body.len().min(256)]).into_owned(),
        });
        Err(refused.into())
    }
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: ListMeta,
    items: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct ErrorStatus {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

struct Page {
    entries: Vec<Arc<Entry>>,
    next: String,
    revision: u64,
}

impl From<ErrorStatus> for WatchError {
    fn from(status: ErrorStatus) -> Self {
        match status.code {
            410 => Self::Expired,
            code => Self::Refused { code, message: status.message },
        }
    }
}

fn entry_of(object: Value) -> Result<Entry, WatchError> {
    let revision = parse_revision(object["metadata"]["resourceVersion"].as_str().unwrap_or_default())?;
    // Which fields a resource lets select is the server's to know; it has selected already.
    Ok(Entry::from_value(object, revision, &[])?)
}

fn parse_revision(text: &str) -> Result<u64, WatchError> {
    text.parse().map_err(|_| WatchError::Revision(text.to_owned()))
}

/// A response body, line by line.
struct Lines {
    body: BoxStream<'static, Result<Bytes, Box<dyn std::error::Error + Send + Sync>>>,
    buffer: BytesMut,
    /// Up to here `buffer` holds no line end.
    searched: usize,
}

impl Lines {
    fn new(body: Body) -> Self {
        let body = body.into_data_stream().map(|chunk| chunk.map_err(Into::into));
        Self { body: body.boxed(), buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line that is not empty, or `None` at the end. Cancel-safe.
    async fn next(&mut self) -> Result<Option<Bytes>, WatchError> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                if line.len() > 1 {
                    return Ok(Some(line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST_LINE {
                return Err(WatchError::LineTooLong(self.searched));
            }
            match self.body.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(WatchError::Transport(error)),
                None => return Ok(None),
            }
        }
    }

    /// Everything up to the end.
    async fn rest(&mut self) -> Result<Bytes, WatchError> {
        while let Some(chunk) = self.body.next().await {
            self.buffer.extend_from_slice(&chunk.map_err(WatchError::Transport)?);
        }
        Ok(self.buffer.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::clock::SystemClock;
    use crate::testing::FakeCluster;
    use crate::typed::{Typed, resource_of};

    fn config_map(name: &str, value: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
               "metadata": {"name": name, "namespace": "a"}, "data": {"key": value}})
    }

    async fn next(changes: &mut mpsc::Receiver<Change>) -> String {
        match changes.recv().await.expect("the informer lives") {
            Change::Applied { new, .. } => {
                format!("applied {} {}", new.key, new.to_value()["data"]["key"].as_str().unwrap_or_default())
            }
            Change::Deleted(last) => format!("deleted {}", last.key),
            Change::Synced => "synced".to_owned(),
            Change::Resync => "resync".to_owned(),
        }
    }

    /// The same story with and without streaming lists: what was there, what happens, what happened while away.
    async fn follows_the_server(streaming: bool) {
        let cluster = FakeCluster::new();
        cluster.refuse_streaming_lists(!streaming);
        let resource = resource_of::<ConfigMap>();
        cluster.put(&resource, config_map("one", "1"));
        let (tracker, token) = (TaskTracker::new(), CancellationToken::new());
        let informers =
            RemoteInformers::new(cluster.client("t"), SystemClock::shared(), tracker.clone(), token.clone());
        let typed = Typed::<ConfigMap>::all(&*informers);
        let mut changes = typed.informer().subscribe();
        assert_eq!(next(&mut changes).await, "applied a/one 1");
        assert_eq!(next(&mut changes).await, "synced");
        cluster.put(&resource, config_map("one", "2"));
        assert_eq!(next(&mut changes).await, "applied a/one 2");
        assert_eq!(typed.get("a", "one").unwrap().data.unwrap()["key"], "2");

        // Cut off, the watch resumes where it was.
        cluster.cut_watches();
        cluster.put(&resource, config_map("two", "1"));
        assert_eq!(next(&mut changes).await, "applied a/two 1");

        // Where it was no longer exists: listed anew, told as a difference.
        cluster.compact_and_cut(|cluster| {
            cluster.remove(&resource, &ObjectKey::new("a", "one"));
            cluster.put(&resource, config_map("two", "2"));
        });
        assert_eq!(next(&mut changes).await, "deleted a/one");
        assert_eq!(next(&mut changes).await, "applied a/two 2");

        token.cancel();
        tracker.close();
        tracker.wait().await;
    }

    #[tokio::test]
    async fn a_streaming_list_follows_the_server() {
        follows_the_server(true).await;
    }

    #[tokio::test]
    async fn list_and_watch_follow_the_server() {
        follows_the_server(false).await;
    }
}
