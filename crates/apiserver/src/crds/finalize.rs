//! The end of a definition: its instances go first (`customresourcecleanup.apiextensions.k8s.io`).

use std::collections::HashSet;
use std::sync::Arc;

use api::custom::{has_condition, overlaps_builtin};
use api::object::ObjectKey;
use client::reconcile::Action;
use client::workqueue::WorkQueue;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::plan::{Condition, FINALIZER, set_condition};
use super::{Definitions, Fault};
use crate::authn::{MASTERS, User};
use crate::cache::{Filter, ResourceCache, Start};
use crate::clock;
use crate::document::Document;
use crate::registry::{Call, DeleteOptions, Served};
use crate::request::ResourceRequest;

/// The definitions whose instances are being waited for, by uid.
#[derive(Default)]
pub(super) struct Finalizing {
    waiting: Arc<Mutex<HashSet<String>>>,
}

impl Definitions {
    /// Takes one step towards a definition's end.
    pub(super) async fn finalize(
        &self,
        mut definition: Value,
        queue: &Arc<WorkQueue<ObjectKey>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Action, Fault> {
        let (group, plural) = (text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["plural"]));
        let outcome = if overlaps_builtin(&group, &plural) {
            ("OverlappingBuiltInResource", "instances overlap with built-in resources in storage")
        } else if !has_condition(&definition, "Established") {
            ("NeverEstablished", "resource was never established")
        } else {
            let progress = ("InstanceDeletionInProgress", "CustomResource deletion is in progress");
            if is_other(&definition, progress.0) {
                say(&mut definition, "True", progress);
                self.write_status(definition).await?;
                return Ok(Action::Done);
            }
            let Some(served) = self.server.registry.catalogue.preferred(&group, &plural) else {
                return self.end(definition, ("InstanceDeletionCompleted", "removed all instances")).await;
            };
            if !self.delete_instances(&served).await? {
                self.wait_for(&definition, &served, queue, tasks, stop);
                return Ok(Action::Done);
            }
            ("InstanceDeletionCompleted", "removed all instances")
        };
        self.end(definition, outcome).await
    }

    /// Lets a definition go.
    async fn end(&self, mut definition: Value, outcome: (&str, &str)) -> Result<Action, Fault> {
        say(&mut definition, "False", outcome);
        let kept: Vec<Value> =
            definition.finalizers().into_iter().filter(|it| *it != FINALIZER).map(Value::from).collect();
        match kept.is_empty() {
            true => drop(definition.remove_meta("finalizers")),
            false => definition.set_meta("finalizers", Value::from(kept)),
        }
        self.write_status(definition).await?;
        Ok(Action::Done)
    }

    /// Deletes what there is. True when nothing is left, as the datastore has it.
    async fn delete_instances(&self, served: &Arc<Served>) -> Result<bool, Fault> {
        let Some(cache) = &served.cache else { return Ok(true) };
        self.server.registry.caches.reach_current().await;
        for entry in cache.list(&Filter::default()).entries {
            if entry.relations().deletion_timestamp.is_some() {
                continue;
            }
            let target = ResourceRequest {
                group: served.row.group.clone(),
                version: served.version.name.clone(),
                namespace: entry.key.namespace.clone(),
                resource: served.row.plural.clone(),
                name: entry.key.name.clone(),
                ..ResourceRequest::default()
            };
            let user = User::component("system:apiserver", &[MASTERS]);
            let mut call = Call::internal(user, "delete", target, bytes::Bytes::new());
            match self.server.registry.delete_with(served, &mut call, DeleteOptions::default()).await {
                Err(status) if !status.is_not_found() => return Err(status.into()),
                _ => {}
            }
        }
        self.server.registry.caches.reach_current().await;
        Ok(cache.is_empty())
    }

    /// Has the definition looked at again when an instance comes or goes.
    fn wait_for(
        &self,
        definition: &Value,
        served: &Served,
        queue: &Arc<WorkQueue<ObjectKey>>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let (Some(cache), uid) = (served.cache.clone(), definition.uid().to_owned()) else { return };
        if !self.finalizing.waiting.lock().insert(uid.clone()) {
            return;
        }
        let (queue, key, stop) = (queue.clone(), ObjectKey::new("", definition.name()), stop.clone());
        let waiting = self.finalizing.waiting.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(changed(&cache)).await;
            waiting.lock().remove(&uid);
            queue.add(key);
        });
    }
}

/// Until an instance comes or goes, or none is left.
async fn changed(cache: &Arc<ResourceCache>) {
    let Some(mut watcher) = cache.watch(Filter::default(), Start::Now) else { return };
    // What went before the watch began is not told by it.
    while !cache.is_empty() {
        match watcher.next().await {
            Ok(Some(crate::cache::WatchNotice::InitialDone(_) | crate::cache::WatchNotice::Initial(_))) => {}
            Ok(Some(crate::cache::WatchNotice::Event(..)) | None) | Err(_) => return,
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// True unless the definition already says of its end that it is at `reason`.
fn is_other(definition: &Value, reason: &str) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    !conditions.into_iter().any(|condition| condition["type"] == "Terminating" && condition["reason"] == reason)
}

fn say(definition: &mut Value, status: &str, (reason, message): (&str, &str)) {
    let condition = Condition { kind: "Terminating", status, reason, message: message.to_owned() };
    set_condition(definition, &condition, &clock::now());
}
