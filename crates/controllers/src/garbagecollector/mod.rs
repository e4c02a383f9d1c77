//! Objects whose owners are gone are deleted here.
//!
//! Every deletable resource is watched, as discovery tells, and a graph of owners and dependents kept. An object is looked at
//! when one of its owners goes, or when it is itself being deleted in the foreground (its dependents first) or with
//! its dependents orphaned. The graph only says where to look: before anything is written, the object and any owner that
//! is not in the graph are read from the server, and writes carry uid and resource version.

mod apply;
mod graph;
mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::resource::GroupVersionResource;
use client::events::Recorder;
use client::informer::{Change, Informer, Informers, Scope};
use client::reconcile::{Action, Controller, changed};
use client::request::Requests;
use client::view::{Relations, View};
use client::workqueue::WorkQueue;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::common::discovery::Catalogue;
use crate::{Context, ReconcileError};
use graph::Graph;

const NAME: &str = "garbage-collector-controller";
/// How long to wait for all resources to be listed before beginning without the slow ones: what is not in the graph is
/// read from the server, so that is safe.
const LISTING: Duration = Duration::from_secs(30);
/// Backs up the changes of CustomResourceDefinitions and APIServices when discovery failed.
const DISCOVER_AGAIN: Duration = Duration::from_secs(30);

struct Collector {
    requests: Requests,
    recorder: Recorder,
    graph: Mutex<Graph>,
    catalogue: RwLock<Arc<Catalogue>>,
    queue: Arc<WorkQueue<String>>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("generic-garbage-collector", NAME);
    let controller = Controller::new(NAME, context.clock.clone()).workers(10);
    let this = Arc::new(Collector {
        requests: session.requests,
        recorder: session.recorder,
        graph: Mutex::default(),
        catalogue: RwLock::default(),
        queue: controller.queue(),
    });
    let monitors = Monitors { collector: this.clone(), context, tasks: JoinSet::new(), running: HashMap::new() };
    let (ready, listed) = oneshot::channel();
    let stop = token.clone();
    let work = async move {
        // The sender goes without a word only when the monitors stop with us.
        if stop.run_until_cancelled(listed).await.is_some() {
            controller
                .run(stop, move |uid| {
                    let this = this.clone();
                    async move { this.reconcile(&uid).await }
                })
                .await;
        }
    };
    tokio::join!(work, monitors.run(ready, token.clone()), writer.run(token));
}

impl Collector {
    async fn reconcile(&self, uid: &str) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(uid).await? else { return Ok(Action::Done) };
        let step = plan::plan(&observed);
        self.apply(&observed, step).await
    }

    /// Takes a change into the graph and queues whom it concerns.
    fn absorb(&self, resource: &Arc<GroupVersionResource>, change: &Change) {
        let mut graph = self.graph.lock();
        let (concerned, astray) = match change {
            Change::Applied { old, new } => {
                let concerned = graph.observe(resource, new);
                let astray = match old {
                    Some(old) if Relations::of(old).owner_references == Relations::of(new).owner_references => {
                        Vec::new()
                    }
                    old => graph.astray(&new.uid, old.is_none()),
                };
                (concerned, astray)
            }
            Change::Deleted(last) => (graph.forget(&last.uid), Vec::new()),
            Change::Synced | Change::Resync => (Vec::new(), Vec::new()),
        };
        drop(graph);
        for (node, reference) in astray {
            self.warn(&node, &reference);
        }
        for uid in concerned {
            self.queue.add(uid);
        }
    }
}

/// One watch for each resource there is.
struct Monitors {
    collector: Arc<Collector>,
    context: Context,
    tasks: JoinSet<()>,
    running: HashMap<GroupVersionResource, CancellationToken>,
}

impl Monitors {
    async fn run(mut self, ready: oneshot::Sender<()>, token: CancellationToken) {
        let (rediscover, mut asked) = mpsc::channel(1);
        for (group, resource) in
            [("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")]
        {
            let scope = Scope::all(group, "v1", resource);
            self.tasks.spawn(announce(self.context.informers.clone(), scope, rediscover.clone(), token.clone()));
        }
        let mut ready = Some(ready);
        while !token.is_cancelled() {
            let (complete, listed) = self.discover(&token).await;
            if let Some(ready) = ready.take() {
                let patience = self.context.clock.after(LISTING);
                tokio::select! {
                    () = token.cancelled() => break,
                    () = patience => tracing::warn!("not every resource could be listed; collecting garbage without waiting for them"),
                    _ = futures::future::join_all(listed) => {}
                }
                // The receiver is gone only when the controller is stopping.
                let _ = ready.send(());
            }
            let retry = async {
                if complete { std::future::pending().await } else { self.context.clock.after(DISCOVER_AGAIN).await }
            };
            tokio::select! {
                () = token.cancelled() => break,
                _ = asked.recv() => {}
                () = retry => {}
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    /// Starts and ends watches so that there is one for each resource. False if discovery was not complete; and what
    /// says when each new one is listed.
    async fn discover(&mut self, token: &CancellationToken) -> (bool, Vec<oneshot::Receiver<()>>) {
        let catalogue = match Catalogue::read(&self.collector.requests).await {
            Ok(catalogue) => catalogue,
            Err(error) => {
                tracing::warn!(%error, "cannot discover resources to collect garbage of; trying again");
                return (false, Vec::new());
            }
        };
        let complete = catalogue.failures.is_empty();
        let mut listed = Vec::new();
        let watched = catalogue.resources.iter().filter(|found| {
            // Events come and go by themselves, and there are many.
            ["list", "watch", "delete"].iter().all(|verb| found.can(verb)) && found.resource.resource != "events"
        });
        let wanted: Vec<GroupVersionResource> = watched.map(|found| found.resource.clone()).collect();
        for resource in &wanted {
            if !self.running.contains_key(resource) {
                let stop = token.child_token();
                let (synced, wait) = oneshot::channel();
                listed.push(wait);
                self.running.insert(resource.clone(), stop.clone());
                let scope =
                    Scope { resource: resource.clone(), namespace: None, fields: String::new(), labels: String::new() };
                let view = View::new(&*self.context.informers, scope);
                self.tasks.spawn(monitor(self.collector.clone(), Arc::new(resource.clone()), view, synced, stop));
            }
        }
        // A group that did not answer is not gone.
        if complete {
            self.running.retain(|resource, stop| {
                let keep = wanted.contains(resource);
                if !keep {
                    stop.cancel();
                    self.collector.graph.lock().forget_resource(resource);
                }
                keep
            });
        }
        *self.collector.catalogue.write() = Arc::new(catalogue);
        (complete, listed)
    }
}

async fn monitor(
    collector: Arc<Collector>,
    resource: Arc<GroupVersionResource>,
    view: View,
    synced: oneshot::Sender<()>,
    token: CancellationToken,
) {
    let mut synced = Some(synced);
    let mut changes = view.subscribe();
    while let Some(Some(change)) = token.run_until_cancelled(changes.recv()).await {
        for change in view.absorb(change) {
            collector.absorb(&resource, &change);
            if matches!(change, Change::Synced)
                && let Some(synced) = synced.take()
            {
                // Nobody waits any more once the patience is over.
                let _ = synced.send(());
            }
        }
    }
}

/// Asks for discovery whenever what it depends on changes.
async fn announce(informers: Arc<dyn Informers>, scope: Scope, ask: mpsc::Sender<()>, token: CancellationToken) {
    let mut changes = informers.informer(scope).subscribe();
    while let Some(Some(change)) = token.run_until_cancelled(changes.recv()).await {
        if changed(&change).is_some() {
            // One question waiting covers this one.
            let _ = ask.try_send(());
        }
    }
}

#[cfg(test)]
mod tests;
