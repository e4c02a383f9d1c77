//! A claim: bound, waiting, being provisioned, or lost.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Map, Value, json};

use super::super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, MIGRATED_TO, OLD_PROVISIONER, PROVISIONER, SELECTED_NODE};
use super::{Plan, SeenClaim, Step, annotation, driver_for, key_of, matching, migration, name_of, named_by};

/// Says what size a volume had before it grew: what its file system still has.
const SIZE_BEFORE: &str = "volume.alpha.kubernetes.io/pre-resize-capacity";
const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// The one plugin in the controller that could provision; only single-node test clusters let it.
const HOST_PATH: &str = "kubernetes.io/host-path";

pub(in super::super) fn of_claim(seen: &SeenClaim) -> Plan {
    let claim = &seen.claim;
    let mut plan = Plan::default();
    let provisioner = annotation(&claim.metadata, PROVISIONER).or_else(|| annotation(&claim.metadata, OLD_PROVISIONER));
    if let Some(driver) = migration(&claim.metadata, provisioner) {
        let change = json!({"metadata": {"annotations": {MIGRATED_TO: driver}}});
        plan.steps.push(Step::EditClaim { key: key_of(claim), change });
    }
    match (annotation(&claim.metadata, BIND_COMPLETED), named_by(claim)) {
        (None, "") => unnamed(&mut plan, seen),
        (None, name) => asked_for(&mut plan, seen, name),
        (Some(_), name) => bound(&mut plan, seen, name),
    }
    plan
}

/// It was bound before. That is for ever: what it lost it does not get from another volume.
fn bound(plan: &mut Plan, seen: &SeenClaim, name: &str) {
    let claim = &seen.claim;
    let lost = |plan: &mut Plan, reason, message: &str| {
        if phase_of(claim) != "Lost" {
            settle(plan, claim, "Lost", None);
            plan.warn(reason, message);
        }
    };
    if name.is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost(plan, "ClaimLost", message);
    }
    let Some(volume) = find(seen, name) else {
        return lost(plan, "ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    match reference {
        Some(reference) if reference.uid != claim.metadata.uid => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            lost(plan, "ClaimMisbound", message);
        }
        _ => bind(plan, volume, claim),
    }
}

/// Its author wants a certain volume.
fn asked_for(plan: &mut Plan, seen: &SeenClaim, name: &str) {
    let claim = &seen.claim;
    let Some(volume) = find(seen, name) else { return settle(plan, claim, "Pending", None) };
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    match reference {
        None => match matching::mismatch(volume, claim) {
            Some(why) => {
                plan.warn("VolumeMismatch", format!("Cannot bind to requested volume \"{name}\": {why}"));
                settle(plan, claim, "Pending", None);
            }
            None => bind(plan, volume, claim),
        },
        Some(_) if matching::is_bound_to(volume, claim) => bind(plan, volume, claim),
        Some(reference) => {
            plan.warn("FailedBinding", format!("volume \"{name}\" already bound to a different claim."));
            if annotation(&claim.metadata, BOUND_BY_CONTROLLER).is_none() {
                return settle(plan, claim, "Pending", None);
            }
            let text = |field: &Option<String>| field.clone().unwrap_or_default();
            plan.failure = Some(format!(
                "invalid binding of claim {:?} to volume {name:?}: volume already claimed by \"{}/{}\"",
                key_of(claim).to_string(),
                text(&reference.namespace),
                text(&reference.name)
            ));
        }
    }
}

/// Any volume that suits will do.
fn unnamed(plan: &mut Plan, seen: &SeenClaim) {
    let claim = &seen.claim;
    let class_name = matching::class_of_claim(claim);
    let class = seen.classes.iter().find(|class| name_of(&class.metadata) == class_name);
    let delay = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(volume) = matching::best(claim, &seen.volumes, delay) {
        return bind(plan, volume, claim);
    }
    // A default that came later than the claim is the claim's, too (KEP-3333).
    if !matching::says_class(claim)
        && let Some(default) = default_of(&seen.classes)
    {
        let change = json!({"spec": {"storageClassName": name_of(&default.metadata)}});
        return plan.steps.push(Step::EditClaim { key: key_of(claim), change });
    }
    if delay && annotation(&claim.metadata, SELECTED_NODE).is_none() {
        match &seen.waiting[..] {
            [] => plan.tell("WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
            [pod] => plan.tell("WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
            pods => plan.tell("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(","))),
        }
    } else if !class_name.is_empty() {
        return provision(plan, claim, class_name, class);
    } else {
        let message = "no persistent volumes available for this claim and no storage class is set";
        plan.tell("FailedBinding", message);
    }
    settle(plan, claim, "Pending", None);
}

/// Tells whoever provisions for the class that this claim wants a volume.
fn provision(plan: &mut Plan, claim: &PersistentVolumeClaim, class_name: &str, class: Option<&StorageClass>) {
    let Some(class) = class else {
        let message = format!("storageclass.storage.k8s.io \"{class_name}\" not found");
        return plan.warn("ProvisioningFailed", message);
    };
    let asked = class.provisioner.as_str();
    let driver = driver_for(asked);
    if driver.is_none() && asked.starts_with("kubernetes.io/") && asked != HOST_PATH {
        return plan.warn("ProvisioningFailed", format!("no volume plugin matched name: {asked}"));
    }
    let name = driver.unwrap_or(asked);
    if annotation(&claim.metadata, PROVISIONER) != Some(name) {
        let change = json!({"metadata": {"annotations": {OLD_PROVISIONER: name, PROVISIONER: name}}});
        plan.steps.push(Step::EditClaim { key: key_of(claim), change });
    }
    if asked == HOST_PATH {
        let message =
            "Failed to create provisioner: provisioning in volume plugin \"kubernetes.io/host-path\" is disabled";
        return plan.warn("ProvisioningFailed", message);
    }
    plan.tell(
        "ExternalProvisioning",
        format!(
            "Waiting for a volume to be created either by the external provisioner '{name}' or manually by the system \
             administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
             registered."
        ),
    );
}

/// Of several defaults the newest: whoever made it wants it.
fn default_of(classes: &[StorageClass]) -> Option<&StorageClass> {
    let marked =
        |class: &&StorageClass| IS_DEFAULT.iter().any(|mark| annotation(&class.metadata, mark) == Some("true"));
    let created = |class: &StorageClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
    classes
        .iter()
        .filter(marked)
        .min_by(|a, b| created(b).cmp(&created(a)).then_with(|| name_of(&a.metadata).cmp(name_of(&b.metadata))))
}

/// Volume and claim name each other: first the volume, so that nobody else gets it.
fn bind(plan: &mut Plan, volume: &PersistentVolume, claim: &PersistentVolumeClaim) {
    let volume_name = name_of(&volume.metadata);
    let mut change = Map::new();
    if !matching::is_bound_to(volume, claim) && annotation(&volume.metadata, BOUND_BY_CONTROLLER).is_none() {
        change.insert("metadata".to_owned(), json!({"annotations": {BOUND_BY_CONTROLLER: "yes"}}));
    }
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
    if reference.uid.is_none() || reference.uid != claim.metadata.uid || !matching::is_bound_to(volume, claim) {
        change.insert(
            "spec".to_owned(),
            json!({"claimRef": client::events::reference::<PersistentVolumeClaim>(&claim.metadata)}),
        );
    }
    if !change.is_empty() {
        plan.steps.push(Step::EditVolume { name: volume_name.to_owned(), change: Value::Object(change) });
    }
    plan.phase(volume, "Bound", "");

    let mut annotations = Map::new();
    let mut change = Map::new();
    if named_by(claim) != volume_name {
        change.insert("spec".to_owned(), json!({"volumeName": volume_name}));
        if annotation(&claim.metadata, BOUND_BY_CONTROLLER).is_none() {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), json!("yes"));
        }
    }
    if annotation(&claim.metadata, BIND_COMPLETED).is_none() {
        annotations.insert(BIND_COMPLETED.to_owned(), json!("yes"));
    }
    if !annotations.is_empty() {
        change.insert("metadata".to_owned(), json!({"annotations": annotations}));
    }
    if !change.is_empty() {
        plan.steps.push(Step::EditClaim { key: key_of(claim), change: Value::Object(change) });
    }
    settle(plan, claim, "Bound", Some(volume));
}

/// Sets the claim's phase, and with a volume what it got.
fn settle(plan: &mut Plan, claim: &PersistentVolumeClaim, phase: &'static str, volume: Option<&PersistentVolume>) {
    let old = claim.status.clone().unwrap_or_default();
    let mut new = PersistentVolumeClaimStatus { phase: Some(phase.to_owned()), ..old.clone() };
    match volume {
        None => {
            new.access_modes = None;
            new.capacity = None;
            new.current_volume_attributes_class_name = None;
        }
        Some(volume) => {
            let offer = volume.spec.clone().unwrap_or_default();
            new.access_modes = offer.access_modes;
            if phase_of(claim) != phase {
                let Some(capacity) = offer.capacity.filter(|list| list.contains_key("storage")) else {
                    let name = name_of(&volume.metadata);
                    plan.failure = Some(format!("PersistentVolume {name:?} is without a storage capacity"));
                    return;
                };
                new.capacity = Some(size_of(volume, &old, capacity));
            }
            if phase_of(claim) == "Pending" && phase == "Bound" {
                new.current_volume_attributes_class_name = offer.volume_attributes_class_name;
            }
        }
    }
    if new != old {
        plan.steps.push(Step::ClaimStatus { key: key_of(claim), status: Box::new(new) });
    }
}

fn size_of(
    volume: &PersistentVolume,
    old: &PersistentVolumeClaimStatus,
    capacity: BTreeMap<String, Quantity>,
) -> BTreeMap<String, Quantity> {
    let before = annotation(&volume.metadata, SIZE_BEFORE);
    let Some(before) = before.filter(|text| text.parse::<api::quantity::Quantity>().is_ok()) else { return capacity };
    let mut sizes = old.capacity.clone().unwrap_or_default();
    sizes.insert("storage".to_owned(), Quantity(before.to_owned()));
    sizes
}

fn find<'a>(seen: &'a SeenClaim, name: &str) -> Option<&'a PersistentVolume> {
    seen.volumes.iter().find(|volume| name_of(&volume.metadata) == name)
}

fn phase_of(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}
