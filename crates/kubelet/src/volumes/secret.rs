//! A Secret's keys as files, in memory only.

use k8s_openapi::api::core::v1::{KeyToPath, Pod, SecretVolumeSource};

use super::{Payload, VolumeError, project};
use crate::env::{EnvError, Objects};

pub(super) async fn payload(
    objects: &dyn Objects,
    pod: &Pod,
    source: &SecretVolumeSource,
) -> Result<Payload, VolumeError> {
    let name = source.secret_name.as_deref().unwrap_or_default();
    files(objects, pod, name, source.items.as_deref(), source.default_mode, source.optional == Some(true)).await
}

/// What a secret volume and a projection of one have in common.
pub(super) async fn files(
    objects: &dyn Objects,
    pod: &Pod,
    name: &str,
    items: Option<&[KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let kind = "secret";
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let read = objects.secret(namespace, name).await;
    let Some(secret) = read.map_err(|why| EnvError::Unreadable { kind, name: name.to_owned(), why })? else {
        return match optional {
            true => Ok(Payload::new()),
            false => Err(EnvError::Missing { kind, name: name.to_owned() }.into()),
        };
    };
    let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
    project(data.collect(), items, default_mode, optional, "secret")
}
