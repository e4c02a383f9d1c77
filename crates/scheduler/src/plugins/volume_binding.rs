//! A pod goes where its volumes can: bound claims say where, claims that wait for their first consumer are bound
//! to a volume that the node reaches, or provisioned once the node is known.

use std::collections::BTreeSet;

use api::object::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{Filter, Plugin, Rejection, Verdict, node_affinity};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot, selector};

/// Set on a claim to tell its provisioner on which node the volume is needed.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Both sides of a claim's binding have been written.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// How objects named their class before there was a field for it.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// The provisioner of classes whose volumes are made by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

pub struct VolumeBinding<'a> {
    snapshot: &'a Snapshot,
    /// The volume of each bound claim; `None` if it does not exist.
    bound: Vec<Option<&'a PersistentVolume>>,
    /// Claims that wait for the pod, the smallest first.
    waiting: Vec<&'a PersistentVolumeClaim>,
}

/// What is to become of a claim that waits for its first consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Bind it to this volume as it is now.
    Volume { claim: ObjectKey, volume: String, chosen: Chosen },
    /// Have it provisioned for the node.
    Provision { claim: ObjectKey },
}

/// What a volume was when it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    pub uid: String,
    pub version: String,
    /// It named the claim already, by whoever made it.
    pub named: bool,
}

impl<'a> VolumeBinding<'a> {
    /// # Errors
    /// When a claim is missing, somebody else's, lost, being deleted, or must be bound before the pod can be placed.
    pub fn new(pod: &PodInfo, snapshot: &'a Snapshot) -> Result<Self, Rejection> {
        let mut this = Self { snapshot, bound: Vec::new(), waiting: Vec::new() };
        let reject = |reason: String| Rejection::unresolvable(Plugin::VolumeBinding, reason);
        let mut held = Vec::new();
        for (name, ephemeral) in &pod.needs.claims {
            let claim = snapshot.claims.get(&ObjectKey::new(&pod.key.namespace, name));
            let claim = claim.ok_or_else(|| match ephemeral {
                true => reject(format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                )),
                false => reject(format!("persistentvolumeclaim \"{name}\" not found")),
            })?;
            check(pod, claim, name, *ephemeral).map_err(reject)?;
            held.push(claim);
        }
        for claim in held {
            let completed = annotation(claim, BIND_COMPLETED).is_some();
            match volume_of(claim) {
                Some(volume) if completed => this.bound.push(snapshot.volumes.get(volume)),
                None if waits(claim, snapshot) => this.waiting.push(claim),
                _ => return Err(reject("pod has unbound immediate PersistentVolumeClaims".to_owned())),
            }
        }
        this.waiting.sort_by_key(|claim| wanted(claim));
        Ok(this)
    }

    /// What to do with the waiting claims if the pod goes to the node; `None` if they cannot be satisfied there.
    pub fn bindings(&self, node: &NodeInfo) -> Option<Vec<Binding>> {
        let mut taken = BTreeSet::new();
        let mut bindings = Vec::new();
        for claim in &self.waiting {
            let found = match annotation(claim, SELECTED_NODE) {
                // It is being provisioned, for one node.
                Some(selected) if selected != node.name => return None,
                Some(_) => None,
                None => self.volume_for(claim, node, &taken),
            };
            let key = key_of(claim);
            match found {
                Some(volume) => {
                    let text = |field: &Option<String>| field.clone().unwrap_or_default();
                    let metadata = &volume.metadata;
                    let name = text(&metadata.name);
                    taken.insert(name.clone());
                    let (uid, version) = (text(&metadata.uid), text(&metadata.resource_version));
                    let chosen = Chosen { uid, version, named: is_bound_to(volume, claim) };
                    bindings.push(Binding::Volume { claim: key, volume: name, chosen });
                }
                None if self.provisions(claim, node) => bindings.push(Binding::Provision { claim: key }),
                None => return None,
            }
        }
        Some(bindings)
    }

    /// The volume that names the claim, if the node reaches it; else the smallest that is large enough.
    fn volume_for(
        &self,
        claim: &PersistentVolumeClaim,
        node: &NodeInfo,
        taken: &BTreeSet<String>,
    ) -> Option<&'a PersistentVolume> {
        let volumes = self.snapshot.volumes.values().filter(|volume| {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            !taken.contains(name) && class_of_volume(volume) == class_of(claim) && suits(volume, claim)
        });
        let (own, free): (Vec<_>, Vec<_>) = volumes.partition(|volume| is_bound_to(volume, claim));
        if let Some(own) = own.first() {
            return Some(*own).filter(|volume| reaches(volume, node));
        }
        let free = free.into_iter().filter(|volume| is_free(volume, claim) && reaches(volume, node));
        free.min_by_key(|volume| (capacity(volume), volume.metadata.name.clone()))
    }

    fn provisions(&self, claim: &PersistentVolumeClaim, node: &NodeInfo) -> bool {
        let Some(class) = self.snapshot.classes.get(class_of(claim)) else { return false };
        let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
        let allowed = topologies.is_empty()
            || topologies.iter().any(|term| {
                let mut labels = term.match_label_expressions.iter().flatten();
                labels.all(|wanted| node.label(&wanted.key).is_some_and(|v| wanted.values.iter().any(|one| one == v)))
            });
        !matches!(class.provisioner.as_str(), "" | BY_HAND) && allowed
    }
}

impl Filter for VolumeBinding<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let missing = self.bound.iter().any(Option::is_none);
        let reached = missing || self.bound.iter().flatten().all(|volume| reaches(volume, node));
        let reasons = [
            (!reached, "node(s) didn't match PersistentVolume's node affinity"),
            (self.bindings(node).is_none(), "node(s) didn't find available persistent volumes to bind"),
            (missing, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
        ];
        let reasons: Vec<String> =
            reasons.iter().filter(|(is, _)| *is).map(|(_, reason)| (*reason).to_owned()).collect();
        if reasons.is_empty() {
            return Ok(());
        }
        Err(Rejection { plugin: Plugin::VolumeBinding, reasons, unresolvable: true })
    }
}

/// Whether the pod may wait for what becomes of the claim.
fn check(pod: &PodInfo, claim: &PersistentVolumeClaim, name: &str, ephemeral: bool) -> Result<(), String> {
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
        let volume = volume_of(claim).unwrap_or_default();
        return Err(format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
    }
    let mut owners = claim.metadata.owner_references.iter().flatten().filter(|owner| owner.controller == Some(true));
    if ephemeral && !owners.any(|owner| owner.uid == pod.uid) {
        let namespace = &pod.key.namespace;
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{} (pod is not owner)",
            pod.key.name
        ));
    }
    Ok(())
}

fn key_of(claim: &PersistentVolumeClaim) -> ObjectKey {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    ObjectKey::new(text(&claim.metadata.namespace), text(&claim.metadata.name))
}

fn annotation<'a>(claim: &'a PersistentVolumeClaim, name: &str) -> Option<&'a str> {
    claim.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn class_of(claim: &PersistentVolumeClaim) -> &str {
    let named = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(claim, OLD_CLASS).or(named).unwrap_or_default()
}

fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let old = volume.metadata.annotations.as_ref().and_then(|all| all.get(OLD_CLASS)).map(String::as_str);
    old.or(named).unwrap_or_default()
}

fn waits(claim: &PersistentVolumeClaim, snapshot: &Snapshot) -> bool {
    let class = snapshot.classes.get(class_of(claim));
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

fn wanted(claim: &PersistentVolumeClaim) -> i64 {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    crate::snapshot::Resources::of(resources.and_then(|resources| resources.requests.as_ref())).get("storage")
}

/// Whether the volume names the claim. Without a UID it was made for whoever gets that name.
fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return false };
    let uid = reference.uid.as_deref().filter(|uid| !uid.is_empty());
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_none() || uid == claim.metadata.uid.as_deref())
}

/// Whether the volume is large enough and of the kind that the claim asks for, and nobody else's.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offer), Some(wish)) = (&volume.spec, &claim.spec) else { return false };
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    (offer.claim_ref.is_none() || is_bound_to(volume, claim))
        && volume.metadata.deletion_timestamp.is_none()
        && mode(&offer.volume_mode) == mode(&wish.volume_mode)
        && attributes(&offer.volume_attributes_class_name) == attributes(&wish.volume_attributes_class_name)
        && capacity(volume) >= wanted(claim)
}

/// Whether the claim may have a volume that nobody has.
fn is_free(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(offer), Some(wish)) = (&volume.spec, &claim.spec) else { return false };
    let modes = offer.access_modes.as_deref().unwrap_or_default();
    let labels = volume.metadata.labels.clone().unwrap_or_default();
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Available")
        && wish.access_modes.iter().flatten().all(|wanted| modes.contains(wanted))
        && wish.selector.as_ref().is_none_or(|wish| selector(Some(wish)).matches(&labels))
}
