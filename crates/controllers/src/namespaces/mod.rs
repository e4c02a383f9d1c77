//! A deleted Namespace is emptied here, then let go.
//!
//! The API server marks a deleted namespace and keeps it for its finalizer `kubernetes`. This controller deletes every
//! object in it, kind by kind as discovery tells (pods first: what they use must outlive them), says in conditions
//! what is left, and removes the finalizer when nothing is.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use client::informer::Change;
use client::informer::Informer;
use client::reconcile::{Action, Controller, own_key};
use client::request::{Delete, Requests};
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::common::discovery::{Catalogue, Discovered};
use crate::{Context, ReconcileError};
use plan::{Remaining, Survey};

const NAME: &str = "namespace-controller";
/// Backs up the deletion events of what is left in a namespace, which are watched for pods only.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

struct Namespaces {
    requests: Requests,
    namespaces: Arc<View>,
    clock: Arc<dyn client::clock::Clock>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let namespaces = Arc::new(View::new(&*context.informers, scope_of::<Namespace>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()));
    let this =
        Arc::new(Namespaces { requests: session.requests, namespaces: namespaces.clone(), clock: session.clock });
    let terminating = namespaces.clone();
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&namespaces, own_key)
        .watch(&pods, move |change| match change {
            Change::Deleted(pod) => {
                let key = ObjectKey::new("", &pod.key.namespace);
                // Of the many pods that end, only those of a namespace on its way out matter.
                terminating.get(&key).filter(|entry| is_terminating(entry)).map(|_| key).into_iter().collect()
            }
            _ => Vec::new(),
        })
        .workers(5);
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

fn is_terminating(entry: &Entry) -> bool {
    client::view::Relations::of(entry).deletion_timestamp.is_some()
}

impl Namespaces {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.namespaces.get(&key).filter(|entry| is_terminating(entry)) else {
            return Ok(Action::Done);
        };
        let Some(namespace) = decode::<Namespace>(&entry) else { return Ok(Action::Done) };
        let finalizers = namespace.spec.and_then(|spec| spec.finalizers).unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
            return Ok(Action::Done);
        }
        let survey = self.empty(&key.name).await;
        let status = namespace.status.unwrap_or_default();
        let next = plan::status(&status, &survey, self.clock.now());
        let resource = resource_of::<Namespace>();
        let written = self.requests.edit_status(&resource, &entry, Some(&status), &next).await;
        let stored = match written {
            Ok(stored) => stored.unwrap_or_else(|| entry.to_value()),
            Err(error) if error.is_not_found() => return Ok(Action::Done),
            Err(error) => return Err(error.into()),
        };
        if survey.is_empty() {
            self.finalize(&key, stored).await?;
            return Ok(Action::Done);
        }
        Ok(Action::After(LOOK_AGAIN))
    }

    /// Deletes what the namespace holds, and reports what is still there.
    async fn empty(&self, namespace: &str) -> Survey {
        let mut survey = Survey::default();
        let catalogue = match Catalogue::read(&self.requests).await {
            Ok(catalogue) => catalogue,
            Err(error) => {
                survey.unknown = Some(error.to_string());
                return survey;
            }
        };
        survey.discovery_failures.clone_from(&catalogue.failures);
        let (pods, others): (Vec<_>, Vec<_>) = catalogue
            .resources
            .iter()
            .filter(|resource| resource.namespaced && resource.can("list") && resource.can("delete"))
            .partition(|resource| resource.resource.group.is_empty() && resource.resource.resource == "pods");
        for stage in [pods, others] {
            for resource in stage {
                match self.clear(resource, namespace).await {
                    Ok(Some(remaining)) => survey.remaining.push(remaining),
                    Ok(None) => {}
                    Err(error) => survey.content_failures.push(error.to_string()),
                }
            }
            if !survey.remaining.is_empty() || !survey.content_failures.is_empty() {
                break;
            }
        }
        survey
    }

    /// Deletes the namespace's objects of one resource. Answers with those that did not go at once.
    async fn clear(&self, resource: &Discovered, namespace: &str) -> Result<Option<Remaining>, ReconcileError> {
        let list = |_| self.requests.list(&resource.resource, Some(namespace), "");
        let found = match list(()).await {
            // A resource that vanished took its objects along.
            Err(error) if error.is_not_found() => return Ok(None),
            found => found?,
        };
        if found.is_empty() {
            return Ok(None);
        }
        let background = Delete::default().propagation("Background");
        if resource.can("deletecollection") {
            self.requests.delete_collection(&resource.resource, namespace, &background).await?;
        } else {
            for object in &found {
                let key = ObjectKey::new(namespace, object["metadata"]["name"].as_str().unwrap_or_default());
                match self.requests.delete(&resource.resource, &key, &background).await {
                    Err(error) if error.is_not_found() => {}
                    outcome => drop(outcome?),
                }
            }
        }
        let left = list(()).await?;
        Ok((!left.is_empty()).then(|| remaining(resource, &left)))
    }

    async fn finalize(&self, key: &ObjectKey, mut namespace: Value) -> Result<(), ReconcileError> {
        if let Some(finalizers) = namespace.pointer_mut("/spec/finalizers").and_then(Value::as_array_mut) {
            finalizers.retain(|finalizer| *finalizer != json!("kubernetes"));
        }
        let resource = resource_of::<Namespace>();
        match self.requests.replace(&resource, key, Some("finalize"), &namespace).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn remaining(resource: &Discovered, left: &[Value]) -> Remaining {
    let finalizers = left
        .iter()
        .flat_map(|object| object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default())
        .filter_map(|finalizer| finalizer.as_str().map(ToOwned::to_owned))
        .collect();
    let resource = &resource.resource;
    let resource = match resource.group.as_str() {
        "" => format!("{}.", resource.resource),
        group => format!("{}.{group}", resource.resource),
    };
    Remaining { resource, count: left.len(), finalizers }
}

#[cfg(test)]
mod tests;
