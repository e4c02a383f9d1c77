//! A cluster in memory, for the tests of whoever talks to an API server.
//!
//! [`FakeCluster`] keeps documents and speaks just enough of the API: get, list, watch (with bookmarks and streaming
//! lists), create, merge patch, update, delete with finalizers and preconditions, discovery. It records requests, and can
//! be made to fail, to forget its history, and to keep news from informers, which is how stale caches are tested.
//! It validates and defaults nothing: what an API server must do is tested on the real one.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::{GroupVersionResource, api_version};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::informer::{Informer, Informers, Scope};
use crate::patch::merge;
use crate::shared::{EntryMap, SharedStore};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A request as the server saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Who asked: the name given to [`FakeCluster::client`].
    pub identity: String,
    pub method: String,
    pub path: String,
    pub query: String,
    /// `null` if there was none.
    pub body: Value,
}

impl Recorded {
    /// `PATCH /api/v1/nodes/n1/status`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The cluster.
pub struct FakeCluster {
    state: Mutex<State>,
    /// Moves with each write, and when watches are cut.
    moved: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    revision: u64,
    uids: u64,
    objects: BTreeMap<GroupVersionResource, EntryMap>,
    history: Vec<(GroupVersionResource, &'static str, Arc<Entry>)>,
    compacted: u64,
    /// Watches opened in an older generation have ended.
    generation: u64,
    served: BTreeMap<GroupVersionResource, (String, bool)>,
    requests: Vec<Recorded>,
    informers: Vec<(Scope, Arc<SharedStore>)>,
    /// What informers of these resources have not been told.
    held: BTreeMap<GroupVersionResource, Vec<(&'static str, Arc<Entry>)>>,
    refuse_streaming_lists: bool,
    failing: bool,
    refusals: Vec<(String, Value)>,
}

impl FakeCluster {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), moved: watch::Sender::new(0) })
    }

    /// A client whose requests are recorded under `identity`.
    pub fn client(self: &Arc<Self>, identity: &str) -> kube::Client {
        let (cluster, identity) = (self.clone(), identity.to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (cluster, identity) = (cluster.clone(), identity.clone());
            async move { cluster.serve(&identity, request).await }
        });
        kube::Client::new(service, "default")
    }

    /// Informers that follow the cluster at once, unless held back.
    pub fn informers(self: &Arc<Self>) -> Arc<dyn Informers> {
        Arc::new(FakeInformers(self.clone()))
    }

    /// Lists a resource in discovery.
    pub fn serve_resource(&self, resource: &GroupVersionResource, kind: &str, namespaced: bool) {
        self.state.lock().served.insert(resource.clone(), (kind.to_owned(), namespaced));
    }

    /// Creates or replaces an object and answers with it as stored.
    pub fn put(&self, resource: &GroupVersionResource, object: Value) -> Value {
        self.write(|state| state.put(resource, object))
    }

    /// Removes an object whatever its finalizers say.
    pub fn remove(&self, resource: &GroupVersionResource, key: &ObjectKey) {
        self.write(|state| state.remove(resource, key));
    }

    pub fn get(&self, resource: &GroupVersionResource, key: &ObjectKey) -> Option<Value> {
        self.state.lock().get(resource, key).map(|entry| entry.to_value())
    }

    /// All objects of a resource in key order.
    pub fn list(&self, resource: &GroupVersionResource) -> Vec<Value> {
        self.state.lock().list(resource).iter().map(|entry| entry.to_value()).collect()
    }

    /// What was asked since the last call, watches and lists included.
    pub fn take_requests(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// The lines of the writes since the last call.
    pub fn take_writes(&self) -> Vec<String> {
        self.take_requests().iter().filter(|request| request.method != "GET").map(Recorded::line).collect()
    }

    /// While `hold`, informers of the resource are told nothing; after that, all they missed.
    pub fn hold_informers(&self, resource: &GroupVersionResource, hold: bool) {
        let mut state = self.state.lock();
        if hold {
            state.held.entry(resource.clone()).or_default();
            return;
        }
        for (kind, entry) in state.held.remove(resource).unwrap_or_default() {
            state.inform(resource, kind, &entry);
        }
    }

    pub fn refuse_streaming_lists(&self, refuse: bool) {
        self.state.lock().refuse_streaming_lists = refuse;
    }

    /// Every request is answered with 500.
    pub fn fail_requests(&self, failing: bool) {
        self.state.lock().failing = failing;
    }

    /// The next request whose [`Recorded::line`] is `line` is answered with this Status.
    pub fn refuse_once(&self, line: &str, status: Value) {
        self.state.lock().refusals.push((line.to_owned(), status));
    }

    /// Ends all open watches.
    pub fn cut_watches(&self) {
        self.compact_and_cut_if(false, |_| {});
    }

    /// Does `meanwhile`, forgets history, and ends all open watches, which see nothing of it.
    pub fn compact_and_cut(&self, meanwhile: impl FnOnce(&Self)) {
        self.compact_and_cut_if(true, meanwhile);
    }

    fn compact_and_cut_if(&self, compact: bool, meanwhile: impl FnOnce(&Self)) {
        self.state.lock().generation += 1;
        meanwhile(self);
        let mut state = self.state.lock();
        if compact {
            state.compacted = state.revision;
        }
        drop(state);
        self.moved.send_modify(|moved| *moved += 1);
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock());
        self.moved.send_modify(|moved| *moved += 1);
        result
    }

    async fn serve(self: Arc<Self>, identity: &str, request: Request<Body>) -> Result<Answer, kube::Error> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let recorded = Recorded {
            identity: identity.to_owned(),
            method: parts.method.to_string(),
            path: unescape(parts.uri.path()),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: body.clone(),
        };
        let query = parse_query(&recorded.query);
        if let Some(refused) = self.state.lock().record(recorded.clone()) {
            return Ok(answer(&refused));
        }
        if parts.method == Method::GET
            && let Some(document) = self.state.lock().discovery(&recorded.path)
        {
            return Ok(answer(&document));
        }
        let Some(target) = Target::parse(&recorded.path) else {
            return Ok(answer(&refusal(404, "NotFound", "the server could not find the requested resource")));
        };
        if query.get("watch").is_some_and(|watch| watch != "0" && watch != "false") {
            return Ok(self.watch(&target, &query));
        }
        let answered = match parts.method {
            Method::GET => self.state.lock().read(&target, &query),
            Method::POST => self.write(|state| state.create(&target, body)),
            Method::PATCH | Method::PUT => {
                let replace = parts.method == Method::PUT;
                self.write(|state| state.change(&target, &body, replace))
            }
            Method::DELETE => self.write(|state| state.delete(&target, &body)),
            _ => refusal(405, "MethodNotAllowed", "no such method"),
        };
        Ok(answer(&answered))
    }

    fn watch(self: Arc<Self>, target: &Target, query: &BTreeMap<String, String>) -> Answer {
        let state = self.state.lock();
        let scope = target.scope(query);
        let streaming = query.get("sendInitialEvents").is_some_and(|send| send == "true");
        if streaming && state.refuse_streaming_lists {
            return answer(&refusal(422, "Invalid", "sendInitialEvents is forbidden"));
        }
        let asked: u64 = query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default();
        if !streaming && asked < state.compacted {
            return answer(&refusal(410, "Expired", "too old resource version"));
        }
        let mut lines = VecDeque::new();
        let mut position = state.history.partition_point(|(_, _, entry)| entry.revision <= asked);
        if streaming {
            for entry in state.list(&scope.resource).iter().filter(|entry| selects(&scope, entry)) {
                lines.push_back(line(&json!({"type": "ADDED", "object": entry.to_value()})));
            }
            let metadata = json!({"resourceVersion": state.revision.to_string(),
                                  "annotations": {"k8s.io/initial-events-end": "true"}});
            lines.push_back(line(&json!({"type": "BOOKMARK", "object": {"metadata": metadata}})));
            position = state.history.len();
        }
        let generation = state.generation;
        drop(state);
        let moved = self.moved.subscribe();
        let events = stream::unfold((self, scope, position, moved, lines), move |state| async move {
            let (cluster, scope, mut position, mut moved, mut lines) = state;
            loop {
                if let Some(line) = lines.pop_front() {
                    return Some((line, (cluster, scope, position, moved, lines)));
                }
                moved.borrow_and_update();
                {
                    let state = cluster.state.lock();
                    if state.generation != generation {
                        return None;
                    }
                    for (resource, kind, entry) in &state.history[position..] {
                        if *resource == scope.resource && selects(&scope, entry) {
                            lines.push_back(line(&json!({"type": kind, "object": entry.to_value()})));
                        }
                    }
                    position = state.history.len();
                }
                if lines.is_empty() && moved.changed().await.is_err() {
                    return None;
                }
            }
        });
        let body = StreamBody::new(events.map(|line| Ok(http_body_frame(line))));
        Response::new(body.boxed_unsync())
    }
}

struct FakeInformers(Arc<FakeCluster>);

impl Informers for FakeInformers {
    fn informer(&self, scope: Scope) -> Arc<dyn Informer> {
        let mut state = self.0.state.lock();
        if let Some((_, store)) = state.informers.iter().find(|(known, _)| *known == scope) {
            return store.clone();
        }
        let store = Arc::new(SharedStore::default());
        let objects = state.list(&scope.resource).into_iter().filter(|entry| selects(&scope, entry)).collect();
        store.replace(objects);
        state.informers.push((scope, store.clone()));
        store
    }
}

impl State {
    fn get(&self, resource: &GroupVersionResource, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.objects.get(resource)?.get(key).cloned()
    }

    fn list(&self, resource: &GroupVersionResource) -> Vec<Arc<Entry>> {
        self.objects.get(resource).map(|objects| objects.list(None)).unwrap_or_default()
    }

    /// Notes the request; answers with what it is to be refused with, if it is.
    fn record(&mut self, request: Recorded) -> Option<Value> {
        let line = request.line();
        self.requests.push(request);
        if self.failing {
            return Some(refusal(500, "InternalError", "the fake cluster was told to fail"));
        }
        let at = self.refusals.iter().position(|(refused, _)| *refused == line)?;
        Some(self.refusals.remove(at).1)
    }

    fn put(&mut self, resource: &GroupVersionResource, mut object: Value) -> Value {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let key = ObjectKey::new(namespace, name);
        let held = self.get(resource, &key);
        self.revision += 1;
        if object["metadata"]["uid"].is_null() {
            self.uids += 1;
            let uid = held.as_ref().map_or_else(|| format!("uid-{}", self.uids), |held| held.uid.clone());
            object["metadata"]["uid"] = json!(uid);
        }
        if object["metadata"]["creationTimestamp"].is_null() {
            object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        if object["kind"].is_null()
            && let Some((kind, _)) = self.served.get(resource)
        {
            object["kind"] = json!(kind);
        }
        if object["apiVersion"].is_null() {
            object["apiVersion"] = json!(api_version(&resource.group, &resource.version));
        }
        let entry = Arc::new(Entry::from_value(object, self.revision, &[]).expect("tests give objects a name"));
        let kind = if held.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.entry(resource.clone()).or_default().insert(entry.clone());
        self.publish(resource, kind, entry.clone());
        entry.to_value()
    }

    fn remove(&mut self, resource: &GroupVersionResource, key: &ObjectKey) {
        let Some(entry) = self.objects.get_mut(resource).and_then(|objects| objects.remove(key)) else { return };
        self.revision += 1;
        let last = Entry::from_value(entry.to_value(), self.revision, &[]).expect("it was an object before");
        self.publish(resource, "DELETED", Arc::new(last));
    }

    fn publish(&mut self, resource: &GroupVersionResource, kind: &'static str, entry: Arc<Entry>) {
        self.history.push((resource.clone(), kind, entry.clone()));
        match self.held.get_mut(resource) {
            Some(held) => held.push((kind, entry)),
            None => self.inform(resource, kind, &entry),
        }
    }

    fn inform(&self, resource: &GroupVersionResource, kind: &str, entry: &Arc<Entry>) {
        for (scope, store) in self.informers.iter().filter(|(scope, _)| scope.resource == *resource) {
            match kind {
                "DELETED" => store.delete(entry.clone()),
                _ if selects(scope, entry) => store.apply(entry.clone()),
                _ => store.delete(entry.clone()),
            }
        }
    }

    fn read(&self, target: &Target, query: &BTreeMap<String, String>) -> Value {
        if let Some(key) = target.key() {
            return match self.get(&target.resource, &key) {
                Some(entry) => entry.to_value(),
                None => target.not_found(),
            };
        }
        let scope = target.scope(query);
        let items: Vec<Value> = self
            .list(&target.resource)
            .iter()
            .filter(|entry| selects(&scope, entry))
            .map(|entry| entry.to_value())
            .collect();
        let kind = self.served.get(&target.resource).map_or("", |(kind, _)| kind);
        json!({"kind": format!("{kind}List"), "apiVersion": api_version(&target.resource.group, &target.resource.version),
               "metadata": {"resourceVersion": self.revision.to_string()}, "items": items})
    }

    fn create(&mut self, target: &Target, mut object: Value) -> Value {
        if target.subresource.is_some() {
            return json!({"kind": "Status", "status": "Success", "code": 201});
        }
        if !target.namespace.is_empty() {
            object["metadata"]["namespace"] = json!(target.namespace);
        }
        if object["metadata"]["name"].is_null() {
            let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default().to_owned();
            self.uids += 1;
            object["metadata"]["name"] = json!(format!("{prefix}{:05}", self.uids));
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.get(&target.resource, &ObjectKey::new(&target.namespace, &name)).is_some() {
            let message = format!("{} \"{name}\" already exists", target.resource.resource);
            return refusal(409, "AlreadyExists", &message);
        }
        self.put(&target.resource, object)
    }

    fn change(&mut self, target: &Target, change: &Value, replace: bool) -> Value {
        let Some(key) = target.key() else { return refusal(405, "MethodNotAllowed", "a collection cannot be patched") };
        let Some(held) = self.get(&target.resource, &key) else { return target.not_found() };
        let held = held.to_value();
        for guard in ["uid", "resourceVersion"] {
            let wanted = &change["metadata"][guard];
            if !wanted.is_null() && *wanted != held["metadata"][guard] {
                let message = format!("Operation cannot be fulfilled on \"{}\": {guard} mismatch", key.name);
                return refusal(409, "Conflict", &message);
            }
        }
        let mut object = if replace { change.clone() } else { held.clone() };
        if !replace {
            merge(&mut object, change);
        }
        match target.subresource.as_deref() {
            Some("status") => {
                let status = object["status"].take();
                let annotations = object["metadata"]["annotations"].take();
                object = held.clone();
                object["status"] = status;
                // These a status carries along.
                if !annotations.is_null() {
                    object["metadata"]["annotations"] = annotations;
                }
            }
            Some(_) => {}
            None => {
                object["status"] = held["status"].clone();
                if object["spec"] != held["spec"] {
                    let generation = held["metadata"]["generation"].as_i64().unwrap_or(1);
                    object["metadata"]["generation"] = json!(generation + 1);
                }
            }
        }
        if object["status"].is_null()
            && let Some(object) = object.as_object_mut()
        {
            object.remove("status");
        }
        if object == held {
            return held;
        }
        let stored = self.put(&target.resource, object);
        self.finish_deletion(target, &key, &stored);
        stored
    }

    fn delete(&mut self, target: &Target, options: &Value) -> Value {
        let Some(key) = target.key() else {
            let scope = target.scope(&BTreeMap::new());
            let all: Vec<_> = self.list(&target.resource).into_iter().filter(|entry| selects(&scope, entry)).collect();
            for entry in all {
                let one = Target { name: Some(entry.key.name.clone()), ..target.clone() };
                self.delete(&Target { namespace: entry.key.namespace.clone(), ..one }, &Value::Null);
            }
            return json!({"kind": "Status", "status": "Success"});
        };
        let Some(held) = self.get(&target.resource, &key) else { return target.not_found() };
        let mut object = held.to_value();
        for guard in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][guard];
            if !wanted.is_null() && *wanted != object["metadata"][guard] {
                return refusal(409, "Conflict", &format!("Precondition failed: {guard} of {}", key.name));
            }
        }
        let mut finalizers = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        let policy = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        if let Some(policy) = policy
            && !finalizers.contains(&json!(policy))
        {
            finalizers.push(json!(policy));
        }
        if finalizers.is_empty() && object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.remove(&target.resource, &key);
            return object;
        }
        object["metadata"]["finalizers"] = Value::Array(finalizers);
        if object["metadata"]["deletionTimestamp"].is_null() {
            object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        self.put(&target.resource, object)
    }

    fn finish_deletion(&mut self, target: &Target, key: &ObjectKey, object: &Value) {
        let none = |pointer: &str| object.pointer(pointer).and_then(Value::as_array).is_none_or(Vec::is_empty);
        let deleting = !object["metadata"]["deletionTimestamp"].is_null();
        if deleting && none("/metadata/finalizers") && none("/spec/finalizers") {
            self.remove(&target.resource, key);
        }
    }

    /// The discovery document at `path`, if there is one.
    fn discovery(&self, path: &str) -> Option<Value> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version) = match parts[..] {
            ["api"] => return Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
            ["apis"] => return Some(self.groups()),
            ["api", version] => ("", version),
            ["apis", group, version] => (group, version),
            _ => return None,
        };
        let resources: Vec<Value> = self
            .served
            .iter()
            .filter(|(resource, _)| resource.group == group && resource.version == version)
            .map(|(resource, (kind, namespaced))| {
                json!({"name": resource.resource, "kind": kind, "namespaced": namespaced,
                       "verbs": api::resource::Verbs::ALL.0})
            })
            .collect();
        Some(json!({"kind": "APIResourceList", "groupVersion": api_version(group, version), "resources": resources}))
    }

    fn groups(&self) -> Value {
        let mut versions: BTreeMap<&str, &str> = BTreeMap::new();
        for resource in self.served.keys().filter(|resource| !resource.group.is_empty()) {
            versions.insert(&resource.group, &resource.version);
        }
        let groups: Vec<Value> = versions
            .iter()
            .map(|(group, version)| {
                let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
                json!({"name": group, "versions": [version], "preferredVersion": version})
            })
            .collect();
        json!({"kind": "APIGroupList", "groups": groups})
    }
}

/// What a path names.
#[derive(Clone)]
struct Target {
    resource: GroupVersionResource,
    namespace: String,
    name: Option<String>,
    subresource: Option<String>,
}

impl Target {
    fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match &parts[..] {
            ["api", version, rest @ ..] => ("", version, rest),
            ["apis", group, version, rest @ ..] => (*group, version, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            // A namespace itself, its status and its finalize are cluster-scoped.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let resource = GroupVersionResource {
            group: group.to_owned(),
            version: (*version).to_owned(),
            resource: (*rest.first()?).to_owned(),
        };
        let text = |at: usize| rest.get(at).map(|part| (*part).to_owned());
        Some(Self { resource, namespace: namespace.to_owned(), name: text(1), subresource: text(2) })
    }

    fn key(&self) -> Option<ObjectKey> {
        Some(ObjectKey::new(&self.namespace, self.name.as_ref()?))
    }

    fn scope(&self, query: &BTreeMap<String, String>) -> Scope {
        Scope {
            resource: self.resource.clone(),
            namespace: Some(self.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            fields: query.get("fieldSelector").cloned().unwrap_or_default(),
            labels: query.get("labelSelector").cloned().unwrap_or_default(),
        }
    }

    fn not_found(&self) -> Value {
        let name = self.name.as_deref().unwrap_or_default();
        refusal(404, "NotFound", &format!("{} \"{name}\" not found", self.resource.resource))
    }
}

/// Whether a scope's namespace and equality selectors choose the object.
fn selects(scope: &Scope, entry: &Entry) -> bool {
    if scope.namespace.as_ref().is_some_and(|namespace| *namespace != entry.key.namespace) {
        return false;
    }
    let pairs = |selector: &str| -> Vec<(String, String)> {
        let pairs = selector.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.trim_start_matches('=').to_owned())).collect()
    };
    let labelled = pairs(&scope.labels).iter().all(|(name, value)| entry.labels.get(name) == Some(value.as_str()));
    let object = entry.to_value();
    labelled
        && pairs(&scope.fields).iter().all(|(path, value)| {
            let pointer = format!("/{}", path.replace('.', "/"));
            object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default() == value
        })
}

/// A `metav1.Status` of failure.
pub fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
           "message": message, "metadata": {}})
}

/// A small object, for tests of what holds entries.
pub fn entry(namespace: &str, name: &str, revision: u64) -> Arc<Entry> {
    let object = json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")}});
    Arc::new(Entry::from_value(object, revision, &[]).expect("it has a name"))
}

fn answer(document: &Value) -> Answer {
    let code = match document["kind"] == "Status" && document["status"] == "Failure" {
        true => document["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(500),
        false => 200,
    };
    let body = StreamBody::new(stream::iter([Ok(http_body_frame(Bytes::from(document.to_string())))]));
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn http_body_frame(bytes: Bytes) -> http_body::Frame<Bytes> {
    http_body::Frame::data(bytes)
}

fn line(event: &Value) -> Bytes {
    Bytes::from(format!("{event}\n"))
}

fn parse_query(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), unescape(value)))
        .collect()
}

/// Undoes percent-encoding; anything malformed stays as it is.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let decoded = (*first == b'%')
            .then(|| tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
