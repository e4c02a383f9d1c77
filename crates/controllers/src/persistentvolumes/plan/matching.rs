//! Which volume a claim gets (`k8s.io/component-helpers/storage/volume`).

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::super::OLD_CLASS;
use super::{annotation, key_of, phase_of};
use crate::common::selector;

pub(in super::super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, OLD_CLASS).or(named).unwrap_or_default()
}

/// A claim that says it wants no class has said something.
pub(super) fn says_class(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some());
    named || annotation(&claim.metadata, OLD_CLASS).is_some()
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, OLD_CLASS).or(named).unwrap_or_default()
}

/// Whether the volume names the claim. Without a UID it was made for whoever gets that name.
pub(super) fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (key, uid) = (key_of(claim), text(&reference.uid));
    text(&reference.name) == key.name
        && text(&reference.namespace) == key.namespace
        && (uid.is_empty() || uid == text(&claim.metadata.uid))
}

/// The volume that suits a claim best: of those with the fewest access modes that are enough, the one that names it, else
/// the smallest that is large enough. With `delay`, only one that names it: who schedules its pod chooses.
pub(super) fn best<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &'a [PersistentVolume],
    delay: bool,
) -> Option<&'a PersistentVolume> {
    let mut by_modes: BTreeMap<(usize, BTreeSet<&str>), Vec<&PersistentVolume>> = BTreeMap::new();
    for volume in volumes.iter().filter(|volume| offers_modes(volume, claim)) {
        let modes = modes_of(volume);
        by_modes.entry((modes.len(), modes)).or_default().push(volume);
    }
    by_modes.values().find_map(|volumes| best_of(claim, volumes, delay))
}

fn best_of<'a>(
    claim: &PersistentVolumeClaim,
    volumes: &[&'a PersistentVolume],
    delay: bool,
) -> Option<&'a PersistentVolume> {
    let taken = |volume: &PersistentVolume| volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    let suit = volumes.iter().filter(|volume| {
        (is_bound_to(volume, claim) || !taken(volume))
            && volume.metadata.deletion_timestamp.is_none()
            && capacity(volume) >= wanted(claim)
            && mode_of_volume(volume) == mode_of_claim(claim)
            && attributes_of_volume(volume) == attributes_of_claim(claim)
    });
    let (own, free): (Vec<&PersistentVolume>, Vec<&PersistentVolume>) =
        suit.partition(|volume| is_bound_to(volume, claim));
    if let Some(own) = own.first() {
        return Some(own);
    }
    if delay {
        return None;
    }
    let labels = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let wish = labels.map(|labels| selector(Some(labels)));
    let free = free.into_iter().filter(|volume| {
        let labels = volume.metadata.labels.clone().unwrap_or_default();
        phase_of(volume) == "Available"
            && class_of_volume(volume) == class_of_claim(claim)
            && wish.as_ref().is_none_or(|wish| wish.matches(&labels))
    });
    free.min_by_key(|volume| (capacity(volume), volume.metadata.name.clone()))
}

/// Why a volume that a claim asks for by name is not what it asks for otherwise.
pub(super) fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let name = super::name_of(&volume.metadata);
    let problem = match () {
        () if volume.metadata.deletion_timestamp.is_some() => {
            return Some(format!("the volume is marked for deletion {name:?}"));
        }
        () if capacity(volume) < wanted(claim) => "requested PV is too small",
        () if class_of_volume(volume) != class_of_claim(claim) => "storageClassName does not match",
        () if attributes_of_volume(volume) != attributes_of_claim(claim) => "volumeAttributesClassName does not match",
        () if !same_mode(volume, claim) => "incompatible volumeMode",
        () if !offers_modes(volume, claim) => "incompatible accessMode",
        () => return None,
    };
    Some(problem.to_owned())
}

pub(super) fn same_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    mode_of_volume(volume) == mode_of_claim(claim)
}

fn mode_of_volume(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem")
}

fn mode_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem")
}

fn attributes_of_volume(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default()
}

fn attributes_of_claim(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()).unwrap_or_default()
}

fn modes_of(volume: &PersistentVolume) -> BTreeSet<&str> {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes.into_iter().flatten().map(String::as_str).collect()
}

fn offers_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let offered = modes_of(volume);
    let asked = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    asked.into_iter().flatten().all(|mode| offered.contains(mode.as_str()))
}

fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

fn wanted(claim: &PersistentVolumeClaim) -> Quantity {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref()))
}

/// The amount of storage in a list; nothing where it is not named. What cannot be read validation has refused.
fn storage(list: Option<&BTreeMap<String, Text>>) -> Quantity {
    let amount = list.and_then(|list| list.get("storage")).and_then(|text| text.0.parse().ok());
    amount.unwrap_or_else(|| Quantity::from_i64(0, Format::BinarySi))
}
