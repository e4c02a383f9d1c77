//! Volumes that say by labels in which zones they are; node affinity says the same better, and came later.

use api::object::ObjectKey;
use k8s_openapi::api::core::v1::PersistentVolume;

use super::{Filter, Plugin, Rejection, Verdict};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const ZONE: &str = "topology.kubernetes.io/zone";
const REGION: &str = "topology.kubernetes.io/region";
const OLD_ZONE: &str = "failure-domain.beta.kubernetes.io/zone";
const OLD_REGION: &str = "failure-domain.beta.kubernetes.io/region";
const LABELS: [&str; 4] = [OLD_ZONE, OLD_REGION, ZONE, REGION];
/// Between the zones of a volume that is in several.
const BETWEEN: &str = "__";

pub struct VolumeZone<'a> {
    /// A label, and the values of which a node must have one.
    places: Vec<(&'static str, Vec<&'a str>)>,
}

impl<'a> VolumeZone<'a> {
    /// # Errors
    /// When the volume of a claim is missing.
    pub fn new(pod: &PodInfo, snapshot: &'a Snapshot) -> Result<Self, Rejection> {
        let mut places = Vec::new();
        for (name, _) in pod.needs.claims.iter().filter(|(_, ephemeral)| !ephemeral) {
            // What a claim lacks, and may lack, is VolumeBinding's to say.
            let Some(claim) = snapshot.claims.get(&ObjectKey::new(&pod.key.namespace, name)) else { continue };
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
            if volume.is_empty() {
                continue;
            }
            let Some(volume) = snapshot.volumes.get(volume) else {
                let reason = format!("persistentvolume \"{volume}\" not found");
                return Err(Rejection::unresolvable(Plugin::VolumeZone, reason));
            };
            places.extend(places_of(volume));
        }
        Ok(Self { places })
    }
}

fn places_of(volume: &PersistentVolume) -> impl Iterator<Item = (&'static str, Vec<&str>)> {
    let labels = volume.metadata.labels.as_ref();
    let named = LABELS.into_iter().filter_map(move |label| Some((label, labels?.get(label)?)));
    let read = named.map(|(label, text)| (label, text.split(BETWEEN).map(str::trim).collect::<Vec<_>>()));
    // One that cannot be read says nothing.
    read.filter(|(_, zones)| zones.iter().all(|zone| !zone.is_empty()))
}

fn newer(label: &str) -> &str {
    match label {
        OLD_ZONE => ZONE,
        OLD_REGION => REGION,
        label => label,
    }
}

impl Filter for VolumeZone<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let somewhere = LABELS.iter().any(|label| node.label(label).is_some());
        let suits = self.places.iter().all(|(label, zones)| {
            let here = node.label(label).or_else(|| node.label(newer(label)));
            here.is_some_and(|zone| zones.contains(&zone))
        });
        if !somewhere || suits {
            return Ok(());
        }
        Err(Rejection::unresolvable(Plugin::VolumeZone, "node(s) had no available volume zone"))
    }
}
