//! The pod's own fields and resources as files.

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

use super::{File, Payload, VolumeError, mode};
use crate::env::fields::{self, Facts};

pub(super) fn payload(
    pod: &Pod,
    facts: &Facts,
    items: &[DownwardAPIVolumeFile],
    default_mode: Option<i32>,
) -> Result<Payload, VolumeError> {
    let mut payload = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            fields::pod_field(pod, facts, &field.field_path)?
        } else if let Some(resource) = &item.resource_field_ref {
            fields::resource(pod, None, facts, resource)?
        } else {
            continue;
        };
        let file = File { data: text.into_bytes(), mode: mode(item.mode, default_mode), uid: None };
        payload.insert(item.path.clone(), file);
    }
    Ok(payload)
}
