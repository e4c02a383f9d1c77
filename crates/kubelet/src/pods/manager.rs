//! Which pods there are: a worker for each, told what changes, until it has nothing left to do.
//!
//! Pods come from the API server (those bound to this node) and from the runtime: what runs there and belongs to no pod
//! any more is ended. Who is admitted is decided here, one after the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::cri::ContainerEventResponse;
use client::informer::{Change, Informer, Scope};
use client::typed::{decode, scope_of};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::remains;
use super::worker::{Desired, Worker};
use crate::admission;
use crate::context::Context;
use crate::runtime::{Known, known};
use crate::status::Verdict;

/// The pods of the node as others may ask for them.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    known: Arc<Mutex<BTreeMap<String, Arc<Pod>>>>,
}

impl Pods {
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
}

/// How a worker is reached.
struct Handle {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
    admitted: bool,
}

/// The scope of the pods that are bound to a node.
pub(crate) fn scope(node_name: &str) -> Scope {
    scope_of::<Pod>().with_fields(&format!("spec.nodeName={node_name}"))
}

impl Manager {
    pub(crate) fn new(context: Arc<Context>, pods: Pods, token: CancellationToken) -> Self {
        let scope = scope_of::<Node>().with_fields(&format!("metadata.name={}", context.config.node_name));
        let node = context.informers.informer(scope);
        Self { context, pods, workers: BTreeMap::new(), running: JoinSet::new(), token, node }
    }

    /// Runs until the token is cancelled.
    pub(crate) async fn run(mut self) {
        let informer = self.context.informers.informer(scope(&self.context.config.node_name));
        let mut changes = informer.subscribe();
        let mut events = self.subscribe().await;
        let token = self.token.clone();
        let services = self.context.services.informer().subscribe();
        // A container that starts must know every Service there is.
        let _synced = token.run_until_cancelled(synced(services)).await;
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                change = changes.recv() => match change {
                    Some(Change::Synced) => self.end_orphans(&*informer).await,
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
                if let Some(pod) = decode::<Pod>(&new) {
                    self.applied(Arc::new(pod));
                }
            }
            Change::Deleted(entry) => {
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
            .filter(|pod| !entries.iter().any(|entry| Some(&entry.uid) == pod.metadata.uid.as_ref()))
            .collect();
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
        self.pods.known.lock().insert(uid.clone(), Arc::clone(&pod));
        if let Some(handle) = self.workers.get(&uid) {
            handle.desired.send_replace(Desired::Pod(pod));
            return;
        }
        let verdict = self.admit(&pod);
        self.start(uid, Desired::Pod(pod), verdict);
    }

    /// Whether the node takes a pod that is new to it. One that has begun before was admitted then.
    fn admit(&self, pod: &Pod) -> Option<Verdict> {
        let status = pod.status.clone().unwrap_or_default();
        let begun = status.start_time.is_some() || pod.metadata.deletion_timestamp.is_some();
        if begun || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let others: Vec<Arc<Pod>> = self
            .pods
            .list()
            .into_iter()
            .filter(|other| other.metadata.uid != pod.metadata.uid)
            .filter(|other| other.metadata.uid.as_ref().is_some_and(|uid| self.is_admitted(uid)))
            .collect();
        let node = self.node.list(None).first().and_then(|entry| decode::<Node>(entry));
        let capacity = self.context.capacity.read().allocatable();
        let verdict = admission::admit(pod, &others, &capacity, node.as_ref()).err()?;
        let about = super::events::reference(pod, "");
        self.context.recorder.warning(&about, &verdict.reason, verdict.message.clone());
        Some(verdict)
    }

    fn is_admitted(&self, uid: &str) -> bool {
        self.workers.get(uid).is_some_and(|handle| handle.admitted)
    }

    fn start(&mut self, uid: String, desired: Desired, verdict: Option<Verdict>) {
        let admitted = verdict.is_none();
        let (sender, receiver) = watch::channel(desired);
        let wake = Arc::new(Notify::new());
        let worker = Worker::new(Arc::clone(&self.context), uid.clone(), receiver, Arc::clone(&wake), verdict);
        let (name, token) = (uid.clone(), self.token.clone());
        self.running.spawn(async move {
            worker.run(token).await;
            name
        });
        self.workers.insert(uid, Handle { desired: sender, wake, admitted });
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            Ok(uid) => {
                self.workers.remove(&uid);
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
                self.start(uid, desired, None);
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
            self.start(pod.uid.clone(), Desired::Gone(Arc::new(remembered(&pod))), None);
        }
    }

    fn wake(&self, event: &ContainerEventResponse) {
        let sandbox = event.pod_sandbox_status.as_ref().and_then(|status| known(&status.labels));
        let container = || event.containers_statuses.iter().find_map(|status| known(&status.labels));
        match sandbox.or_else(container) {
            Some(pod) => {
                if let Some(handle) = self.workers.get(&pod.uid) {
                    handle.wake.notify_one();
                }
            }
            // Whose it is isn't said.
            None => self.wake_all(),
        }
    }

    fn wake_all(&self) {
        for handle in self.workers.values() {
            handle.wake.notify_one();
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
