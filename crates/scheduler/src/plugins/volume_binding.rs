//! A pod goes where its volumes can: bound claims say where, claims that wait for their first consumer are bound
//! to a volume that the node reaches, or provisioned once the node is known.

use std::collections::BTreeSet;

use api::object::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{Filter, Plugin, Rejection, Verdict, node_affinity};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot, selector};

/// Set on a claim to tell its provisioner on which node the volume is needed.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner of classes whose volumes are made by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

pub struct VolumeBinding<'a> {
    snapshot: &'a Snapshot,
    /// The volume of each bound claim; `None` if it does not exist.
    bound: Vec<Option<&'a PersistentVolume>>,
    waiting: Vec<&'a PersistentVolumeClaim>,
}

/// What is to become of a claim that waits for its first consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Bind it to this volume.
    Volume { claim: ObjectKey, volume: String },
    /// Have it provisioned for the node.
    Provision { claim: ObjectKey },
}

impl<'a> VolumeBinding<'a> {
    /// # Errors
    /// When a claim is missing, being deleted, or must be bound before the pod can be placed.
    pub fn new(pod: &PodInfo, snapshot: &'a Snapshot) -> Result<Self, Rejection> {
        let mut this = Self { snapshot, bound: Vec::new(), waiting: Vec::new() };
        let reject = |reason: String| Rejection::unresolvable(Plugin::VolumeBinding, reason);
        for (name, ephemeral) in &pod.needs.claims {
            let key = ObjectKey::new(&pod.key.namespace, name);
            let claim = snapshot.claims.get(&key).ok_or_else(|| match ephemeral {
                true => reject(format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                )),
                false => reject(format!("persistentvolumeclaim \"{name}\" not found")),
            })?;
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(reject(format!("persistentvolumeclaim \"{name}\" is being deleted")));
            }
            if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
                let volume = volume_of(claim).unwrap_or_default();
                return Err(reject(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                )));
            }
            match volume_of(claim) {
                Some(volume) => this.bound.push(snapshot.volumes.get(volume)),
                None if waits(claim, snapshot) => this.waiting.push(claim),
                None => return Err(reject("pod has unbound immediate PersistentVolumeClaims".to_owned())),
            }
        }
        Ok(this)
    }

    /// What to do with the waiting claims if the pod goes to the node; `None` if they cannot be satisfied there.
    pub fn bindings(&self, node: &NodeInfo) -> Option<Vec<Binding>> {
        let mut taken = BTreeSet::new();
        let mut bindings = Vec::new();
        for claim in &self.waiting {
            let key = key_of(claim);
            let volumes = self.snapshot.volumes.values().filter(|volume| suits(volume, claim));
            let volumes = volumes.filter(|volume| reaches(volume, node));
            let free = volumes.filter(|volume| !taken.contains(&volume.metadata.name));
            // The smallest that is large enough wastes least.
            match free.min_by_key(|volume| (capacity(volume), volume.metadata.name.clone())) {
                Some(volume) => {
                    taken.insert(volume.metadata.name.clone());
                    let volume = volume.metadata.name.clone().unwrap_or_default();
                    bindings.push(Binding::Volume { claim: key, volume });
                }
                None if self.provisions(claim, node) => bindings.push(Binding::Provision { claim: key }),
                None => return None,
            }
        }
        Some(bindings)
    }

    fn provisions(&self, claim: &PersistentVolumeClaim, node: &NodeInfo) -> bool {
        let Some(class) = class_of(claim).and_then(|name| self.snapshot.classes.get(name)) else { return false };
        let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
        let allowed = topologies.is_empty()
            || topologies.iter().any(|term| {
                let mut labels = term.match_label_expressions.iter().flatten();
                labels.all(|wanted| node.label(&wanted.key).is_some_and(|v| wanted.values.iter().any(|one| one == v)))
            });
        class.provisioner != BY_HAND && allowed
    }
}

impl Filter for VolumeBinding<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        for volume in &self.bound {
            let Some(volume) = volume else {
                let reason = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
                return Err(Rejection::unresolvable(Plugin::VolumeBinding, reason));
            };
            if !reaches(volume, node) {
                let reason = "node(s) didn't match PersistentVolume's node affinity";
                return Err(Rejection::unresolvable(Plugin::VolumeBinding, reason));
            }
        }
        if self.bindings(node).is_none() {
            let reason = "node(s) didn't find available persistent volumes to bind";
            return Err(Rejection::unresolvable(Plugin::VolumeBinding, reason));
        }
        Ok(())
    }
}

fn key_of(claim: &PersistentVolumeClaim) -> ObjectKey {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    ObjectKey::new(text(&claim.metadata.namespace), text(&claim.metadata.name))
}

fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn class_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

fn waits(claim: &PersistentVolumeClaim, snapshot: &Snapshot) -> bool {
    let class = class_of(claim).and_then(|name| snapshot.classes.get(name));
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

fn reaches(volume: &PersistentVolume, node: &NodeInfo) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|selector| node_affinity::matches(selector, node))
}

fn capacity(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    crate::snapshot::Resources::of(capacity).get("storage")
}

/// Whether the volume is free and is what the claim asks for.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offer), Some(wish)) = (&volume.spec, &claim.spec) else { return false };
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let wanted = wish.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let modes = offer.access_modes.as_deref().unwrap_or_default();
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    phase == Some("Available")
        && offer.claim_ref.is_none()
        && offer.storage_class_name.as_deref().unwrap_or_default() == class_of(claim).unwrap_or_default()
        && mode(&offer.volume_mode) == mode(&wish.volume_mode)
        && wish.access_modes.iter().flatten().all(|wanted| modes.contains(wanted))
        && wish.selector.as_ref().is_none_or(|wish| selector(Some(wish)).matches(&labels))
        && capacity(volume) >= crate::snapshot::Resources::of(wanted).get("storage")
}
