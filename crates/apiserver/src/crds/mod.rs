//! CustomResourceDefinitions: what is served as they say, their conditions, and their end.
//!
//! Upstream has a controller each for names, establishment, API approval and finalization; here it is one look at a
//! definition ([`plan`]), one write of its status, and the catalogue brought up to date. A definition is served before
//! its status says so: a client that sees it established can use it.

mod convert;
mod finalize;
mod plan;
pub(crate) mod route;
mod serve;

use std::sync::Arc;

use api::custom::has_condition;
use api::object::ObjectKey;
use api::resource::GroupVersionResource;
use api::status::Status;
use bytes::Bytes;
use client::clock::SystemClock;
use client::informer::Scope;
use client::reconcile::{Action, Controller, Failure, own_key};
use client::view::View;
use client::workqueue::WorkQueue;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authn::{MASTERS, User};
use crate::cache::{Filter, Readings, ResourceCache};
use crate::clock;
use crate::document::Document;
use crate::registry::{Call, Outcome};
use crate::request::ResourceRequest;
use crate::server::{ApiServer, StartError};
use serve::Catalog;

pub(crate) const GROUP: &str = "apiextensions.k8s.io";
pub(crate) const PLURAL: &str = "customresourcedefinitions";
/// Who owns the status.
const PROGRAM: &str = "kube-apiserver";
/// Definitions that are worked on at once. Each waits for the datastore, not for its instances.
const WORKERS: usize = 4;

/// The keeper of all definitions.
pub(crate) struct Definitions {
    server: Arc<ApiServer>,
    stored: Arc<ResourceCache>,
    catalog: Catalog,
    /// What rivals need to know of each definition.
    claims: Readings<Value>,
    finalizing: finalize::Finalizing,
}

/// A fault in working on a definition; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Refused(#[from] Status),
    #[error("reading the instances of a definition: {0}")]
    Store(#[from] store::Error),
}

impl Failure for Fault {
    fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(status) if status.reason == "Conflict")
    }
}

impl Definitions {
    /// Begins to serve what the stored definitions say, so that a server that starts serves all at once.
    pub(crate) async fn load(server: Arc<ApiServer>) -> Result<Arc<Self>, StartError> {
        let served = server.registry.catalogue.preferred(GROUP, PLURAL);
        let stored = served.and_then(|served| served.cache.clone()).ok_or(StartError::MissingResource(PLURAL))?;
        let this = Arc::new(Self {
            server,
            stored,
            catalog: Catalog::default(),
            claims: Readings::new(plan::claim),
            finalizing: finalize::Finalizing::default(),
        });
        for entry in this.stored.list(&Filter::default()).entries {
            let definition = entry.to_value();
            if plan::is_served(&definition) {
                this.catalog.serve(&this.server, &definition).await?;
            }
        }
        Ok(this)
    }

    /// Follows the definitions until `stop`.
    pub(crate) async fn run(self: Arc<Self>, tasks: TaskTracker, stop: CancellationToken) {
        let informers = self.server.informers(tasks.clone(), stop.clone());
        let resource =
            GroupVersionResource { group: GROUP.to_owned(), version: "v1".to_owned(), resource: PLURAL.to_owned() };
        let scope = Scope { resource, namespace: None, fields: String::new(), labels: String::new() };
        let view = Arc::new(View::new(&*informers, scope));
        let controller: Controller<ObjectKey> =
            Controller::new("crd_controller", SystemClock::shared()).watch(&view, own_key).workers(WORKERS);
        let queue = controller.queue();
        let token = stop.clone();
        controller
            .run(stop, move |key| {
                let (this, queue, tasks, token) = (self.clone(), queue.clone(), tasks.clone(), token.clone());
                async move { this.reconcile(key, queue, tasks, token).await }
            })
            .await;
    }

    async fn reconcile(
        self: Arc<Self>,
        key: ObjectKey,
        queue: Arc<WorkQueue<ObjectKey>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Action, Fault> {
        let Some(entry) = self.stored.get(&key) else {
            self.catalog.forget(&self.server, &key.name);
            self.claims.forget(&key);
            let group = key.name.split_once('.').map(|(_, group)| group).unwrap_or_default();
            self.wake_rivals(group, &key, &queue);
            return Ok(Action::Done);
        };
        let definition = entry.to_value();
        let others = self.rivals(definition["spec"]["group"].as_str().unwrap_or_default(), &key);
        let others: Vec<Arc<Value>> = others.into_iter().map(|(_, claim)| claim).collect();
        let mut next = definition.clone();
        plan::settle(&mut next, &others, &clock::now());
        if plan::is_served(&next) {
            self.catalog.serve(&self.server, &next).await?;
        }
        if next != definition {
            let renamed = next["status"]["acceptedNames"] != definition["status"]["acceptedNames"];
            self.write_status(next).await?;
            if renamed {
                self.wake_rivals(definition["spec"]["group"].as_str().unwrap_or_default(), &key, &queue);
            }
            // The write comes back as a change.
            return Ok(Action::Done);
        }
        if plan::is_to_be_finalized(&definition) {
            return self.finalize(definition, &queue, &tasks, &stop).await;
        }
        Ok(Action::Done)
    }

    /// Has those looked at again that wait for a name in the group.
    fn wake_rivals(&self, group: &str, than: &ObjectKey, queue: &WorkQueue<ObjectKey>) {
        for (key, claim) in self.rivals(group, than) {
            if !has_condition(&claim, "NamesAccepted") {
                queue.add(key);
            }
        }
    }

    /// The other definitions of a group, and what they claim. A definition is named for its group.
    fn rivals(&self, group: &str, than: &ObjectKey) -> Vec<(ObjectKey, Arc<Value>)> {
        let of_group = |name: &str| name.split_once('.').is_some_and(|(_, its)| its == group);
        let entries = self.stored.list(&Filter::default()).entries.into_iter();
        let rivals = entries.filter(|entry| entry.key != *than && of_group(&entry.key.name));
        rivals.map(|entry| (entry.key.clone(), self.claims.of(&entry))).collect()
    }

    /// Writes a definition's status, and its finalizers. One that changed or went meanwhile is left alone: its change
    /// brings it here again.
    async fn write_status(&self, definition: Value) -> Result<(), Fault> {
        let name = definition.name().to_owned();
        let Some(served) = self.server.registry.catalogue.preferred(GROUP, PLURAL) else { return Ok(()) };
        let target = ResourceRequest {
            group: GROUP.to_owned(),
            version: served.version.name.clone(),
            resource: PLURAL.to_owned(),
            name,
            subresource: "status".to_owned(),
            ..ResourceRequest::default()
        };
        let user = User::component("system:apiserver", &[MASTERS]);
        let mut call = Call::internal(user, "update", target, Bytes::new());
        call.query = format!("fieldManager={PROGRAM}");
        match self.server.registry.update_object(&served, &mut call, definition).await {
            Ok(Outcome::Entry { .. } | Outcome::Object { .. }) => Ok(()),
            Err(status) if status.is_not_found() || status.reason == "Conflict" => Ok(()),
            Ok(_) => Ok(()),
            Err(status) => Err(status.into()),
        }
    }
}
