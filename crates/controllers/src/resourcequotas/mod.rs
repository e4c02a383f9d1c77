//! ResourceQuotas tell here what is used of them.
//!
//! Admission charges what is created; this controller counts anew when a quota is made or changed, when something that
//! a quota counts goes or gives back part of what it used, and in case all of that was missed, every five minutes.
//! Which resources are counted is discovered, so that custom ones are, too; only those that some quota limits are watched.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use api::quota::{Amounts, DeviceClasses, Evaluator, Surroundings};
use api::resource::GroupVersionResource;
use client::clock::Clock;
use client::informer::{Change, Informer, Informers, Scope};
use client::reconcile::{Action, Controller, changed};
use client::request::Requests;
use client::typed::{resource_of, scope_of};
use client::view::View;
use client::workqueue::WorkQueue;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::common::discovery::Catalogue;
use crate::{Context, ReconcileError};

const NAME: &str = "resourcequota-controller";
/// Backs up the deletions and changes of what is counted.
const COUNT_AGAIN: Duration = Duration::from_secs(300);
/// Backs up the changes of CustomResourceDefinitions and APIServices when discovery failed.
const DISCOVER_AGAIN: Duration = Duration::from_secs(30);
/// What counting takes of a resource.
const VERBS: [&str; 4] = ["create", "delete", "list", "watch"];

struct Quotas {
    requests: Requests,
    informers: Arc<dyn Informers>,
    clock: Arc<dyn Clock>,
    quotas: Arc<View>,
    device_classes: Arc<dyn Informer>,
    queue: Arc<WorkQueue<ObjectKey>>,
    /// What can be counted; `None` before it was first discovered.
    countable: Mutex<Option<Vec<GroupVersionResource>>>,
    monitors: Mutex<HashMap<GroupVersionResource, Arc<Monitor>>>,
    tasks: TaskTracker,
    token: CancellationToken,
}

/// A resource that some quota counts.
struct Monitor {
    evaluator: Evaluator,
    informer: Arc<dyn Informer>,
    token: CancellationToken,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let quotas = Arc::new(View::new(&*context.informers, scope_of::<ResourceQuota>()));
    let controller = Controller::new(NAME, context.clock.clone()).watch(&quotas, to_count).workers(5);
    let this = Arc::new(Quotas {
        requests: session.requests,
        informers: context.informers.clone(),
        clock: session.clock,
        quotas,
        device_classes: context.informers.informer(Scope::all("resource.k8s.io", "v1", "deviceclasses")),
        queue: controller.queue(),
        countable: Mutex::default(),
        monitors: Mutex::default(),
        tasks: TaskTracker::new(),
        token: token.clone(),
    });
    let (tasks, discovery) = (this.tasks.clone(), this.clone());
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(&key).await }
    });
    tokio::join!(work, discovery.discover(), writer.run(token));
    tasks.close();
    tasks.wait().await;
}

/// A quota whose status alone changed was counted or charged just now.
fn to_count(change: &Change) -> Vec<ObjectKey> {
    if let Change::Applied { old: Some(old), new } = change
        && old.to_value()["spec"] == new.to_value()["spec"]
    {
        return Vec::new();
    }
    changed(change).map(|entry| entry.key.clone()).into_iter().collect()
}

impl Quotas {
    async fn reconcile(self: &Arc<Self>, key: &ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.quotas.get(key) else {
            self.prune();
            return Ok(Action::Done);
        };
        let quota = entry.to_value();
        // Whoever becomes ready later asks again.
        let Some(counted) = self.observe(key, &quota["spec"]) else { return Ok(Action::Done) };
        if let Some(status) = plan::status(&quota, &counted) {
            self.apply(key, quota, status).await?;
        }
        Ok(Action::After(COUNT_AGAIN))
    }

    /// What the quota's namespace uses of what it limits; `None` while something cannot be counted yet.
    fn observe(self: &Arc<Self>, key: &ObjectKey, spec: &Value) -> Option<Amounts> {
        let monitors = self.monitors_of(spec)?;
        let mut counted = Amounts::default();
        for monitor in monitors {
            if !monitor.informer.synced() {
                return None;
            }
            let found = monitor.informer.list(Some(&key.namespace));
            let objects: Vec<Value> = match monitor.evaluator.only_counts() {
                true => vec![Value::Null; found.len()],
                false => found.iter().map(|entry| entry.to_value()).collect(),
            };
            counted.add(&monitor.evaluator.total(spec, &objects, &**self));
        }
        Some(counted)
    }

    async fn apply(&self, key: &ObjectKey, mut quota: Value, status: Value) -> Result<(), ReconcileError> {
        quota["status"] = status;
        let resource = resource_of::<ResourceQuota>();
        match self.requests.replace(&resource, key, Some("status"), &quota).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// The monitors of what the quota limits, started where they are not running; `None` before discovery.
    fn monitors_of(self: &Arc<Self>, spec: &Value) -> Option<Vec<Arc<Monitor>>> {
        let countable = self.countable.lock();
        let resources = countable.as_ref()?;
        let classes = self.device_classes();
        let mut monitors = self.monitors.lock();
        let mut wanted = Vec::new();
        for resource in resources {
            let Some(evaluator) = Evaluator::of(&resource.group, &resource.resource) else { continue };
            if limits(spec, &evaluator, &classes) {
                let start = || self.monitor(resource.clone(), evaluator);
                wanted.push(monitors.entry(resource.clone()).or_insert_with(start).clone());
            }
        }
        Some(wanted)
    }

    fn monitor(self: &Arc<Self>, resource: GroupVersionResource, evaluator: Evaluator) -> Arc<Monitor> {
        let scope = Scope { resource, namespace: None, fields: String::new(), labels: String::new() };
        let informer = self.informers.informer(scope);
        let monitor = Arc::new(Monitor { evaluator, informer, token: self.token.child_token() });
        self.tasks.spawn(self.clone().follow(monitor.clone()));
        monitor
    }

    /// Has quotas counted again that the changes of a resource concern.
    async fn follow(self: Arc<Self>, monitor: Arc<Monitor>) {
        let mut changes = monitor.informer.subscribe();
        while let Some(Some(change)) = monitor.token.run_until_cancelled(changes.recv()).await {
            match change {
                Change::Synced | Change::Resync => self.recount(&monitor.evaluator, None),
                Change::Deleted(last) => self.recount(&monitor.evaluator, Some(&last.key.namespace)),
                Change::Applied { old: Some(old), new } if self.gives_back(&monitor.evaluator, &old, &new) => {
                    self.recount(&monitor.evaluator, Some(&new.key.namespace));
                }
                // What is created has been charged.
                Change::Applied { .. } => {}
            }
        }
    }

    fn gives_back(&self, evaluator: &Evaluator, old: &Entry, new: &Entry) -> bool {
        !evaluator.only_counts()
            && !self.quotas.list(Some(&new.key.namespace)).is_empty()
            && evaluator.may_give_back(&old.to_value(), &new.to_value(), self.clock.now())
    }

    fn recount(&self, evaluator: &Evaluator, namespace: Option<&str>) {
        let classes = self.device_classes();
        for entry in self.quotas.list(namespace) {
            if limits(&entry.to_value()["spec"], evaluator, &classes) {
                self.queue.add(entry.key.clone());
            }
        }
    }

    /// Ends monitors that no quota wants, or whose resource is gone.
    fn prune(&self) {
        let specs: Vec<Value> = self.quotas.list(None).iter().map(|entry| entry.to_value()["spec"].take()).collect();
        let classes = self.device_classes();
        let countable = self.countable.lock();
        self.monitors.lock().retain(|resource, monitor| {
            let is_there = countable.as_ref().is_none_or(|known| known.contains(resource));
            let keep = is_there && specs.iter().any(|spec| limits(spec, &monitor.evaluator, &classes));
            if !keep {
                monitor.token.cancel();
            }
            keep
        });
    }

    /// Keeps up with the resources that there are.
    async fn discover(self: Arc<Self>) {
        let (ask, mut asked) = mpsc::channel(1);
        for (group, resource) in
            [("apiextensions.k8s.io", "customresourcedefinitions"), ("apiregistration.k8s.io", "apiservices")]
        {
            let informer = self.informers.informer(Scope::all(group, "v1", resource));
            self.tasks.spawn(announce(informer, ask.clone(), self.token.clone()));
        }
        while !self.token.is_cancelled() {
            let complete = self.read_catalogue().await;
            let retry =
                async { if complete { std::future::pending().await } else { self.clock.after(DISCOVER_AGAIN).await } };
            tokio::select! {
                () = self.token.cancelled() => break,
                _ = asked.recv() => {}
                () = retry => {}
            }
        }
    }

    /// False if not everything answered.
    async fn read_catalogue(&self) -> bool {
        let catalogue = match Catalogue::read(&self.requests).await {
            Ok(catalogue) => catalogue,
            Err(error) => {
                tracing::warn!(%error, "cannot discover resources to count; trying again");
                return false;
            }
        };
        let complete = catalogue.failures.is_empty();
        let counts = |found: &&crate::common::discovery::Discovered| {
            found.namespaced && VERBS.iter().all(|verb| found.can(verb))
        };
        let mut found: Vec<_> = catalogue.resources.iter().filter(counts).map(|found| found.resource.clone()).collect();
        let mut countable = self.countable.lock();
        if !complete {
            // A group that did not answer is not gone.
            let known = countable.take().unwrap_or_default();
            found.extend(known.into_iter().filter(|known| !catalogue.resources.iter().any(|it| it.resource == *known)));
        }
        if countable.as_ref() != Some(&found) {
            *countable = Some(found);
            drop(countable);
            self.prune();
            self.quotas.list(None).iter().for_each(|entry| self.queue.add(entry.key.clone()));
        }
        complete
    }
}

fn limits(spec: &Value, evaluator: &Evaluator, classes: &DeviceClasses) -> bool {
    spec["hard"].as_object().into_iter().flatten().any(|(name, _)| evaluator.measures(name, classes))
}

/// Asks for discovery whenever what it depends on changes.
async fn announce(informer: Arc<dyn Informer>, ask: mpsc::Sender<()>, token: CancellationToken) {
    let mut changes = informer.subscribe();
    while let Some(Some(change)) = token.run_until_cancelled(changes.recv()).await {
        if changed(&change).is_some() {
            // One question waiting covers this one.
            let _ = ask.try_send(());
        }
    }
}

impl Surroundings for Quotas {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn device_classes(&self) -> DeviceClasses {
        let classes: Vec<Value> = self.device_classes.list(None).iter().map(|entry| entry.to_value()).collect();
        DeviceClasses::new(&classes)
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        let pods = self.informers.informer(scope_of::<Pod>());
        pods.get(&ObjectKey::new(namespace, name)).map(|entry| entry.to_value())
    }

    fn resource_claims(&self, namespace: &str) -> Vec<Value> {
        let claims = self.informers.informer(Scope::all("resource.k8s.io", "v1", "resourceclaims"));
        claims.list(Some(namespace)).iter().map(|entry| entry.to_value()).collect()
    }
}

#[cfg(test)]
mod tests;
