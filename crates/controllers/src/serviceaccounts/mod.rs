//! What every namespace has from the start: a ServiceAccount `default`, and the certificates of the API server.
//!
//! Two controllers of one form: each watches namespaces and one kind of object, and puts back what is missing.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed, own_key};
use client::request::RequestError;
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError};

const ROOT_CA: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                           endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                           guaranteed across distributions of Kubernetes clusters.";

/// Creates a ServiceAccount `default` in every namespace, until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    const NAME: &str = "serviceaccount-controller";
    let (session, writer) = context.session("service-account-controller", NAME);
    let namespaces = Arc::new(View::new(&*context.informers, scope_of::<Namespace>()));
    let scope = scope_of::<ServiceAccount>().with_fields("metadata.name=default");
    let accounts = Arc::new(View::new(&*context.informers, scope));
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&namespaces, own_key)
        .watch(&accounts, namespace_of)
        .workers(2);
    let work = controller.run(token.clone(), move |key: ObjectKey| {
        let (namespaces, accounts) = (namespaces.clone(), accounts.clone());
        let requests = session.requests.clone();
        async move {
            if !is_active(&namespaces, &key) || accounts.get(&ObjectKey::new(&key.name, "default")).is_some() {
                return Ok(Action::Done);
            }
            let account =
                json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key.name}});
            settle(requests.create(&resource_of::<ServiceAccount>(), &key.name, &account).await.map(drop))
        }
    });
    tokio::join!(work, writer.run(token));
}

/// Keeps a ConfigMap `kube-root-ca.crt` in every namespace, until `token` is cancelled.
pub async fn run_root_ca_publisher(context: Context, token: CancellationToken) {
    const NAME: &str = "root-ca-certificate-publisher-controller";
    let (session, writer) = context.session("root-ca-cert-publisher", NAME);
    let namespaces = Arc::new(View::new(&*context.informers, scope_of::<Namespace>()));
    let scope = scope_of::<ConfigMap>().with_fields(&format!("metadata.name={ROOT_CA}"));
    let maps = Arc::new(View::new(&*context.informers, scope));
    let controller =
        Controller::new(NAME, context.clock.clone()).watch(&namespaces, own_key).watch(&maps, namespace_of).workers(2);
    let work = controller.run(token.clone(), move |key: ObjectKey| {
        let (namespaces, maps, settings) = (namespaces.clone(), maps.clone(), context.settings.clone());
        let requests = session.requests.clone();
        async move {
            if !is_active(&namespaces, &key) {
                return Ok(Action::Done);
            }
            let content = root_ca(&settings.root_ca);
            let held = maps.get(&ObjectKey::new(&key.name, ROOT_CA));
            let resource = resource_of::<ConfigMap>();
            settle(match held {
                Some(held) => match correction(&held, &content) {
                    Some(change) => requests.edit(&resource, &held, None, &change).await.map(drop),
                    None => Ok(()),
                },
                None => {
                    let mut map = content;
                    map["apiVersion"] = json!("v1");
                    map["kind"] = json!("ConfigMap");
                    map["metadata"]["name"] = json!(ROOT_CA);
                    map["metadata"]["namespace"] = json!(key.name);
                    requests.create(&resource, &key.name, &map).await.map(drop)
                }
            })
        }
    });
    tokio::join!(work, writer.run(token));
}

fn root_ca(certificates: &str) -> Value {
    json!({
        "metadata": {"annotations": {"kubernetes.io/description": DESCRIPTION}},
        "data": {"ca.crt": certificates},
    })
}

/// What makes a ConfigMap hold the certificates and nothing else.
fn correction(held: &Entry, content: &Value) -> Option<Value> {
    let data = held.to_value()["data"].clone();
    let data = client::patch::merge_difference(&data, &content["data"])?;
    Some(json!({"metadata": content["metadata"], "data": data}))
}

fn namespace_of(change: &Change) -> Vec<ObjectKey> {
    changed(change).map(|entry| ObjectKey::new("", &entry.key.namespace)).into_iter().collect()
}

fn is_active(namespaces: &View, key: &ObjectKey) -> bool {
    namespaces.get(key).and_then(|entry| decode::<Namespace>(&entry)).is_some_and(|namespace| {
        let phase = namespace.status.and_then(|status| status.phase);
        namespace.metadata.deletion_timestamp.is_none() && phase.as_deref() != Some("Terminating")
    })
}

/// Somebody was faster, or the namespace is going: both are as well.
fn settle(outcome: Result<(), RequestError>) -> Result<Action, ReconcileError> {
    match outcome {
        Err(error) if error.is_already_exists() || error.is_namespace_terminating() => Ok(Action::Done),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(Action::Done),
    }
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn every_namespace_has_its_account_and_certificates_also_after_they_were_lost() {
        let cluster = FakeCluster::new();
        cluster.put(&resource_of::<Namespace>(), json!({"metadata": {"name": "shop"}, "status": {"phase": "Active"}}));
        let mut harness = Harness::start(&cluster, run);
        harness.also(&cluster, run_root_ca_publisher);
        let account = ObjectKey::new("shop", "default");
        let map = ObjectKey::new("shop", ROOT_CA);
        let maps = resource_of::<ConfigMap>();
        let certificates = || cluster.get(&maps, &map).map_or(Value::Null, |map| map["data"].clone());
        eventually(|| cluster.get(&resource_of::<ServiceAccount>(), &account).is_some()).await;
        eventually(|| certificates() == json!({"ca.crt": "CERTIFICATE"})).await;
        cluster.remove(&resource_of::<ServiceAccount>(), &account);
        cluster
            .put(&maps, json!({"metadata": {"name": ROOT_CA, "namespace": "shop"}, "data": {"ca.crt": "x", "y": "z"}}));
        eventually(|| cluster.get(&resource_of::<ServiceAccount>(), &account).is_some()).await;
        eventually(|| certificates() == json!({"ca.crt": "CERTIFICATE"})).await;
        harness.stop().await;
    }
}
