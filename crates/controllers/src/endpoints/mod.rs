//! The pods of a Service as one Endpoints object, for those who still read it (deprecated since 1.33).

mod plan;

use std::sync::Arc;

use api::object::ObjectKey;
use client::informer::Informer;
use client::reconcile::{Action, Controller, own_key};
use client::request::Delete;
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use tokio_util::sync::CancellationToken;

use crate::common::services;
use crate::{Context, ReconcileError, Session};

const NAME: &str = "endpoints-controller";

struct EndpointsController {
    session: Session,
    services: Arc<View>,
    pods: Arc<View>,
    endpoints: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("endpoint-controller", NAME);
    let services = Arc::new(View::new(&*context.informers, scope_of::<Service>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()));
    let endpoints = Arc::new(View::new(&*context.informers, scope_of::<Endpoints>()));
    let all = services.clone();
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&services, own_key)
        .watch(&pods, move |change| services::services_of(&all, change))
        .watch(&endpoints, own_key)
        .workers(5);
    let this = Arc::new(EndpointsController { session, services, pods, endpoints });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl EndpointsController {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let resource = resource_of::<Endpoints>();
        let requests = &self.session.requests;
        let held = self.endpoints.get(&key);
        let Some(service) = self.services.get(&key).and_then(|entry| decode::<Service>(&entry)) else {
            // Endpoints of this controller's go with their Service; others are their users' to delete.
            if let Some(held) = held.filter(|held| plan::is_managed(held)) {
                match requests.delete(&resource, &key, &Delete::of(&held.uid)).await {
                    Err(error) if !error.is_not_found() => return Err(error.into()),
                    _ => {}
                }
            }
            return Ok(Action::Done);
        };
        let Some(selector) = services::selector_of(&service) else { return Ok(Action::Done) };
        let pods = services::selected_pods(&self.pods, &key.namespace, &selector);
        let outcome = match held {
            None => requests.create(&resource, &key.namespace, &plan::create(&service, &pods)).await.map(Some),
            Some(held) => {
                let Some(old) = decode::<Endpoints>(&held) else { return Ok(Action::Done) };
                match plan::change(&service, &pods, &old) {
                    Some(change) => requests.edit(&resource, &held, None, &change).await,
                    None => Ok(None),
                }
            }
        };
        match outcome {
            // Made a moment ago: its change will come by.
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(Action::Done),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Action::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn ready_and_other_addresses_are_kept_apart() {
        let cluster = FakeCluster::new();
        let service = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"selector": {"app": "web"},
            "clusterIP": "10.43.0.9", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}});
        cluster.put(&resource_of::<Service>(), service);
        for (name, ip, ready) in [("a", "10.42.0.9", "True"), ("b", "10.42.0.3", "True"), ("c", "10.42.0.5", "False")] {
            cluster.put(
                &resource_of::<Pod>(),
                json!({"metadata": {"namespace": "shop", "name": name, "labels": {"app": "web"}},
                       "spec": {"nodeName": "n1", "containers": []},
                       "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}}),
            );
        }
        let harness = Harness::start(&cluster, run);
        let endpoints = || cluster.get(&resource_of::<Endpoints>(), &ObjectKey::new("shop", "web"));
        eventually(|| endpoints().is_some()).await;
        let subsets = endpoints().unwrap()["subsets"].clone();
        let ips = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|address| address["ip"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ips(&subsets[0]["addresses"]), ["10.42.0.3", "10.42.0.9"]);
        assert_eq!(ips(&subsets[0]["notReadyAddresses"]), ["10.42.0.5"]);
        assert_eq!(subsets[0]["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));
        cluster.remove(&resource_of::<Service>(), &ObjectKey::new("shop", "web"));
        eventually(|| endpoints().is_none()).await;
        harness.stop().await;
    }
}
