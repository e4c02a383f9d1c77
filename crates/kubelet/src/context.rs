//! What the rooms of the agent share: settings, clients, the runtime, and the adapters from the API to what rooms ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::ObjectKey;
use client::clock::Clock;
use client::events::Recorder;
use client::informer::Informers;
use client::request::Requests;
use client::typed::{Typed, resource_of};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{
    ConfigMap, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::env::Objects;
use crate::env::fields::Facts;
use crate::eviction::Pressure;
use crate::eviction::observe::Sensors;
use crate::images::Pulls;
use crate::node::capacity::Capacity;
use crate::runtime::Runtime;
use crate::volumes::claims::Storage;
use crate::volumes::{Token, Tokens, Volumes};

pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) requests: Requests,
    pub(crate) informers: Arc<dyn Informers>,
    pub(crate) services: Typed<Service>,
    pub(crate) runtime: Runtime,
    pub(crate) volumes: Volumes,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: TaskTracker,
    pub(crate) capacity: RwLock<Capacity>,
    pub(crate) sensors: Arc<dyn Sensors>,
    pub(crate) pulls: Pulls,
    /// What the node has too little of.
    pub(crate) pressure: watch::Sender<Pressure>,
}

impl Context {
    /// What a pod with these addresses can learn of itself and its node.
    pub(crate) fn facts(&self, pod: &Pod, ips: &[String]) -> Facts {
        let host_ips: Vec<String> = self.config.node_ips.iter().map(ToString::to_string).collect();
        let host_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        Facts {
            pod_ips: if host_network { host_ips.clone() } else { ips.to_vec() },
            host_ips,
            allocatable: self.capacity.read().allocatable(),
        }
    }
}

/// ConfigMaps and Secrets as the API server has them now.
pub(crate) struct ApiObjects(pub(crate) Requests);

impl ApiObjects {
    async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, String>
    where
        K: k8s_openapi::Resource + DeserializeOwned,
    {
        match self.0.get(&resource_of::<K>(), &ObjectKey::new(namespace, name)).await {
            Ok(object) => serde_json::from_value(object).map(Some).map_err(|error| error.to_string()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.message()),
        }
    }
}

impl Objects for ApiObjects {
    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<ConfigMap>, String>> {
        self.get(namespace, name).boxed()
    }

    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, String>> {
        self.get(namespace, name).boxed()
    }
}

/// Claims, volumes and the node as the API server has them now: the node may read those of its pods one by one, and not
/// watch them.
pub(crate) struct ApiStorage {
    pub(crate) requests: Requests,
    pub(crate) node_name: String,
}

impl ApiStorage {
    async fn get<K>(&self, namespace: &str, name: &str) -> Result<K, String>
    where
        K: k8s_openapi::Resource + DeserializeOwned,
    {
        let found = self.requests.get(&resource_of::<K>(), &ObjectKey::new(namespace, name)).await;
        serde_json::from_value(found.map_err(|error| error.message())?).map_err(|error| error.to_string())
    }
}

impl Storage for ApiStorage {
    fn claim<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<PersistentVolumeClaim, String>> {
        self.get(namespace, name).boxed()
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, String>> {
        self.get("", name).boxed()
    }

    fn node_labels(&self) -> BoxFuture<'_, Result<BTreeMap<String, String>, String>> {
        async { Ok(self.get::<Node>("", &self.node_name).await?.metadata.labels.unwrap_or_default()) }.boxed()
    }
}

/// Tokens by the TokenRequest API, bound to the pod: they end with it.
pub(crate) struct ApiTokens {
    pub(crate) requests: Requests,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Tokens for ApiTokens {
    fn request<'a>(
        &'a self,
        pod: &'a Pod,
        audience: Option<&'a str>,
        seconds: i64,
    ) -> BoxFuture<'a, Result<Token, String>> {
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
        let account = account.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".to_owned());
        let key = ObjectKey::new(pod.metadata.namespace.clone().unwrap_or_default(), account);
        let audiences: Vec<&str> = audience.into_iter().collect();
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": audiences,
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": pod.metadata.name, "uid": pod.metadata.uid,
                },
            },
        });
        async move {
            let resource = resource_of::<ServiceAccount>();
            let answer = self.requests.create_sub(&resource, &key, "token", &body).await;
            let answer = answer.map_err(|error| error.message())?;
            read_token(&answer, self.clock.now() + SignedDuration::from_secs(seconds))
        }
        .boxed()
    }
}

fn read_token(answer: &Value, asked: Timestamp) -> Result<Token, String> {
    let token = answer["status"]["token"].as_str().ok_or("the server's answer holds no token")?.to_owned();
    let expires = answer["status"]["expirationTimestamp"].as_str().and_then(|it| it.parse().ok()).unwrap_or(asked);
    Ok(Token { token, expires })
}
