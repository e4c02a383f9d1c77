//! `storage.k8s.io`.

mod classes;
mod validation;

use serde_json::{Value, json};

use super::fields::{default, is_empty, object, same};
use super::hooks::{Generation, Hooks, PLAIN, STATUS_ALONE};
use super::row::{Row, cluster, namespaced};
use super::strategy::{bump_generation, changed};
use crate::resource::Resource;

const GROUP: &str = "storage.k8s.io";

/// Kinds whose writers must have read what they overwrite.
const STRICT_RULES: Hooks = Hooks { unconditional_update: false, ..PLAIN };

static CLASSES: Hooks = Hooks {
    default: |class| {
        default(class, "reclaimPolicy", "Delete");
        default(class, "volumeBindingMode", "Immediate");
    },
    validate_create: classes::class,
    validate_update: classes::class_update,
    ..PLAIN
};

static DRIVERS: Hooks = Hooks {
    unconditional_update: false,
    // Drivers count their changes from nothing.
    generation: Generation::Own,
    default: |driver| {
        let spec = object(driver, "spec");
        default(spec, "attachRequired", true);
        for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default(spec, field, false);
        }
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if is_empty(&spec["volumeLifecycleModes"]) {
            spec["volumeLifecycleModes"] = json!(["Persistent"]);
        }
    },
    prepare_update: |new, old| {
        if changed(new, old) {
            bump_generation(new, old);
        }
    },
    validate_create: validation::driver,
    validate_update: validation::driver_update,
    warnings: driver_warnings,
    ..PLAIN
};

/// Tokens in the attributes of volumes find their way into logs.
fn driver_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let (requests, spec) = (&new["spec"]["tokenRequests"], &new["spec"]);
    let stands = old.is_some_and(|old| same(&old["spec"]["tokenRequests"], requests));
    if is_empty(requests) || stands || !spec["serviceAccountTokenInSecrets"].is_null() {
        return Vec::new();
    }
    vec![
        "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible \
         logging of tokens in volume attributes"
            .to_owned(),
    ]
}

static NODES: Hooks =
    Hooks { validate_create: validation::node, validate_update: validation::node_update, ..STRICT_RULES };

static CAPACITIES: Hooks =
    Hooks { validate_create: validation::capacity, validate_update: validation::capacity_update, ..STRICT_RULES };

static ATTACHMENTS: Hooks = Hooks {
    validate_create: validation::attachment,
    validate_update: validation::attachment_update,
    subresources: &[("status", STATUS_ALONE)],
    ..STRICT_RULES
};

static ATTRIBUTES: Hooks =
    Hooks { validate_create: validation::attributes, validate_update: validation::attributes_update, ..PLAIN };

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(GROUP, "csidrivers", "CSIDriver").returns_deleted().hooks(&DRIVERS),
        cluster(GROUP, "csinodes", "CSINode").returns_deleted().hooks(&NODES),
        namespaced(GROUP, "csistoragecapacities", "CSIStorageCapacity").hooks(&CAPACITIES),
        cluster(GROUP, "storageclasses", "StorageClass").returns_deleted().short(&["sc"]).hooks(&CLASSES),
        cluster(GROUP, "volumeattachments", "VolumeAttachment").returns_deleted().status().hooks(&ATTACHMENTS),
        cluster(GROUP, "volumeattributesclasses", "VolumeAttributesClass")
            .returns_deleted()
            .short(&["vac"])
            .hooks(&ATTRIBUTES),
    ]
}
