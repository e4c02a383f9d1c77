//! Turns informers' changes into the snapshot, and wakes the waiting pods that a change may help.

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer, Informers};
use client::typed::{decode, scope_of};
use client::view::View;
use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use serde::de::DeserializeOwned;

use crate::plugins::volume_binding::Binding;
use crate::queue::{Event, Queue};
use crate::snapshot::{NodeSpec, PodInfo, Snapshot, selector};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Nodes,
    Pods,
    Namespaces,
    Services,
    ReplicaSets,
    StatefulSets,
    ReplicationControllers,
    Claims,
    Volumes,
    Classes,
    Budgets,
}

/// What the caller must know of a change taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Claims,
    Other,
}

/// A change and the number of the view it belongs to.
pub(crate) type Numbered = (usize, Change);

/// Everything known of the cluster, and who waits in it.
pub(crate) struct Observed {
    pub(crate) snapshot: Snapshot,
    pub(crate) queue: Queue,
    scheduler: String,
    views: Vec<(Kind, Arc<View>)>,
    unsynced: usize,
}

impl Observed {
    /// The pods of other schedulers are counted where they run, and not queued.
    pub(crate) fn new(informers: &dyn Informers, scheduler: &str) -> (Self, SelectAll<BoxStream<'static, Numbered>>) {
        let scopes = [
            (Kind::Nodes, scope_of::<Node>()),
            (Kind::Pods, scope_of::<Pod>()),
            (Kind::Namespaces, scope_of::<Namespace>()),
            (Kind::Services, scope_of::<Service>()),
            (Kind::ReplicaSets, scope_of::<ReplicaSet>()),
            (Kind::StatefulSets, scope_of::<StatefulSet>()),
            (Kind::ReplicationControllers, scope_of::<ReplicationController>()),
            (Kind::Claims, scope_of::<PersistentVolumeClaim>()),
            (Kind::Volumes, scope_of::<PersistentVolume>()),
            (Kind::Classes, scope_of::<StorageClass>()),
            (Kind::Budgets, scope_of::<PodDisruptionBudget>()),
        ];
        let views: Vec<_> = scopes.map(|(kind, scope)| (kind, Arc::new(View::new(informers, scope)))).into();
        let changes = views.iter().enumerate().map(|(number, (_, view))| {
            let receiver = view.subscribe();
            let next = |mut receiver: tokio::sync::mpsc::Receiver<Change>| async move {
                receiver.recv().await.map(|change| (change, receiver))
            };
            stream::unfold(receiver, next).map(move |change| (number, change)).boxed()
        });
        let changes = stream::select_all(changes);
        let unsynced = views.len();
        let (snapshot, queue) = (Snapshot::default(), Queue::default());
        (Self { snapshot, queue, scheduler: scheduler.to_owned(), views, unsynced }, changes)
    }

    /// Nothing is placed before all that bears on placement has been seen.
    pub(crate) fn synced(&self) -> bool {
        self.unsynced == 0
    }

    pub(crate) fn pods(&self) -> Arc<View> {
        self.view(Kind::Pods)
    }

    pub(crate) fn claims(&self) -> Arc<View> {
        self.view(Kind::Claims)
    }

    /// The pod as it is now, if it still waits for a node.
    pub(crate) fn pending(&self, pod: &PodInfo) -> Option<Arc<PodInfo>> {
        let now = PodInfo::of(&decode(&*self.pods().get(&pod.key)?)?);
        (now.uid == pod.uid && self.waits(&now)).then(|| Arc::new(now))
    }

    pub(crate) fn take(&mut self, (number, change): Numbered, now: Duration) -> Seen {
        let (kind, view) = self.views[number].clone();
        for change in view.absorb(change) {
            match change {
                Change::Applied { old: Some(old), new } if kind == Kind::Pods && same_to_scheduling(&old, &new) => {}
                Change::Applied { new, .. } => self.applied(kind, &new, now),
                Change::Deleted(last) => self.deleted(kind, &last, now),
                Change::Synced => self.unsynced = self.unsynced.saturating_sub(1),
                Change::Resync => {}
            }
        }
        if kind == Kind::Claims { Seen::Claims } else { Seen::Other }
    }

    /// Volumes that were reserved for a pod that was not bound are what the cluster has them to be.
    pub(crate) fn look_again(&mut self, bindings: &[Binding]) {
        let view = self.view(Kind::Volumes);
        for binding in bindings {
            if let Binding::Volume { volume, .. } = binding
                && let Some(entry) = view.get(&ObjectKey::new("", volume.as_str()))
            {
                keep(&mut self.snapshot.volumes, volume.clone(), &entry);
            }
        }
    }

    fn view(&self, kind: Kind) -> Arc<View> {
        let found = self.views.iter().find(|(known, _)| *known == kind);
        found.expect("every kind has a view").1.clone()
    }

    fn waits(&self, pod: &PodInfo) -> bool {
        pod.node.is_none() && !pod.finished && !pod.deleting && pod.needs.scheduler == self.scheduler
    }

    fn applied(&mut self, kind: Kind, entry: &Arc<Entry>, now: Duration) {
        let key = entry.key.clone();
        let snapshot = &mut self.snapshot;
        match kind {
            Kind::Nodes => {
                let Some(node) = decode::<Node>(entry) else { return };
                self.node(&key.name, NodeSpec::of(&node), now);
            }
            // One that others are to place takes no room before they have.
            Kind::Pods if is_for_another(entry, &self.scheduler) && snapshot.placed(&entry.uid).is_none() => {}
            Kind::Pods => {
                let Some(pod) = decode::<Pod>(entry) else { return };
                self.pod(Arc::new(PodInfo::of(&pod)), now);
            }
            Kind::Namespaces => {
                snapshot.namespaces.insert(key.name, entry.labels.clone());
                self.queue.happened(Event::Namespace, now);
            }
            Kind::Services => {
                let service = decode::<Service>(entry);
                let labels = service.and_then(|service| service.spec).and_then(|spec| spec.selector);
                snapshot.services.insert(key, labels.unwrap_or_default());
            }
            Kind::ReplicaSets => {
                let spec = decode::<ReplicaSet>(entry).and_then(|set| set.spec);
                let selector = selector(spec.as_ref().map(|spec| &spec.selector));
                snapshot.controllers.insert((ReplicaSet::KIND.to_owned(), key), selector);
            }
            Kind::StatefulSets => {
                let spec = decode::<StatefulSet>(entry).and_then(|set| set.spec);
                let selector = selector(spec.as_ref().map(|spec| &spec.selector));
                snapshot.controllers.insert((StatefulSet::KIND.to_owned(), key), selector);
            }
            Kind::ReplicationControllers => {
                let spec = decode::<ReplicationController>(entry).and_then(|one| one.spec);
                let labels = spec.and_then(|spec| spec.selector).unwrap_or_default();
                let selector = api::selector::label::LabelSelector::from_labels(&labels);
                snapshot.controllers.insert((ReplicationController::KIND.to_owned(), key), selector);
            }
            Kind::Claims => keep(&mut snapshot.claims, key, entry),
            Kind::Volumes => keep(&mut snapshot.volumes, key.name, entry),
            Kind::Classes => keep(&mut snapshot.classes, key.name, entry),
            Kind::Budgets => keep(&mut snapshot.budgets, key, entry),
        }
        self.storage_moved(kind, now);
    }

    fn deleted(&mut self, kind: Kind, entry: &Arc<Entry>, now: Duration) {
        let key = entry.key.clone();
        let controller = |kind: &str| (kind.to_owned(), key.clone());
        let snapshot = &mut self.snapshot;
        match kind {
            Kind::Nodes => snapshot.remove_node(&key.name),
            Kind::Pods => {
                self.queue.remove(&key);
                snapshot.remove_pod(&entry.uid);
                self.queue.happened(Event::PodGone, now);
            }
            Kind::Namespaces => drop(snapshot.namespaces.remove(&key.name)),
            Kind::Services => drop(snapshot.services.remove(&key)),
            Kind::ReplicaSets => drop(snapshot.controllers.remove(&controller(ReplicaSet::KIND))),
            Kind::StatefulSets => drop(snapshot.controllers.remove(&controller(StatefulSet::KIND))),
            Kind::ReplicationControllers => {
                drop(snapshot.controllers.remove(&controller(ReplicationController::KIND)));
            }
            Kind::Claims => drop(snapshot.claims.remove(&key)),
            Kind::Volumes => drop(snapshot.volumes.remove(&key.name)),
            Kind::Classes => drop(snapshot.classes.remove(&key.name)),
            Kind::Budgets => drop(snapshot.budgets.remove(&key)),
        }
        self.storage_moved(kind, now);
    }

    fn storage_moved(&mut self, kind: Kind, now: Duration) {
        if matches!(kind, Kind::Claims | Kind::Volumes | Kind::Classes) {
            self.queue.happened(Event::Storage, now);
        }
    }

    fn node(&mut self, name: &str, spec: NodeSpec, now: Duration) {
        let after = spec.clone();
        let Some(before) = self.snapshot.set_node(name, spec) else {
            return self.queue.happened(Event::NodeAdded, now);
        };
        if before.allocatable != after.allocatable {
            self.queue.happened(Event::NodeAllocatable, now);
        }
        if before.labels != after.labels {
            self.queue.happened(Event::NodeLabels, now);
        }
        if before.taints != after.taints || before.unschedulable != after.unschedulable {
            self.queue.happened(Event::NodeTaints, now);
        }
    }

    fn pod(&mut self, pod: Arc<PodInfo>, now: Duration) {
        if self.waits(&pod) {
            // One that is being bound is in nobody's queue until that has failed.
            if !self.snapshot.is_assumed(&pod.uid) {
                if let Some(node) = &pod.nominated {
                    self.snapshot.nominate(&pod, Some(node.clone()));
                }
                self.queue.set(pod, now);
            }
            return;
        }
        self.queue.remove(&pod.key);
        let before = self.snapshot.placed(&pod.uid).cloned();
        let assumed = self.snapshot.is_assumed(&pod.uid);
        if pod.node.is_none() || pod.finished {
            self.snapshot.remove_pod(&pod.uid);
            if before.is_some() {
                self.queue.happened(Event::PodGone, now);
            }
            return;
        }
        self.snapshot.set_pod(pod.clone());
        // Most changes are to the status and move nothing.
        let news =
            before.as_ref().is_none_or(|old| old.deleting != pod.deleting || old.needs.labels != pod.needs.labels);
        if assumed || news {
            self.queue.happened(Event::PodPlaced, now);
        }
        if before.is_some_and(|old| old.needs.requests != pod.needs.requests) {
            // It may take less than it did.
            self.queue.happened(Event::PodGone, now);
        }
    }
}

/// Whether two versions of a pod look the same from here. Most changes are to the status of pods that run; decoding each
/// of them would be most of the scheduler's work.
fn same_to_scheduling(old: &Entry, new: &Entry) -> bool {
    let (before, after) = (old.relations(), new.relations());
    let same = |pointer| old.text_at(pointer) == new.text_at(pointer);
    old.uid == new.uid
        && old.labels == new.labels
        && before.deletion_timestamp == after.deletion_timestamp
        && before.controller() == after.controller()
        && old.member("spec") == new.member("spec")
        && ["/status/phase", "/status/nominatedNodeName", "/status/startTime"].into_iter().all(same)
}

/// Whether a pod waits for another scheduler than `scheduler`.
fn is_for_another(pod: &Entry, scheduler: &str) -> bool {
    let text = |name| pod.text_at(name).unwrap_or_default();
    text("/spec/nodeName").is_empty() && text("/spec/schedulerName") != scheduler
}

/// Keeps an object as it is, or drops what no longer decodes.
fn keep<Q: Ord, K: Resource + DeserializeOwned>(map: &mut std::collections::BTreeMap<Q, K>, key: Q, entry: &Entry) {
    match decode(entry) {
        Some(object) => drop(map.insert(key, object)),
        None => drop(map.remove(&key)),
    }
}
