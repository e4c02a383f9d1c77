//! `kube-system/extension-apiserver-authentication`: whom servers behind this one are to believe. It is restored when
//! somebody changes it, since those servers read it as they start.

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::Status;
use client::informer::{Informers as _, Scope};
use serde_json::{Value, json};
use tracing::warn;

use super::itself;
use crate::bootstrap;
use crate::document::Document;
use crate::registry::Call;
use crate::request::ResourceRequest;
use crate::server::ApiServer;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// Keeps the ConfigMap as it should be.
pub(super) async fn run(server: &Arc<ApiServer>) {
    let wanted = wanted(server);
    let mut scope = Scope::all("", "v1", "configmaps").with_fields(&format!("metadata.name={NAME}"));
    scope.namespace = Some(NAMESPACE.to_owned());
    let informers = server.informers(server.streams.clone(), server.stop.clone());
    let informer = informers.informer(scope);
    let mut changes = informer.subscribe();
    // The first look is due whether there is a ConfigMap or not: the informer says so when it has told all.
    while changes.recv().await.is_some() {
        if let Err(why) = keep(server, &wanted).await {
            warn!(%why, "the ConfigMap {NAMESPACE}/{NAME} could not be written");
        }
    }
}

fn wanted(server: &ApiServer) -> Value {
    let mut data = json!({"client-ca-file": server.client_authority});
    if let Some(front) = &server.aggregation.front {
        data["requestheader-client-ca-file"] = json!(front.authority);
        let lists = [
            ("allowed-names", json!(front.allowed_names)),
            ("extra-headers-prefix", json!(["X-Remote-Extra-"])),
            ("group-headers", json!(["X-Remote-Group"])),
            ("uid-headers", json!(["X-Remote-Uid"])),
            ("username-headers", json!(["X-Remote-User"])),
        ];
        for (field, list) in lists {
            data[format!("requestheader-{field}")] = json!(list.to_string());
        }
    }
    json!({"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": data})
}

async fn keep(server: &ApiServer, wanted: &Value) -> Result<(), Status> {
    let served = server.registry.catalogue.find("", "v1", "configmaps").ok_or_else(Status::path_not_found)?;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let key = ObjectKey::new(NAMESPACE, NAME);
    let Some(live) = server.registry.fresh(cache, &key).await? else {
        return bootstrap::ensure(server, "", "configmaps", wanted.clone()).await;
    };
    let mut object = live.to_value();
    if object["data"] == wanted["data"] || object.is_terminating() {
        return Ok(());
    }
    object["data"] = wanted["data"].clone();
    let target = ResourceRequest {
        version: "v1".to_owned(),
        namespace: NAMESPACE.to_owned(),
        resource: "configmaps".to_owned(),
        name: NAME.to_owned(),
        ..ResourceRequest::default()
    };
    let mut call = Call::internal(itself(), "update", target, object.to_string().into());
    server.registry.handle(&served, &mut call).await.map(drop)
}
