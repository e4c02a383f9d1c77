//! Which pods there are: a worker for each, told what changes, until it has nothing left to do.
//!
//! Pods come from the API server (those bound to this node), from files of the node, and from the runtime: what runs there
//! and belongs to no pod any more is ended. Who is admitted is decided here, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::cri::ContainerEventResponse;
use api::object::ObjectKey;
use client::informer::{Change, Informer, Scope};
use client::typed::{decode, scope_of};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ending::{Ending, Line};
use super::mirror;
use super::remains;
use super::resize::{self, Allocation, Pending, Resize};
use super::spec;
use super::statics::Statics;
use super::worker::{Desired, Static, Worker};
use crate::admission;
use crate::context::Context;
use crate::eviction;
use crate::names;
use crate::runtime::{Known, known};
use crate::shutdown;
use crate::status::Verdict;
use crate::sysctls;

/// The pods of the node as others may ask for them.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    known: Arc<Mutex<BTreeMap<String, Arc<Pod>>>>,
    lines: Arc<Mutex<BTreeMap<String, Arc<Line>>>>,
}

impl Pods {
    /// The line to a pod's worker, while it has one.
    pub(crate) fn line(&self, uid: &str) -> Option<Arc<Line>> {
        self.lines.lock().get(uid).cloned()
    }

    /// Ends a pod for a reason of the node's. `None` if nobody works for it.
    pub(crate) fn end(&self, uid: &str, ending: Ending) -> Option<watch::Receiver<bool>> {
        Some(self.line(uid)?.end(ending))
    }

    pub(crate) fn list(&self) -> Vec<Arc<Pod>> {
        self.known.lock().values().cloned().collect()
    }

    /// A pod by name, which where a UID is given must have it.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Arc<Pod>> {
        let known = self.known.lock();
        let meant = |pod: &&Arc<Pod>| {
            let metadata = &pod.metadata;
            (metadata.namespace.as_deref(), metadata.name.as_deref()) == (Some(namespace), Some(name))
                && uid.is_none_or(|uid| metadata.uid.as_deref() == Some(uid))
        };
        known.values().find(meant).cloned()
    }
}

pub(crate) struct Manager {
    context: Arc<Context>,
    pods: Pods,
    workers: BTreeMap<String, Handle>,
    running: JoinSet<String>,
    token: CancellationToken,
    /// The node as the API server has it: its labels, for admission.
    node: Arc<dyn Informer>,
    /// Of the node, while it is registered.
    node_uid: Option<String>,
    statics: Statics,
    /// What the API server has of static pods.
    mirrors: BTreeMap<ObjectKey, Arc<Pod>>,
    /// UIDs of mirrors that are being deleted since there is nothing that they show.
    orphans: BTreeSet<String>,
    /// UIDs of pods that ask for something else than they have.
    unsettled: BTreeSet<String>,
    /// All pods are known: only now can it be said what is left for one of them.
    complete: bool,
}

/// How a worker is reached.
struct Handle {
    desired: watch::Sender<Desired>,
    line: Arc<Line>,
    admitted: bool,
    key: ObjectKey,
    resize: Arc<Mutex<Resize>>,
}

impl Handle {
    /// The pod as the API server has it.
    fn of_api(&self) -> Option<Arc<Pod>> {
        match &*self.desired.borrow() {
            Desired::Pod(pod) => Some(Arc::clone(pod)),
            Desired::Static(_) | Desired::Gone(_) => None,
        }
    }

    /// What it is to bring about, if its pod is a static one.
    fn of_file(&self) -> Option<Static> {
        match &*self.desired.borrow() {
            Desired::Static(it) => Some(it.clone()),
            Desired::Pod(_) | Desired::Gone(_) => None,
        }
    }
}

/// The scope of the pods that are bound to a node.
pub(crate) fn scope(node_name: &str) -> Scope {
    scope_of::<Pod>().with_fields(&format!("spec.nodeName={node_name}"))
}

impl Manager {
    pub(crate) fn new(context: Arc<Context>, pods: Pods, token: CancellationToken) -> Self {
        let scope = scope_of::<Node>().with_fields(&format!("metadata.name={}", context.config.node_name));
        let node = context.informers.informer(scope);
        let (files, name) = (context.config.static_pods.clone(), &context.config.node_name);
        Self {
            statics: Statics::new(files, name, Arc::clone(&context.clock)),
            context,
            pods,
            workers: BTreeMap::new(),
            running: JoinSet::new(),
            token,
            node,
            node_uid: None,
            mirrors: BTreeMap::new(),
            orphans: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            complete: false,
        }
    }

    /// Runs until the token is cancelled.
    pub(crate) async fn run(mut self) {
        let informer = self.context.informers.informer(scope(&self.context.config.node_name));
        let mut changes = informer.subscribe();
        let mut node = self.node.subscribe();
        let mut events = self.subscribe().await;
        let token = self.token.clone();
        self.read_files();
        let mut services = Box::pin(synced(self.context.services.informer().subscribe()));
        // A container that starts must know every Service there is, but for those of static pods: they wait for nobody.
        let mut ready = false;
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                () = &mut services, if !ready => ready = true,
                () = self.statics.changed() => self.read_files(),
                change = node.recv() => match change {
                    Some(_) => self.node_changed(),
                    None => node = self.node.subscribe(),
                },
                change = changes.recv(), if ready => match change {
                    Some(Change::Synced) => {
                        self.end_orphans(&*informer).await;
                        self.complete = true;
                        self.settle_resizes();
                    }
                    Some(Change::Resync) => self.compare(&*informer),
                    Some(change) => self.take(change),
                    None => changes = informer.subscribe(),
                },
                event = events.next() => match event {
                    Some(Ok(event)) => self.wake(&event),
                    // Events were lost: subscribe anew, then everybody looks.
                    _ => {
                        events = self.subscribe().await;
                        self.wake_all();
                    }
                },
                Some(ended) = self.running.join_next(), if !self.running.is_empty() => self.ended(ended),
            }
        }
        while self.running.join_next().await.is_some() {}
    }

    /// The runtime's events. While it cannot give them the workers look at each of their own events, and once a second
    /// it is asked again.
    async fn subscribe(&self) -> BoxStream<'static, api::cri::Result<ContainerEventResponse>> {
        loop {
            match self.context.runtime.service.container_events().await {
                Ok(events) => return events,
                Err(error) => tracing::warn!(%error, "runtime gives no events"),
            }
            let again = self.context.clock.after(std::time::Duration::from_secs(1));
            tokio::select! {
                () = again => {}
                () = self.token.cancelled() => return futures::stream::pending().boxed(),
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Applied { old, new } => {
                // After a list another pod may have the name: of the first nothing else is told.
                if let Some(old) = old.filter(|old| old.uid != new.uid) {
                    self.take(Change::Deleted(old));
                }
                match decode::<Pod>(&new) {
                    Some(pod) if mirror::is_mirror(&pod) => self.mirrored(Arc::new(pod)),
                    Some(pod) => self.applied(Arc::new(pod)),
                    None => {}
                }
            }
            Change::Deleted(entry) => {
                self.unmirrored(&entry.key, &entry.uid);
                let last = decode::<Pod>(&entry).map(Arc::new);
                if let (Some(handle), Some(last)) = (self.workers.get(&entry.uid), last) {
                    self.pods.known.lock().remove(&entry.uid);
                    handle.desired.send_replace(Desired::Gone(last));
                }
            }
            Change::Synced | Change::Resync => {}
        }
    }

    /// Changes were lost: everything is taken anew, and what is not there is gone.
    fn compare(&mut self, informer: &dyn Informer) {
        let entries = informer.list(None);
        let gone: Vec<Arc<Pod>> = self
            .pods
            .list()
            .into_iter()
            .filter(|pod| !spec::is_static(pod))
            .filter(|pod| !entries.iter().any(|entry| Some(&entry.uid) == pod.metadata.uid.as_ref()))
            .collect();
        let unmirrored: Vec<(ObjectKey, String)> = self
            .mirrors
            .iter()
            .map(|(key, mirror)| (key.clone(), mirror.metadata.uid.clone().unwrap_or_default()))
            .filter(|(_, uid)| !entries.iter().any(|entry| entry.uid == *uid))
            .collect();
        for (key, uid) in unmirrored {
            self.unmirrored(&key, &uid);
        }
        for pod in gone {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            self.pods.known.lock().remove(&uid);
            if let Some(handle) = self.workers.get(&uid) {
                handle.desired.send_replace(Desired::Gone(pod));
            }
        }
        for entry in entries {
            self.take(Change::Applied { old: None, new: entry });
        }
    }

    fn applied(&mut self, pod: Arc<Pod>) {
        let Some(uid) = pod.metadata.uid.clone() else { return };
        if self.workers.get(&uid).is_some_and(|it| it.of_file().is_some()) {
            tracing::warn!(pod = super::plan::pod_text(&pod), "a static pod has the UID of this pod, which is not run");
            return;
        }
        let pod = from_api(pod);
        if let Some(handle) = self.workers.get(&uid) {
            let resize = handle.resize.lock().clone();
            self.pods.known.lock().insert(uid.clone(), resize.applied(&pod));
            let wanted = resize.is_wanted(&pod);
            if wanted {
                self.unsettled.insert(uid);
            }
            let ended = spec::has_ended(&pod);
            handle.desired.send_replace(Desired::Pod(pod));
            if wanted || ended || resize.pending.is_some() {
                self.settle_resizes();
            }
            return;
        }
        let earlier = Allocation::read(&self.context.config, &uid);
        let resize = Resize { allocation: earlier.or_else(|| Some(Allocation::of(&pod))), ..Resize::default() };
        let given = resize.applied(&pod);
        self.pods.known.lock().insert(uid.clone(), Arc::clone(&given));
        let verdict = self.admit(&given);
        if verdict.is_none() {
            self.keep_allocation(&uid, &resize);
        }
        if resize.is_wanted(&pod) {
            self.unsettled.insert(uid.clone());
        }
        self.start(uid, Desired::Pod(pod), verdict, resize);
        self.settle_resizes();
    }

    fn keep_allocation(&self, uid: &str, resize: &Resize) {
        let kept = resize.allocation.as_ref().map_or(Ok(()), |it| it.write(&self.context.config, uid));
        if let Err(error) = kept {
            tracing::warn!(uid, %error, "what a pod has been given is not kept: a restart may give it more");
        }
    }

    /// Looks who of those that ask for something else can have it.
    fn settle_resizes(&mut self) {
        if !self.complete || self.unsettled.is_empty() {
            return;
        }
        let all = std::mem::take(&mut self.unsettled);
        let mut wishes: Vec<(String, Arc<Pod>)> = Vec::new();
        for uid in all {
            let Some(handle) = self.workers.get(&uid) else { continue };
            match handle.of_api().filter(|pod| handle.admitted && !spec::has_ended(pod)) {
                Some(pod) if handle.resize.lock().is_wanted(&pod) => wishes.push((uid, pod)),
                _ => {
                    handle.resize.lock().pending = None;
                    handle.line.wake().notify_one();
                }
            }
        }
        let key = |(uid, pod): &(String, Arc<Pod>)| {
            let resize = self.workers.get(uid).map(|handle| handle.resize.lock().clone()).unwrap_or_default();
            resize::order(pod, &resize)
        };
        wishes.sort_by_cached_key(key);
        for (uid, pod) in wishes {
            self.settle_resize(uid, &pod);
        }
    }

    fn settle_resize(&mut self, uid: String, pod: &Arc<Pod>) {
        let Some(handle) = self.workers.get(&uid) else { return };
        let refused = self.refusal(pod);
        let about = super::events::reference(pod, "");
        let generation = pod.metadata.generation;
        let mut resize = handle.resize.lock();
        match refused {
            None => {
                *resize = Resize { allocation: Some(Allocation::of(pod)), pending: None, granted: generation };
                self.keep_allocation(&uid, &resize);
                let message = resize::summary("started", pod, generation, "");
                self.context.recorder.normal(&about, "ResizeStarted", message);
                self.pods.known.lock().insert(uid.clone(), Arc::clone(pod));
            }
            Some(verdict) => {
                let told = resize.pending.as_ref().is_some_and(|before| before.generation == generation);
                if !told {
                    let message = resize::summary(resize::DEFERRED, pod, generation, &verdict.message);
                    self.context.recorder.warning(&about, "ResizeDeferred", message);
                }
                resize.pending = Some(Pending { message: verdict.message, generation });
                self.unsettled.insert(uid.clone());
            }
        }
        handle.line.wake().notify_one();
    }

    /// The static pods as their files say now.
    fn read_files(&mut self) {
        self.statics.read();
        self.settle_statics();
    }

    fn node_changed(&mut self) {
        let uid = self.node.list(None).first().map(|entry| entry.uid.clone());
        if uid != self.node_uid {
            self.node_uid = uid;
            self.settle_statics();
        }
        // It may have more to give.
        self.settle_resizes();
    }

    fn mirrored(&mut self, mirror: Arc<Pod>) {
        self.mirrors.insert(spec::key(&mirror), mirror);
        self.settle_statics();
    }

    fn unmirrored(&mut self, key: &ObjectKey, uid: &str) {
        self.orphans.remove(uid);
        if self.mirrors.get(key).is_some_and(|mirror| mirror.metadata.uid.as_deref() == Some(uid)) {
            self.mirrors.remove(key);
            self.settle_statics();
        }
    }

    /// Brings the workers of static pods to what files and mirrors say. A pod whose file changed ends before the one that
    /// takes its name begins.
    fn settle_statics(&mut self) {
        let wanted = self.statics.pods();
        let uid_of = |pod: &Arc<Pod>| pod.metadata.uid.clone().unwrap_or_default();
        for (uid, handle) in &self.workers {
            let Some(mut now) = handle.of_file() else { continue };
            let pod = wanted.get(&handle.key).filter(|pod| !now.gone && uid_of(pod) == *uid);
            let before = now.clone();
            now.gone = pod.is_none();
            now.pod = pod.cloned().unwrap_or(now.pod);
            now.mirror = self.mirrors.get(&handle.key).cloned();
            now.node.clone_from(&self.node_uid);
            match now.gone {
                true => drop(self.pods.known.lock().remove(uid)),
                false => drop(self.pods.known.lock().insert(uid.clone(), Arc::new(now.shown()))),
            }
            if !now.same(&before) {
                handle.desired.send_replace(Desired::Static(now));
            }
        }
        let held: BTreeSet<ObjectKey> =
            self.workers.values().filter(|it| it.of_file().is_some()).map(|it| it.key.clone()).collect();
        for (key, pod) in &wanted {
            let uid = uid_of(pod);
            if held.contains(key) || self.workers.contains_key(&uid) {
                continue;
            }
            let (mirror, node) = (self.mirrors.get(key).cloned(), self.node_uid.clone());
            let begun = Static { pod: Arc::clone(pod), mirror, node, gone: false };
            self.pods.known.lock().insert(uid.clone(), Arc::new(begun.shown()));
            let verdict = self.admit(pod);
            self.start(uid, Desired::Static(begun), verdict, Resize::default());
        }
        let orphans = self.mirrors.iter().filter(|(key, _)| !wanted.contains_key(key) && !held.contains(key));
        for (_, mirror) in orphans {
            if self.orphans.insert(uid_of(mirror)) {
                let deleted = mirror::delete_orphan(Arc::clone(&self.context), Arc::clone(mirror), self.token.clone());
                self.context.tasks.spawn(deleted);
            }
        }
    }

    /// Whether the node takes a pod that is new to it. One that has begun before was admitted then.
    fn admit(&self, pod: &Pod) -> Option<Verdict> {
        let status = pod.status.clone().unwrap_or_default();
        let begun = status.start_time.is_some() || pod.metadata.deletion_timestamp.is_some();
        if begun || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let verdict = self.refusal(pod)?;
        let about = super::events::reference(pod, "");
        self.context.recorder.warning(&about, &verdict.reason, verdict.message.clone());
        Some(verdict)
    }

    /// Why a pod cannot have what it asks for beside the others.
    fn refusal(&self, pod: &Pod) -> Option<Verdict> {
        let others: Vec<Arc<Pod>> = self
            .pods
            .list()
            .into_iter()
            .filter(|other| other.metadata.uid != pod.metadata.uid)
            .filter(|other| other.metadata.uid.as_ref().is_some_and(|uid| self.is_admitted(uid)))
            .collect();
        let node = self.node.list(None).first().and_then(|entry| decode::<Node>(entry));
        let capacity = self.context.capacity.read().allocatable();
        let admitted = shutdown::admit(&self.context.config)
            .and_then(|()| eviction::plan::admit(pod, *self.context.pressure.borrow()))
            .and_then(|()| sysctls::admit(pod, &self.context.config.allowed_unsafe_sysctls))
            .and_then(|()| admission::admit(pod, &others, &capacity, node.as_ref()));
        admitted.err()
    }

    fn is_admitted(&self, uid: &str) -> bool {
        self.workers.get(uid).is_some_and(|handle| handle.admitted)
    }

    fn start(&mut self, uid: String, desired: Desired, verdict: Option<Verdict>, resize: Resize) {
        let admitted = verdict.is_none();
        let key = match &desired {
            Desired::Pod(pod) | Desired::Gone(pod) => spec::key(pod),
            Desired::Static(it) => spec::key(&it.pod),
        };
        let (sender, receiver) = watch::channel(desired);
        // Of a worker that panicked it is there already, with what was asked.
        let line = Arc::clone(self.pods.lines.lock().entry(uid.clone()).or_default());
        let resize = Arc::new(Mutex::new(resize));
        let worker = Worker::new(
            Arc::clone(&self.context),
            uid.clone(),
            receiver,
            Arc::clone(&line),
            Arc::clone(&resize),
            verdict,
        );
        let (name, token) = (uid.clone(), self.token.clone());
        self.running.spawn(async move {
            worker.run(token).await;
            name
        });
        self.workers.insert(uid, Handle { desired: sender, line, admitted, key, resize });
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.pods.lines.lock().remove(&uid);
                let was_static = self.workers.remove(&uid).is_some_and(|it| it.of_file().is_some());
                if was_static {
                    self.settle_statics();
                }
                self.settle_resizes();
            }
            Err(error) => {
                tracing::error!(%error, "a pod's worker panicked");
                self.restart_lost();
            }
        }
    }

    /// A worker that panicked has dropped its receiver: its pod gets a new one, which looks at the runtime.
    fn restart_lost(&mut self) {
        let lost: Vec<String> =
            self.workers.iter().filter(|(_, it)| it.desired.is_closed()).map(|(uid, _)| uid.clone()).collect();
        for uid in lost {
            if let Some(handle) = self.workers.remove(&uid) {
                let desired = handle.desired.borrow().clone();
                let resize = handle.resize.lock().clone();
                self.start(uid, desired, None, resize);
            }
        }
    }

    /// Ends what the runtime or the disk has of pods that no source has.
    async fn end_orphans(&mut self, informer: &dyn Informer) {
        let running = match self.context.runtime.pods().await {
            Ok(running) => running,
            Err(error) => {
                tracing::warn!(%error, "runtime does not list its pods");
                return;
            }
        };
        let listed = informer.list(None);
        let known: Vec<String> = running.iter().map(|it| it.uid.clone()).collect();
        let remains = remains::on_disk(&self.context.config).into_iter().filter(|it| !known.contains(&it.uid));
        for pod in running.into_iter().chain(remains) {
            if self.workers.contains_key(&pod.uid) || listed.iter().any(|entry| entry.uid == pod.uid) {
                continue;
            }
            tracing::info!(namespace = pod.namespace, name = pod.name, uid = pod.uid, "ending a pod that is deleted");
            self.start(pod.uid.clone(), Desired::Gone(Arc::new(remembered(&pod))), None, Resize::default());
        }
    }

    fn wake(&self, event: &ContainerEventResponse) {
        let sandbox = event.pod_sandbox_status.as_ref().and_then(|status| known(&status.labels));
        let container = || event.containers_statuses.iter().find_map(|status| known(&status.labels));
        match sandbox.or_else(container) {
            Some(pod) => {
                if let Some(handle) = self.workers.get(&pod.uid) {
                    handle.line.wake().notify_one();
                }
            }
            // Whose it is isn't said.
            None => self.wake_all(),
        }
    }

    fn wake_all(&self) {
        for handle in self.workers.values() {
            handle.line.wake().notify_one();
        }
    }
}

/// Completes when an informer's first list is there.
async fn synced(mut changes: mpsc::Receiver<Change>) {
    while let Some(change) = changes.recv().await {
        if matches!(change, Change::Synced | Change::Resync) {
            return;
        }
    }
}

/// A pod of the API server is none of a file, whatever it says of itself.
fn from_api(mut pod: Arc<Pod>) -> Arc<Pod> {
    if spec::is_static(&pod) {
        let annotations = Arc::make_mut(&mut pod).metadata.annotations.get_or_insert_default();
        annotations.insert(names::CONFIG_SOURCE.to_owned(), "api".to_owned());
    }
    pod
}

/// A pod of which only the runtime's labels are left.
fn remembered(pod: &Known) -> Pod {
    let metadata = ObjectMeta {
        name: Some(pod.name.clone()),
        namespace: Some(pod.namespace.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectMeta::default()
    };
    Pod { metadata, ..Pod::default() }
}
