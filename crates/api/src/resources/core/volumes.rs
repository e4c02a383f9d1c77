//! PersistentVolumes and PersistentVolumeClaims.

use serde_json::{Value, json};

use crate::resources::fields::{default, default_zero, is_empty, object};
use crate::resources::hooks::{Hooks, PLAIN};

pub(super) static VOLUMES: Hooks = Hooks {
    default: |volume| {
        default_zero(object(volume, "status"), "phase", "Pending");
        let spec = object(volume, "spec");
        default_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        default(spec, "volumeMode", "Filesystem");
    },
    prepare_create: |volume| {
        let created = volume["metadata"]["creationTimestamp"].clone();
        volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": created});
    },
    ..PLAIN
};

pub(super) static CLAIMS: Hooks = Hooks {
    default: claim_defaults,
    prepare_create: |claim| {
        claim["status"] = json!({"phase": "Pending"});
        same_source(&mut claim["spec"]);
    },
    prepare_update: |new, _| same_source(&mut new["spec"]),
    ..PLAIN
};

/// A claim, also as the template of a StatefulSet.
pub(crate) fn claim_defaults(claim: &mut Value) {
    default_zero(object(claim, "status"), "phase", "Pending");
    default(object(claim, "spec"), "volumeMode", "Filesystem");
}

/// `dataSource` and `dataSourceRef` say the same where either is set, unless the latter names a namespace.
fn same_source(spec: &mut Value) {
    let (source, reference) = (spec["dataSource"].clone(), spec["dataSourceRef"].clone());
    if !is_empty(&source) && is_empty(&reference) {
        spec["dataSourceRef"] = source;
    } else if !is_empty(&reference) && is_empty(&source) && is_empty(&reference["namespace"]) {
        spec["dataSource"] = reference;
    } else if source.is_null() && reference.is_null() {
        for field in ["dataSource", "dataSourceRef"] {
            crate::resources::strategy::remove(spec, field);
        }
    }
}
