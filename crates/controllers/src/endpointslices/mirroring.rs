//! Endpoints that users write are copied into EndpointSlices, which is all that the service proxy and DNS read.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::Informer;
use client::reconcile::{Action, Controller, changed, own_key};
use client::typed::{decode, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use tokio_util::sync::CancellationToken;

use super::plan::{Common, Group, Step, arrange};
use super::{MANAGED_BY, SERVICE_NAME, apply, by_service, service_of};
use crate::common::expectations::Expectations;
use crate::common::{pods, services};
use crate::{Context, ReconcileError, Session};

const NAME: &str = "endpointslice-mirroring-controller";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints with this label are not copied.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation are locks of old leader elections.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Mirror {
    session: Session,
    services: Arc<View>,
    endpoints: Arc<View>,
    slices: Arc<View>,
    expectations: Expectations,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("endpointslicemirroring-controller", NAME);
    let services = Arc::new(View::new(&*context.informers, scope_of::<Service>()));
    let endpoints = Arc::new(View::new(&*context.informers, scope_of::<Endpoints>()));
    let slices = Arc::new(View::new(&*context.informers, scope_of::<EndpointSlice>()).index(by_service));
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&services, own_key)
        .watch(&endpoints, own_key)
        .watch(&slices, |change| changed(change).and_then(|entry| service_of(entry, MANAGER)).into_iter().collect())
        .workers(2);
    let expectations = Expectations::new(context.clock.clone());
    let this = Arc::new(Mirror { session, services, endpoints, slices, expectations });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl Mirror {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let revision = self.slices.revision();
        let mine = |entry: &Arc<Entry>| service_of(entry, MANAGER).is_some();
        let existing: Vec<Arc<Entry>> = self.slices.find(0, &key.to_string()).into_iter().filter(mine).collect();
        if !self.expectations.met(&key, revision, |uid| existing.iter().any(|entry| entry.uid == uid)) {
            return Ok(Action::Done);
        }
        let service = self.services.get(&key).and_then(|entry| decode::<Service>(&entry));
        let endpoints = self.endpoints.get(&key).and_then(|entry| decode::<Endpoints>(&entry));
        let existing: Vec<_> =
            existing.into_iter().filter_map(|entry| Some((entry.clone(), decode(&entry)?))).collect();
        let steps = match (service, endpoints) {
            (Some(service), Some(endpoints)) if is_mirrored(&service, &endpoints) => plan(&endpoints, &existing),
            _ => existing.into_iter().map(|(entry, _)| Step::Delete(entry)).collect(),
        };
        apply::apply(&self.session, &self.expectations, &key, steps).await
    }
}

fn is_mirrored(service: &Service, endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    let skipped = labels.and_then(|labels| labels.get(SKIP)).is_some_and(|skip| skip == "true");
    services::selector_of(service).is_none() && !skipped && pods::annotation(&endpoints.metadata, LEADER).is_none()
}

fn plan(endpoints: &Endpoints, existing: &[(Arc<Entry>, EndpointSlice)]) -> Vec<Step> {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), pods::name(&endpoints.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| {
        !matches!(
            name.as_str(),
            "kubectl.kubernetes.io/last-applied-configuration" | "endpoints.kubernetes.io/last-change-trigger-time"
        )
    });
    let common = Common {
        namespace: pods::namespace(&endpoints.metadata).to_owned(),
        generate_name: pods::generate_name(pods::name(&endpoints.metadata)),
        labels,
        annotations,
        owner: pods::controller_reference::<Endpoints>(&endpoints.metadata),
    };
    arrange(&common, groups(endpoints), existing)
}

fn groups(endpoints: &Endpoints) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready) {
            let family = if address.ip.contains(':') { "IPv6" } else { "IPv4" };
            let endpoint = endpoint(address, ready);
            match groups.iter_mut().find(|group| group.family == family && group.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => {
                    groups.push(Group { family: family.to_owned(), ports: ports.clone(), endpoints: vec![endpoint] });
                }
            }
        }
    }
    groups
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: None, terminating: None }),
        deprecated_topology: None,
        hints: None,
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        zone: None,
    }
}
