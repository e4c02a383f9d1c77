//! The pods of a Service become EndpointSlices here.
//!
//! A slice holds up to 100 endpoints of one address family and one set of port numbers. A plan keeps endpoints in the
//! slices that they are in, so that a pod's change rewrites one slice. [`mirroring`] does the same for
//! Endpoints that users wrote for Services without a selector.

mod apply;
pub mod mirroring;
mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed, own_key};
use client::typed::{decode, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio_util::sync::CancellationToken;

use crate::common::expectations::Expectations;
use crate::common::services;
use crate::{Context, ReconcileError, Session};
use plan::Observed;

const NAME: &str = "endpointslice-controller";
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

struct EndpointSlices {
    session: Session,
    services: Arc<View>,
    pods: Arc<View>,
    nodes: Arc<View>,
    slices: Arc<View>,
    expectations: Expectations,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("endpointslice-controller", NAME);
    let services = Arc::new(View::new(&*context.informers, scope_of::<Service>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()));
    let nodes = Arc::new(View::new(&*context.informers, scope_of::<Node>()));
    let slices = Arc::new(View::new(&*context.informers, scope_of::<EndpointSlice>()).index(by_service));
    let (all, zoned) = (services.clone(), services.clone());
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&services, own_key)
        .watch(&pods, move |change| services::services_of(&all, change))
        .watch(&slices, |change| changed(change).and_then(|entry| service_of(entry, MANAGER)).into_iter().collect())
        .watch(&nodes, move |change| match changes_zone(change) {
            true => zoned.list(None).iter().map(|entry| entry.key.clone()).collect(),
            false => Vec::new(),
        })
        .workers(5);
    let expectations = Expectations::new(context.clock.clone());
    let this = Arc::new(EndpointSlices { session, services, pods, nodes, slices, expectations });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

/// Files slices under the namespace and name of their Service.
pub(crate) fn by_service(entry: &Entry) -> Vec<String> {
    let name = entry.labels.get(SERVICE_NAME);
    name.map(|name| format!("{}/{name}", entry.key.namespace)).into_iter().collect()
}

/// The Service of a slice that `manager` manages.
fn service_of(entry: &Entry, manager: &str) -> Option<ObjectKey> {
    let managed = entry.labels.get(MANAGED_BY) == Some(manager);
    let name = entry.labels.get(SERVICE_NAME).filter(|_| managed)?;
    Some(ObjectKey::new(&entry.key.namespace, name))
}

fn changes_zone(change: &Change) -> bool {
    match change {
        Change::Applied { old: Some(old), new } => old.labels.get(ZONE) != new.labels.get(ZONE),
        // Pods come after their node; one that has a zone may be late.
        Change::Applied { old: None, new } => new.labels.contains_key(ZONE),
        _ => false,
    }
}

impl EndpointSlices {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(observed) = self.observe(&key) else { return Ok(Action::Done) };
        let steps = plan::plan(&observed);
        apply::apply(&self.session, &self.expectations, &key, steps).await
    }

    /// `None` if there is nothing to do: no such Service, others make its endpoints, or the view is behind.
    fn observe(&self, key: &ObjectKey) -> Option<Observed> {
        let Some(service) = self.services.get(key).and_then(|entry| decode::<Service>(&entry)) else {
            // The garbage collector takes its slices.
            self.expectations.forget(key);
            return None;
        };
        let selector = services::selector_of(&service).filter(|_| service.metadata.deletion_timestamp.is_none())?;
        let revision = self.slices.revision();
        let existing: Vec<Arc<Entry>> = self
            .slices
            .find(0, &key.to_string())
            .into_iter()
            .filter(|entry| service_of(entry, MANAGER).is_some())
            .collect();
        if !self.expectations.met(key, revision, |uid| existing.iter().any(|entry| entry.uid == uid)) {
            return None;
        }
        let nodes = self.nodes.list(None);
        let zones = nodes.iter().filter_map(|node| Some((node.key.name.clone(), node.labels.get(ZONE)?.to_owned())));
        Some(Observed {
            zones: zones.collect::<BTreeMap<_, _>>(),
            pods: services::selected_pods(&self.pods, &key.namespace, &selector),
            existing: existing.into_iter().filter_map(|entry| Some((entry.clone(), decode(&entry)?))).collect(),
            service,
        })
    }
}

#[cfg(test)]
mod tests;
