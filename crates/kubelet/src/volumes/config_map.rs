//! A ConfigMap's keys as files.

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath, Pod};

use super::{Payload, VolumeError, project};
use crate::env::{EnvError, Objects};

pub(super) async fn payload(
    objects: &dyn Objects,
    pod: &Pod,
    source: &ConfigMapVolumeSource,
) -> Result<Payload, VolumeError> {
    let optional = source.optional == Some(true);
    files(objects, pod, &source.name, source.items.as_deref(), source.default_mode, optional).await
}

/// What a configMap volume and a projection of one have in common.
pub(super) async fn files(
    objects: &dyn Objects,
    pod: &Pod,
    name: &str,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let kind = "configmap";
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let read = objects.config_map(namespace, name).await;
    let Some(map) = read.map_err(|why| EnvError::Unreadable { kind, name: name.to_owned(), why })? else {
        return match optional {
            true => Ok(Payload::new()),
            false => Err(EnvError::Missing { kind, name: name.to_owned() }.into()),
        };
    };
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    project(text.chain(binary).collect(), items, default_mode, optional, "config")
}
