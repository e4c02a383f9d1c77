//! What scheduling needs to know of a pod, parsed once.

use std::collections::{BTreeMap, BTreeSet};

use api::object::ObjectKey;
use api::selector::label::LabelSelector;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeAffinity, Pod, PodAffinityTerm, PodSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as SelectorSpec;

use super::resources::{self, Resources};

/// A pod as the scheduler sees it.
#[derive(Clone, Debug, Default)]
pub struct PodInfo {
    pub key: ObjectKey,
    pub uid: String,
    /// The node that the pod is bound to.
    pub node: Option<String>,
    /// The node on which room was made for the pod by preemption.
    pub nominated: Option<String>,
    /// The pod is being deleted.
    pub deleting: bool,
    /// The pod has ended and holds nothing any more.
    pub finished: bool,
    pub started: Option<Timestamp>,
    pub needs: Needs,
}

/// What decides where a pod can go: a change in it makes another attempt worthwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    pub scheduler: String,
    pub labels: BTreeMap<String, String>,
    pub priority: i32,
    pub never_preempts: bool,
    pub requests: Resources,
    /// The requests with something assumed for containers that request no CPU or memory.
    pub scored: Resources,
    pub ports: Vec<HostPort>,
    pub tolerations: Vec<Toleration>,
    pub node_selector: BTreeMap<String, String>,
    pub node_affinity: Option<NodeAffinity>,
    pub affinity: Vec<Term>,
    pub anti_affinity: Vec<Term>,
    pub preferred_affinity: Vec<(i64, Term)>,
    pub preferred_anti_affinity: Vec<(i64, Term)>,
    pub spread: Vec<Spread>,
    /// Names of the PersistentVolumeClaims; `true` for those made for the pod's ephemeral volumes.
    pub claims: Vec<(String, bool)>,
    /// Disks that the pod names itself.
    pub disks: Vec<Disk>,
    /// The images of all containers, normalised to carry a tag or digest.
    pub images: Vec<String>,
    pub gates: Vec<String>,
    /// Kind and name of the controller.
    pub controller: Option<(String, String)>,
}

/// A port that the pod takes on the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Empty and `0.0.0.0` are all addresses.
    pub ip: String,
    pub protocol: String,
    pub port: i32,
}

/// A disk that a pod names itself, which pods on one node cannot share unless all only read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    kind: &'static str,
    name: String,
    /// Of Ceph's: any one in common makes two clusters the same.
    monitors: Vec<String>,
    read_only: bool,
}

impl Disk {
    /// Whether pods with these two cannot be on one node.
    pub fn excludes(&self, other: &Self) -> bool {
        let same_cluster = self.monitors.is_empty() || self.monitors.iter().any(|one| other.monitors.contains(one));
        let both_read = self.read_only && other.read_only;
        self.kind == other.kind && self.name == other.name && same_cluster && !both_read
    }
}

/// Pods near or far from which a pod is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    pub selector: LabelSelector,
    pub namespaces: BTreeSet<String>,
    /// Further namespaces, by their labels.
    pub namespace_selector: LabelSelector,
    pub topology_key: String,
}

/// A topology spread constraint (KEP-895, KEP-3094).
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    pub max_skew: i64,
    pub topology_key: String,
    pub hard: bool,
    pub selector: LabelSelector,
    pub min_domains: Option<i64>,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

impl PodInfo {
    pub fn of(pod: &Pod) -> Self {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let spec = pod.spec.as_ref();
        Self {
            key: ObjectKey::new(namespace, metadata.name.clone().unwrap_or_default()),
            uid: metadata.uid.clone().unwrap_or_default(),
            node: spec.and_then(|spec| spec.node_name.clone()).filter(|name| !name.is_empty()),
            nominated: status.and_then(|status| status.nominated_node_name.clone()).filter(|name| !name.is_empty()),
            deleting: metadata.deletion_timestamp.is_some(),
            finished: matches!(phase, Some("Succeeded" | "Failed")),
            started: status.and_then(|status| status.start_time.as_ref()).map(|time| time.0),
            needs: spec.map(|spec| Needs::of(pod, spec)).unwrap_or_default(),
        }
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.needs.labels
    }
}

impl Needs {
    fn of(pod: &Pod, spec: &PodSpec) -> Self {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let affinity = spec.affinity.as_ref();
        let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
        let far = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
        let required = |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<Term> {
            terms.into_iter().flatten().map(|term| Term::of(term, namespace)).collect()
        };
        let preferred = |terms: Option<&Vec<k8s_openapi::api::core::v1::WeightedPodAffinityTerm>>| {
            let terms = terms.into_iter().flatten();
            terms.map(|term| (i64::from(term.weight), Term::of(&term.pod_affinity_term, namespace))).collect()
        };
        Self {
            scheduler: spec.scheduler_name.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or_default(),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests: resources::of_pod(spec),
            scored: resources::scored(spec),
            ports: ports(spec),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            node_affinity: affinity.and_then(|affinity| affinity.node_affinity.clone()),
            affinity: required(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            anti_affinity: required(far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
            preferred_affinity: preferred(
                near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            preferred_anti_affinity: preferred(
                far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            ),
            spread: spread(spec, &labels),
            claims: claims(pod, spec),
            disks: disks(spec),
            images: images(spec),
            gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            controller: controller(pod),
            labels,
        }
    }
}

impl Term {
    fn of(term: &PodAffinityTerm, namespace: &str) -> Self {
        let mut namespaces: BTreeSet<String> = term.namespaces.iter().flatten().cloned().collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(namespace.to_owned());
        }
        Self {
            selector: selector(term.label_selector.as_ref()),
            namespaces,
            namespace_selector: selector(term.namespace_selector.as_ref()),
            topology_key: term.topology_key.clone(),
        }
    }
}

/// A selector ready to match; one that is malformed selects nothing.
pub(crate) fn selector(selector: Option<&SelectorSpec>) -> LabelSelector {
    let json = selector.and_then(|selector| serde_json::to_value(selector).ok());
    LabelSelector::from_json(json.as_ref()).unwrap_or_default()
}

fn ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(HostPort {
                ip: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}

fn spread(spec: &PodSpec, labels: &BTreeMap<String, String>) -> Vec<Spread> {
    let constraints = spec.topology_spread_constraints.iter().flatten();
    constraints
        .map(|constraint| {
            let mut wanted = constraint.label_selector.clone();
            for key in constraint.match_label_keys.iter().flatten() {
                if let (Some(value), Some(wanted)) = (labels.get(key), wanted.as_mut()) {
                    wanted.match_labels.get_or_insert_default().insert(key.clone(), value.clone());
                }
            }
            Spread {
                max_skew: i64::from(constraint.max_skew),
                topology_key: constraint.topology_key.clone(),
                hard: constraint.when_unsatisfiable == "DoNotSchedule",
                selector: selector(wanted.as_ref()),
                min_domains: constraint.min_domains.map(i64::from),
                honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
                honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            }
        })
        .collect()
}

fn claims(pod: &Pod, spec: &PodSpec) -> Vec<(String, bool)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some((claim.claim_name.clone(), false)),
            (None, Some(_)) => Some((format!("{name}-{}", volume.name), true)),
            (None, None) => None,
        })
        .collect()
}

fn disks(spec: &PodSpec) -> Vec<Disk> {
    let volumes = spec.volumes.iter().flatten();
    volumes
        .filter_map(|volume| {
            let (kind, name, monitors, read_only) = if let Some(it) = &volume.gce_persistent_disk {
                ("gce", it.pd_name.clone(), Vec::new(), it.read_only)
            } else if let Some(it) = &volume.aws_elastic_block_store {
                // Even readers exclude each other.
                ("aws", it.volume_id.clone(), Vec::new(), None)
            } else if let Some(it) = &volume.iscsi {
                ("iscsi", it.iqn.clone(), Vec::new(), it.read_only)
            } else if let Some(it) = &volume.rbd {
                let pool = it.pool.as_deref().unwrap_or("rbd");
                ("rbd", format!("{pool}/{}", it.image), it.monitors.clone(), it.read_only)
            } else {
                return None;
            };
            Some(Disk { kind, name, monitors, read_only: read_only == Some(true) })
        })
        .collect()
}

fn images(spec: &PodSpec) -> Vec<String> {
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.filter_map(|container| container.image.as_deref().map(tagged)).collect()
}

/// Image names on nodes always carry a tag or digest.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

fn controller(pod: &Pod) -> Option<(String, String)> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| owner.controller == Some(true));
    owners.next().map(|owner| (owner.kind.clone(), owner.name.clone()))
}
