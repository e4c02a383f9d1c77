//! `resource.k8s.io`: devices that drivers offer (ResourceSlices), kinds of them (DeviceClasses), and who asks for and
//! has them (ResourceClaims, ResourceClaimTemplates). The rules are those of
//! `k8s.io/kubernetes/pkg/apis/resource/validation`.

mod claims;
mod classes;
mod parts;
mod policies;
mod selectors;
mod slices;
mod status;

use serde_json::Value;

use super::fields::{default_zero, each, within};
use super::hooks::{Generation, Hooks, PLAIN, STATUS_ALONE, SubresourceHooks};
use super::row::{Row, cluster, namespaced};
use crate::resource::Resource;

const GROUP: &str = "resource.k8s.io";

static CLASSES: Hooks = Hooks {
    generation: Generation::Counted,
    validate_create: classes::class,
    validate_update: classes::class_update,
    ..PLAIN
};

static CLAIMS: Hooks = Hooks {
    default: |claim| within(claim, "spec", requests),
    validate_create: claims::claim,
    validate_update: claims::claim_update,
    subresources: &[("status", CLAIM_STATUS)],
    ..PLAIN
};

const CLAIM_STATUS: SubresourceHooks = SubresourceHooks {
    prepare: |new, old| {
        (STATUS_ALONE.prepare)(new, old);
        status::drop_deallocated(new, old);
    },
    validate: status::update,
    ..STATUS_ALONE
};

static CLAIM_TEMPLATES: Hooks = Hooks {
    default: |template| within(template, "spec", |template| within(template, "spec", requests)),
    validate_create: claims::template,
    validate_update: claims::template_update,
    ..PLAIN
};

static SLICES: Hooks = Hooks {
    generation: Generation::Counted,
    validate_create: slices::slice,
    validate_update: slices::slice_update,
    ..PLAIN
};

/// A request for devices that says no number is for one.
fn requests(spec: &mut Value) {
    let one = |request: &mut Value| {
        default_zero(request, "allocationMode", "ExactCount");
        if request["allocationMode"] == "ExactCount" {
            default_zero(request, "count", 1);
        }
        each(request, "tolerations", |toleration| default_zero(toleration, "operator", "Equal"));
    };
    within(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            within(request, "exactly", one);
            each(request, "firstAvailable", one);
        });
    });
}

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(GROUP, "deviceclasses", "DeviceClass").returns_deleted().hooks(&CLASSES),
        namespaced(GROUP, "resourceclaims", "ResourceClaim").returns_deleted().status().hooks(&CLAIMS),
        namespaced(GROUP, "resourceclaimtemplates", "ResourceClaimTemplate").returns_deleted().hooks(&CLAIM_TEMPLATES),
        cluster(GROUP, "resourceslices", "ResourceSlice")
            .returns_deleted()
            .hooks(&SLICES)
            .select(&["spec.nodeName", "spec.driver"]),
    ]
}
