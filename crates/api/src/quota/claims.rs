//! PersistentVolumeClaims and the storage that they ask for, altogether and for each StorageClass.

use std::collections::BTreeSet;

use serde_json::Value;

use super::amounts::Amounts;
use super::scopes::lets_through;
use crate::quantity::Quantity;

const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";
const CLASS_INFIX: &str = ".storageclass.storage.k8s.io/";
/// Where a claim named its class before there was a field.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(super) fn measures(name: &str) -> bool {
    let name = name.split_once(CLASS_INFIX).map_or(name, |(_, measured)| measured);
    matches!(name, CLAIMS | STORAGE)
}

pub(super) fn usage(claim: &Value) -> Amounts {
    let mut usage = Amounts::default();
    let class = class(claim);
    usage.count(CLAIMS, 1);
    if !class.is_empty() {
        usage.count(format!("{class}{CLASS_INFIX}{CLAIMS}"), 1);
    }
    if let Some(storage) = storage(claim) {
        if !class.is_empty() {
            usage.set(format!("{class}{CLASS_INFIX}{STORAGE}"), storage.clone());
        }
        usage.set(STORAGE, storage);
    }
    usage
}

/// The class that a claim names, by the older way first.
pub fn class(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    annotated.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default()
}

/// What is asked for, or what is being allocated if that is more; in whole bytes.
fn storage(claim: &Value) -> Option<Quantity> {
    let amount = |value: &Value| Quantity::from_json(value).ok();
    let asked = amount(&claim["spec"]["resources"]["requests"]["storage"])?;
    let allocated = amount(&claim["status"]["allocatedResources"]["storage"]);
    let storage = allocated.filter(|allocated| *allocated > asked).unwrap_or(asked);
    Some(match storage.exact_i64() {
        None if storage.value() != i64::MAX => Quantity::from_i64(storage.value(), storage.format()),
        _ => storage,
    })
}

pub(super) fn is_in_scope(selector: &Value, claim: &Value) -> bool {
    if selector["scopeName"] != "VolumeAttributesClass" {
        return false;
    }
    let classes = attribute_classes(claim);
    match classes.is_empty() {
        true => lets_through(selector, None),
        false => classes.into_iter().any(|class| lets_through(selector, Some(class))),
    }
}

/// The VolumeAttributesClasses that a claim has, has had or is about to have.
fn attribute_classes(claim: &Value) -> BTreeSet<&str> {
    let named = [
        &claim["spec"]["volumeAttributesClassName"],
        &claim["status"]["currentVolumeAttributesClassName"],
        &claim["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ];
    named.into_iter().filter_map(Value::as_str).filter(|class| !class.is_empty()).collect()
}

pub(super) fn may_give_back(old: &Value, new: &Value) -> bool {
    let allocated = |claim: &Value| claim["status"]["allocatedResources"]["storage"].clone();
    allocated(old) != allocated(new) || attribute_classes(old) != attribute_classes(new)
}
