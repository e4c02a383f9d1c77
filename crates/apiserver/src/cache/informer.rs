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
use parking_lot::{Mutex, RwLock};
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
    resolve: Arc<Resolve>,
    known: Mutex<HashMap<Scope, Arc<LocalInformer>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct LocalInformer {
    resolve: Arc<Resolve>,
    scope: Scope,
    /// What was found last: custom resources come, go, and come again. A resource that is not served has no objects.
    source: RwLock<Option<Arc<Source>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Source {
    cache: Arc<ResourceCache>,
    filter: Filter,
}

impl LocalInformers {
    /// Subscriptions run on `tasks` and end with `stop`.
    pub fn new(resolve: Arc<Resolve>, tasks: TaskTracker, stop: CancellationToken) -> Arc<Self> {
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
        let informer = Arc::new(LocalInformer {
            resolve: self.resolve.clone(),
            scope: scope.clone(),
            source: RwLock::default(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        });
        if informer.source().is_none() {
            warn!(resource = scope.resource.resource, "informer of a resource or selector that is not served");
        }
        known.insert(scope, informer.clone());
        informer
    }
}

fn filter(scope: &Scope, selectable: &[Selectable]) -> Option<Filter> {
    let labels = LabelSelector::parse(&scope.labels).ok()?;
    let fields = FieldSelector::parse(&scope.fields).ok()?;
    Filter::new(scope.namespace.clone(), labels, &fields, selectable).ok()
}

impl LocalInformer {
    /// The resource as it is served now.
    fn source(&self) -> Option<Arc<Source>> {
        if let Some(known) = self.source.read().as_ref().filter(|known| !known.cache.is_closed()) {
            return Some(known.clone());
        }
        let found = (self.resolve)(&self.scope.resource).and_then(|cache| {
            let filter = filter(&self.scope, cache.selectable())?;
            Some(Arc::new(Source { cache, filter }))
        });
        self.source.write().clone_from(&found);
        found
    }
}

impl Informer for LocalInformer {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>> {
        let source = self.source()?;
        source.cache.get(key).filter(|entry| source.filter.matches(entry))
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        let Some(source) = self.source() else { return Vec::new() };
        let mut filter = source.filter.clone();
        match (&filter.namespace, namespace) {
            (Some(scope), Some(asked)) if scope != asked => return Vec::new(),
            (None, Some(asked)) => filter.namespace = Some(asked.to_owned()),
            _ => {}
        }
        source.cache.list(&filter).entries
    }

    /// The cache is loaded before any component starts.
    fn synced(&self) -> bool {
        true
    }

    fn subscribe(&self) -> mpsc::Receiver<Change> {
        let (sender, receiver) = mpsc::channel(CHANNEL);
        if let Some(source) = self.source() {
            let stop = self.stop.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = forward(&source.cache, &source.filter, &sender) => {}
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
