//! `ResourceQuota`: no write takes more of a namespace's quotas than is left of them.
//!
//! The charge is a compare-and-write of each quota's `status.used` before the object is stored, so two writes can never
//! take the same last piece, on whichever server they are. Writes to one namespace are charged one after another here,
//! or they would only overtake each other. What is charged and then not stored is given back by the quota controller.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use api::object::{Entry, ObjectKey};
use api::quota::{self, Charge, DeviceClasses, Evaluator, Limit, Quota, Refusal, Surroundings};
use api::status::Status;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::authn::{MASTERS, User};
use crate::cache::{Filter, ResourceCache};
use crate::registry::{Call, Registry};
use crate::request::ResourceRequest;
use crate::server::ApiServer;

/// How often a charge is tried again that another server overtook.
const ROUNDS: usize = 4;

pub struct ResourceQuotas {
    pub server: Weak<ApiServer>,
    pub quotas: Arc<ResourceCache>,
    pub pods: Arc<ResourceCache>,
    pub device_classes: Arc<ResourceCache>,
    pub resource_claims: Arc<ResourceCache>,
    pub queues: Queues,
    /// What nobody may use that no quota is about.
    pub limits: Vec<Limit>,
}

/// One place in line for each namespace where something is being charged.
#[derive(Default)]
pub struct Queues(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Queues {
    fn of(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut queues = self.0.lock();
        if let Some(queue) = queues.get(namespace).and_then(Weak::upgrade) {
            return queue;
        }
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::default();
        queues.insert(namespace.to_owned(), Arc::downgrade(&queue));
        queue
    }
}

impl Plugin for ResourceQuotas {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.charge(request))
    }
}

impl ResourceQuotas {
    async fn charge(&self, request: &Request) -> Result<(), Status> {
        let uses_more = matches!(request.operation, Operation::Create | Operation::Update);
        let (Some(object), true) = (&request.object, uses_more && !request.namespace.is_empty()) else { return Ok(()) };
        let Some(evaluator) = Evaluator::of(&request.group, &request.resource) else { return Ok(()) };
        let write = quota::Write { subresource: &request.subresource, object, old: request.old.as_ref() };
        // Asked before standing in line: a charge is itself a write, of a status that nobody counts.
        if !evaluator.handles(&write) || (self.limits.is_empty() && self.of(&request.namespace).is_empty()) {
            return Ok(());
        }
        // A server that is gone takes no writes.
        let Some(server) = self.server.upgrade() else { return Ok(()) };
        let queue = self.queues.of(&request.namespace);
        let _turn = queue.lock().await;
        let mut entries = self.of(&request.namespace);
        for _ in 0..ROUNDS {
            let quotas: Vec<Quota> = entries.iter().map(|entry| Quota::from_json(&entry.to_value())).collect();
            let charges = quota::check(&evaluator, &self.limits, &quotas, &write, self).map_err(|why| match why {
                Refusal::Forbidden(why) => request.forbid(&why),
                Refusal::Unreasoned(why) => Status::unreasoned(why),
            })?;
            if charges.is_empty() || request.dry_run {
                return Ok(());
            }
            let overtaken = self.write(&server.registry, &entries, charges).await?;
            if overtaken.is_empty() {
                return Ok(());
            }
            entries = overtaken;
        }
        Err(Status::conflict(
            api::status::Subject { group: "", resource: "resourcequotas" },
            entries.first().map_or("", |entry| &entry.key.name),
            "the object has been modified; please apply your changes to the latest version and try again",
        ))
    }

    fn of(&self, namespace: &str) -> Vec<Arc<Entry>> {
        self.quotas.list(&Filter { namespace: Some(namespace.to_owned()), ..Filter::default() }).entries
    }

    /// Writes the charges, and answers with the quotas that were changed meanwhile, as they are now.
    async fn write(
        &self,
        registry: &Registry,
        entries: &[Arc<Entry>],
        charges: Vec<Charge>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        let mut overtaken = Vec::new();
        let mut written = 0;
        for charge in charges {
            let Some(entry) = entries.iter().find(|entry| entry.key.name == charge.quota) else { continue };
            match self.write_one(registry, entry, &charge).await {
                Ok(revision) => written = written.max(revision),
                // A quota that is gone limits nothing.
                Err(status) if status.is_not_found() => {}
                Err(status) if status.reason == "Conflict" => {
                    overtaken.extend(registry.fresh(&self.quotas, &entry.key).await?);
                }
                Err(status) => return Err(status),
            }
        }
        // The next in line must see it.
        registry.caches.reach(written).await;
        Ok(overtaken)
    }

    async fn write_one(&self, registry: &Registry, entry: &Entry, charge: &Charge) -> Result<u64, Status> {
        let served = registry.catalogue.find("", "v1", "resourcequotas").ok_or_else(Status::path_not_found)?;
        let mut object = entry.to_value();
        object["status"]["used"] = charge.used.to_json();
        let target = ResourceRequest {
            version: "v1".to_owned(),
            namespace: entry.key.namespace.clone(),
            resource: "resourcequotas".to_owned(),
            name: entry.key.name.clone(),
            subresource: "status".to_owned(),
            ..ResourceRequest::default()
        };
        let user = User::component("system:apiserver", &[MASTERS]);
        let mut call = Call::internal(user, "update", target, Bytes::new());
        "fieldManager=kube-apiserver".clone_into(&mut call.query);
        let outcome = registry.update_object(&served, &mut call, object).await?;
        Ok(match outcome {
            crate::registry::Outcome::Entry { entry, .. } => entry.revision,
            _ => 0,
        })
    }
}

impl Surroundings for ResourceQuotas {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn device_classes(&self) -> DeviceClasses {
        let classes: Vec<Value> = values(&self.device_classes, None);
        DeviceClasses::new(&classes)
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Value> {
        self.pods.get(&ObjectKey::new(namespace, name)).map(|entry| entry.to_value())
    }

    fn resource_claims(&self, namespace: &str) -> Vec<Value> {
        values(&self.resource_claims, Some(namespace))
    }
}

fn values(cache: &ResourceCache, namespace: Option<&str>) -> Vec<Value> {
    let filter = Filter { namespace: namespace.map(ToOwned::to_owned), ..Filter::default() };
    cache.list(&filter).entries.iter().map(|entry| entry.to_value()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_queue_while_somebody_stands_in_it() {
        let queues = Queues::default();
        let first = queues.of("a");
        assert!(Arc::ptr_eq(&first, &queues.of("a")));
        assert!(!Arc::ptr_eq(&first, &queues.of("b")));
        drop(first);
        queues.of("c");
        assert_eq!(queues.0.lock().len(), 1, "left queues are forgotten");
    }
}
