//! The end of a definition: its instances go first (`customresourcecleanup.apiextensions.k8s.io`).

use std::collections::HashSet;
use std::sync::Arc;

use api::custom::{has_condition, overlaps_builtin};
use api::object::ObjectKey;
use api::status::Status;
use client::reconcile::Action;
use client::workqueue::WorkQueue;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::plan::{Condition, FINALIZER, set_condition};
use super::{Definitions, Fault, serve};
use crate::authn::{MASTERS, User};
use crate::cache::{Filter, ResourceCache, Start};
use crate::clock;
use crate::document::Document;
use crate::registry::{Call, DeleteOptions, Served};
use crate::request::ResourceRequest;

const IN_PROGRESS: &str = "InstanceDeletionInProgress";
const FAILED: &str = "InstanceDeletionFailed";

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
            let progress = (IN_PROGRESS, "CustomResource deletion is in progress");
            if !is_begun(&definition) {
                say(&mut definition, "True", progress);
                self.write_status(definition).await?;
                return Ok(Action::Done);
            }
            let Some(instances) = serve::stored(&self.server, &definition).await? else {
                return self.end(definition, ("InstanceDeletionCompleted", "removed all instances")).await;
            };
            match self.delete_instances(&instances).await {
                Ok(true) => {}
                Ok(false) => {
                    self.wait_for(&definition, &instances, queue, tasks, stop);
                    return Ok(Action::Done);
                }
                Err(why) => {
                    let message = format!("could not issue all deletes: {}", why.message);
                    say(&mut definition, "True", (FAILED, &message));
                    self.write_status(definition).await?;
                    return Err(why.into());
                }
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

    /// Deletes what there is, whatever webhooks and policies say of it: those of a program that was removed would hold its
    /// definitions for ever. True when nothing is left, as the datastore has it; else why one of them could not be
    /// deleted.
    async fn delete_instances(&self, instances: &Served) -> Result<bool, Status> {
        let Some(cache) = &instances.cache else { return Ok(true) };
        self.server.registry.caches.reach_current().await;
        let mut failed = None;
        for entry in cache.list(&Filter::default()).entries {
            if entry.relations().deletion_timestamp.is_some() {
                continue;
            }
            let target = ResourceRequest {
                group: instances.row.group.clone(),
                version: instances.version.name.clone(),
                namespace: entry.key.namespace.clone(),
                resource: instances.row.plural.clone(),
                name: entry.key.name.clone(),
                ..ResourceRequest::default()
            };
            let user = User::component("system:apiserver", &[MASTERS]);
            let mut call = Call::internal(user, "delete", target, bytes::Bytes::new());
            call.admitted = true;
            match self.server.registry.delete_with(instances, &mut call, DeleteOptions::default()).await {
                Err(status) if !status.is_not_found() => failed = Some(status),
                _ => {}
            }
        }
        if let Some(why) = failed {
            return Err(why);
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

/// True when the definition says that its instances are being deleted, or why they could not be.
fn is_begun(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|condition| {
        condition["type"] == "Terminating" && (condition["reason"] == IN_PROGRESS || condition["reason"] == FAILED)
    })
}

fn say(definition: &mut Value, status: &str, (reason, message): (&str, &str)) {
    let condition = Condition { kind: "Terminating", status, reason, message: message.to_owned() };
    set_condition(definition, &condition, &clock::now());
}
