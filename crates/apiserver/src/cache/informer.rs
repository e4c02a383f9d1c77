//! Informers of components in this process: they read the watch cache itself, so they hold no copy.
//!
//! Whoever hands these out has authorized the component to list and watch: a component is given its informers
//! where the server is put together, each under its own identity.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::{GroupVersionResource, Selectable};
use api::selector::field::FieldSelector;
use api::selector::label::LabelSelector;
use client::informer::{Change, Informer, Informers, Scope};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::resource::ResourceCache;
use super::ring::EventKind;
use super::watch::{Filter, Lagged, Notice, Start, Watcher};

/// Changes on their way to one subscriber; one that is further behind waits in the ring.
const CHANNEL: usize = 256;

/// Finds the cache of a resource.
pub(super) type Resolve = dyn Fn(&GroupVersionResource) -> Option<Arc<ResourceCache>> + Send + Sync;

/// Informers over the watch cache.
pub struct LocalInformers {
    resolve: Box<Resolve>,
    known: Mutex<HashMap<Scope, Arc<LocalInformer>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct LocalInformer {
    /// `None` for a resource that is not served: it has no objects.
    cache: Option<Arc<ResourceCache>>,
    filter: Filter,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl LocalInformers {
    /// Subscriptions run on `tasks` and end with `stop`.
    pub fn new(resolve: Box<Resolve>, tasks: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self { resolve, known: Mutex::default(), tasks, stop })
    }
}

impl Informers for LocalInformers {
    fn informer(&self, scope: Scope) -> Arc<dyn Informer> {
        let mut known = self.known.lock();
        if let Some(informer) = known.get(&scope) {
            return informer.clone();
        }
        // Those that nobody holds any more: pods come and go with informers of their own.
        known.retain(|_, informer| Arc::strong_count(informer) > 1);
        let cache = (self.resolve)(&scope.resource);
        let selectable = cache.as_ref().map(|cache| cache.selectable().to_vec()).unwrap_or_default();
        let filter = filter(&scope, &selectable);
        if cache.is_none() || filter.is_none() {
            warn!(resource = scope.resource.resource, "informer of a resource or selector that is not served");
        }
        let informer = Arc::new(LocalInformer {
            cache: cache.filter(|_| filter.is_some()),
            filter: filter.unwrap_or_default(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        });
        known.insert(scope, informer.clone());
        informer
    }
}

fn filter(scope: &Scope, selectable: &[Selectable]) -> Option<Filter> {
    let labels = LabelSelector::parse(&scope.labels).ok()?;
    let fields = FieldSelector::parse(&scope.fields).ok()?;
    Filter::new(scope.namespace.clone(), labels, &fields, selectable).ok()
}

impl Informer for LocalInformer {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.cache.as_ref()?.get(key).filter(|entry| self.filter.matches(entry))
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        let Some(cache) = &self.cache else { return Vec::new() };
        let mut filter = self.filter.clone();
        match (&filter.namespace, namespace) {
            (Some(scope), Some(asked)) if scope != asked => return Vec::new(),
            (None, Some(asked)) => filter.namespace = Some(asked.to_owned()),
            _ => {}
        }
        cache.list(&filter).entries
    }

    /// The cache is loaded before any component starts.
    fn synced(&self) -> bool {
        true
    }

    fn subscribe(&self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        if let Some(cache) = self.cache.clone() {
            let (filter, stop) = (self.filter.clone(), self.stop.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = forward(&cache, &filter, &sender) => {}
                }
            });
        }
        receiver
    }
}

/// Tells a subscriber of every change until it goes or the resource does.
async fn forward(cache: &Arc<ResourceCache>, filter: &Filter, sender: &mpsc::Sender<Change>) {
    let mut start = Start::Objects;
    let Some(mut watcher) = cache.watch(filter.clone(), start) else { return };
    while let Err(Lagged) = follow(&mut watcher, sender, start).await {
        start = Start::Now;
        // Watched before it is told: what happens while the subscriber looks is in what he sees, or comes.
        let Some(anew) = cache.watch(filter.clone(), start) else { return };
        watcher = anew;
        if sender.send(Change::Resync).await.is_err() {
            return;
        }
    }
}

async fn follow(watcher: &mut Watcher, sender: &mpsc::Sender<Change>, start: Start) -> Result<(), Lagged> {
    loop {
        let notice = tokio::select! {
            () = sender.closed() => return Ok(()),
            notice = watcher.next() => notice?,
        };
        let change = match notice {
            None => return Ok(()),
            Some(Notice::Initial(new)) => Change::Applied { old: None, new },
            Some(Notice::InitialDone(_)) if start == Start::Objects => Change::Synced,
            Some(Notice::InitialDone(_)) => continue,
            Some(Notice::Event(EventKind::Deleted, event)) => Change::Deleted(event.shown(EventKind::Deleted)),
            Some(Notice::Event(EventKind::Added, event)) => Change::Applied { old: None, new: event.object.clone() },
            Some(Notice::Event(EventKind::Modified, event)) => {
                Change::Applied { old: event.old.clone(), new: event.object.clone() }
            }
        };
        if sender.send(change).await.is_err() {
            return Ok(());
        }
    }
}
