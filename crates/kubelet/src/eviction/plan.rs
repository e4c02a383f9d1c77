//! What is to be done about what runs short. Pure: readings in; conditions, and who must go with which words, out.
//!
//! The orders, words and numbers are upstream's (`pkg/kubelet/eviction`): people and programs read them in events and in
//! the status of pods.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Toleration};

use super::thresholds::{Resource, Signal, Threshold};
use super::{Pressure, REASON};
use crate::admission;
use crate::pods::spec::{self, Role};
use crate::status::Verdict;

/// Seconds that a pod gets when the node needs room at once.
const AT_ONCE: i64 = 1;

/// How much is free of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) free: u64,
    pub(crate) whole: u64,
}

pub(crate) type Readings = BTreeMap<Signal, Reading>;

/// What was seen before. Times are of the clock that never runs backwards: a node that slept has not been short meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// Since when a threshold is met without a break; by its place.
    since: BTreeMap<usize, Duration>,
    /// Which were met for long enough: they hold until the least reclaim is reached.
    met: BTreeSet<usize>,
    /// When each condition was seen last: memory, disk, pids.
    last: [Option<Duration>; 3],
}

/// What the readings mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Findings {
    pub(super) pressure: Pressure,
    /// The thresholds to act upon, memory's first.
    pub(super) starved: Vec<Threshold>,
}

fn is_met(threshold: &Threshold, readings: &Readings, with_reclaim: bool) -> bool {
    let Some(reading) = readings.get(&threshold.signal) else { return false };
    let mut wanted = threshold.least.of(reading.whole);
    if let Some(more) = threshold.reclaim.as_ref().filter(|_| with_reclaim) {
        wanted = wanted.add(&more.of(reading.whole));
    }
    wanted > number(reading.free, Format::DecimalSi)
}

/// Which thresholds are met, which have been for as long as they say, and what the node is to tell of it.
pub(super) fn assess(
    memory: &mut Memory,
    thresholds: &[Threshold],
    readings: &Readings,
    transition: Duration,
    now: Duration,
) -> Findings {
    let each = thresholds.iter().enumerate();
    let met = each.filter(|(place, it)| is_met(it, readings, memory.met.contains(place))).map(|(place, _)| place);
    let since = met.map(|place| (place, memory.since.get(&place).copied().unwrap_or(now))).collect();
    memory.since = since;
    let mut seen = Pressure::default();
    for place in memory.since.keys() {
        seen = seen.and(thresholds[*place].signal.resource().pressure());
    }
    for (last, seen) in memory.last.iter_mut().zip(seen.each()) {
        if seen {
            *last = Some(now);
        }
    }
    let recent = memory.last.map(|last| last.is_some_and(|last| now.saturating_sub(last) < transition));
    let past_grace = |(place, since): (&usize, &Duration)| {
        (now.saturating_sub(*since) >= thresholds[*place].grace).then_some(*place)
    };
    memory.met = memory.since.iter().filter_map(past_grace).collect();
    let mut starved: Vec<Threshold> = memory.met.iter().map(|place| thresholds[*place].clone()).collect();
    starved.sort_by_key(|threshold| threshold.signal.resource() != Resource::Memory);
    // Without a period of transition a condition is told for as long as it holds.
    let [memory, disk, pids] = recent;
    Findings { pressure: Pressure { memory, disk, pids }.and(seen), starved }
}

/// Whether all thresholds, with what is reclaimed beyond them, are satisfied.
pub(super) fn is_relieved(thresholds: &[Threshold], readings: &Readings) -> bool {
    !thresholds.iter().any(|threshold| is_met(threshold, readings, true))
}

/// What is on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Disk {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl Disk {
    pub(crate) fn and(self, more: Self) -> Self {
        Self { bytes: self.bytes + more.bytes, inodes: self.inodes + more.inodes }
    }
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ContainerUse {
    pub(crate) name: String,
    /// Its working set, in bytes.
    pub(crate) memory: u64,
    /// What it wrote to its root.
    pub(crate) root: Disk,
    pub(crate) logs: Disk,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PodUse {
    pub(crate) containers: Vec<ContainerUse>,
    /// Volumes whose files are the node's, by name: also those in memory.
    pub(crate) volumes: BTreeMap<String, Disk>,
    /// The hosts file, last words, logs that are no container's.
    pub(crate) other: Disk,
    pub(crate) processes: u64,
}

/// A pod that may be ended.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) pod: Arc<Pod>,
    /// None if it could not be measured.
    pub(crate) usage: Option<PodUse>,
}

/// A pod that must go.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Eviction {
    pub(super) uid: String,
    pub(super) verdict: Verdict,
    pub(super) annotations: BTreeMap<String, String>,
    /// The most seconds that it gets; its own if none.
    pub(super) grace: Option<i64>,
}

fn number(value: u64, format: Format) -> Quantity {
    Quantity::from_i64(i64::try_from(value).unwrap_or(i64::MAX), format).canonical()
}

fn bytes(value: u64) -> Quantity {
    number(value, Format::BinarySi)
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// A static pod, its mirror, and what the system needs are never evicted: they would not come back, or it would fall.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    const SYSTEM: i32 = 2_000_000_000;
    let annotations = pod.metadata.annotations.iter().flatten();
    let mut marks = annotations.filter(|(key, value)| match key.as_str() {
        "kubernetes.io/config.source" => *value != "api",
        "kubernetes.io/config.mirror" => true,
        _ => false,
    });
    marks.next().is_some() || spec::spec(pod).priority.is_some_and(|priority| priority >= SYSTEM)
}

/// Whether a node that is short takes a pod.
pub(crate) fn admit(pod: &Pod, pressure: Pressure) -> Result<(), Verdict> {
    let spec = spec::spec(pod);
    let tolerated = || spec.tolerations.iter().flatten().any(tolerates_memory_pressure);
    let only_memory = pressure == Pressure { memory: true, ..Pressure::default() };
    if pressure == Pressure::default()
        || is_critical(pod)
        || only_memory && (spec::qos_class(&spec) != "BestEffort" || tolerated())
    {
        return Ok(());
    }
    Err(Verdict::new(REASON, format!("The node had condition: [{}]. ", pressure.names().join(" "))))
}

fn tolerates_memory_pressure(toleration: &Toleration) -> bool {
    let said = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (said(&toleration.effect), said(&toleration.key));
    (effect.is_empty() || effect == "NoSchedule")
        && (key.is_empty() || key == "node.kubernetes.io/memory-pressure")
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            // The taint has no value.
            None | Some("" | "Equal") => !key.is_empty() && said(&toleration.value).is_empty(),
            _ => false,
        }
}

/// Whether anything limits what the pod writes: only then it need be measured while the node is not short.
pub(super) fn has_local_limits(pod: &Pod) -> bool {
    let spec = spec::spec(pod);
    let volumes = spec.volumes.iter().flatten();
    let mut sizes = volumes.filter_map(|it| it.empty_dir.as_ref()?.size_limit.as_ref());
    sizes.next().is_some() || storage_limit(&spec).is_some()
}

/// A pod that has written more than it may: an emptyDir beyond its size, all of it beyond the pod's limit, or a container
/// beyond its own.
pub(super) fn over_limit(candidate: &Candidate, own_image_disk: bool) -> Option<Eviction> {
    let usage = candidate.usage.as_ref()?;
    if is_critical(&candidate.pod) {
        return None;
    }
    let spec = spec::spec(&candidate.pod);
    let message = volume_over_limit(&spec, usage)
        .or_else(|| pod_over_limit(&spec, usage))
        .or_else(|| container_over_limit(&spec, usage, own_image_disk))?;
    let verdict = Verdict::new(REASON, message);
    Some(Eviction { uid: uid(&candidate.pod), verdict, annotations: BTreeMap::new(), grace: Some(AT_ONCE) })
}

fn volume_over_limit(spec: &PodSpec, usage: &PodUse) -> Option<String> {
    let limited = spec.volumes.iter().flatten().filter_map(|volume| {
        let limit: Quantity = volume.empty_dir.as_ref()?.size_limit.as_ref()?.0.parse().ok()?;
        Some((&volume.name, limit)).filter(|(_, limit)| limit.signum() > 0)
    });
    let mut over = limited.filter(|(name, limit)| usage.volumes.get(*name).is_some_and(|it| bytes(it.bytes) > *limit));
    over.next().map(|(name, limit)| format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". "))
}

fn pod_over_limit(spec: &PodSpec, usage: &PodUse) -> Option<String> {
    let limit = storage_limit(spec)?;
    let local = spec.volumes.iter().flatten().filter(|volume| is_local(volume));
    let volumes = local.filter_map(|volume| usage.volumes.get(&volume.name)).map(|disk| disk.bytes);
    let containers = usage.containers.iter().map(|it| it.root.bytes + it.logs.bytes);
    let used: u64 = usage.other.bytes + volumes.chain(containers).sum::<u64>();
    (bytes(used) > limit)
        .then(|| format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "))
}

fn container_over_limit(spec: &PodSpec, usage: &PodUse, own_image_disk: bool) -> Option<String> {
    let mut over = spec.containers.iter().filter_map(|container| {
        let limit = of(container.resources.as_ref()?.limits.as_ref(), "ephemeral-storage")?;
        let used = usage.containers.iter().find(|it| it.name == container.name)?;
        let root = if own_image_disk { 0 } else { used.root.bytes };
        (!limit.is_zero() && bytes(used.logs.bytes + root) > limit).then(|| (container.name.clone(), limit))
    });
    let (name, limit) = over.next()?;
    Some(format!("Container {name} exceeded its local ephemeral storage limit \"{limit}\". "))
}

/// A volume on the disk of the node that goes with its pod.
fn is_local(volume: &k8s_openapi::api::core::v1::Volume) -> bool {
    let on_disk = |medium: Option<&str>| medium.is_none_or(str::is_empty);
    volume.config_map.is_some() || volume.empty_dir.as_ref().is_some_and(|it| on_disk(it.medium.as_deref()))
}

type List = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn of(list: Option<&List>, name: &str) -> Option<Quantity> {
    list?.get(name)?.0.parse().ok()
}

/// What the containers that have a limit may write together: while they run, or before that if it is more.
fn storage_limit(spec: &PodSpec) -> Option<Quantity> {
    let own = |container: &Container| of(container.resources.as_ref()?.limits.as_ref(), "ephemeral-storage");
    let add = |sum: Option<Quantity>, more: Option<Quantity>| match (sum, more) {
        (Some(sum), Some(more)) => Some(sum.add(&more)),
        (sum, more) => sum.or(more),
    };
    let (mut sidecars, mut before) = (None, None::<Quantity>);
    for container in spec.init_containers.iter().flatten() {
        let at_once = add(sidecars.clone(), own(container));
        if spec::init_role(container) == Role::Sidecar {
            sidecars.clone_from(&at_once);
        }
        before = before.max(at_once);
    }
    let together = spec.containers.iter().map(own).fold(sidecars, add).max(before);
    let overhead = of(spec.overhead.as_ref(), "ephemeral-storage");
    together.map(|limit| overhead.map_or(limit.clone(), |more| limit.add(&more)))
}

/// The pod that must go for what runs short, if one may.
pub(super) fn victim(
    candidates: &[Candidate],
    starved: &[Threshold],
    readings: &Readings,
    own_image_disk: bool,
    most_grace: i64,
) -> Option<Eviction> {
    let first = starved.first()?;
    let ranked = rank(candidates, first.signal, own_image_disk);
    let candidate = ranked.into_iter().find(|candidate| !is_critical(&candidate.pod))?;
    let (message, annotations) = words(candidate, starved, readings);
    let grace = match (first.is_hard(), most_grace) {
        (true, _) => Some(AT_ONCE),
        (false, ..0) => None,
        (false, most) => Some(most),
    };
    let verdict = Verdict { disruption: true, ..Verdict::new(REASON, message) };
    Some(Eviction { uid: uid(&candidate.pod), verdict, annotations, grace })
}

/// What of a pod lies on the disk that a signal is about.
#[derive(Clone, Copy)]
struct Parts {
    root: bool,
    /// Logs and local volumes.
    others: bool,
}

impl Parts {
    fn of(signal: Signal, own_image_disk: bool) -> Self {
        use Signal::{ContainerfsAvailable, ContainerfsInodesFree, ImagefsAvailable, ImagefsInodesFree};
        let images =
            matches!(signal, ImagefsAvailable | ImagefsInodesFree | ContainerfsAvailable | ContainerfsInodesFree);
        Self { root: !own_image_disk || images, others: !own_image_disk || !images }
    }
}

/// Whether a pod uses more than it asked for, and by how much. None if it could not be measured.
type Excess = Option<(bool, i128)>;

/// Those who go first come first.
fn rank(candidates: &[Candidate], signal: Signal, own_image_disk: bool) -> Vec<&Candidate> {
    let resource = signal.resource();
    let parts = Parts::of(signal, own_image_disk);
    let mut ranked: Vec<(&Candidate, i32, Excess)> = candidates
        .iter()
        .map(|candidate| {
            let spec = spec::spec(&candidate.pod);
            let excess = candidate.usage.as_ref().map(|usage| {
                let used = i128::from(amount(&spec, usage, resource, parts));
                let wanted = admission::requests(&spec).get(resource.name()).copied().unwrap_or(0.0) as i128;
                (used > wanted, used - wanted)
            });
            (candidate, spec.priority.unwrap_or(0), excess)
        })
        .collect();
    // What could not be measured goes before what could.
    let unmeasured = |a: Excess, b: Excess| a.is_some().cmp(&b.is_some());
    let exceeding = |excess: Excess| std::cmp::Reverse(excess.is_some_and(|(exceeds, _)| exceeds));
    let most = |excess: Excess| std::cmp::Reverse(excess.map_or(0, |(_, by)| by));
    ranked.sort_by(|(_, a_priority, a), (_, b_priority, b)| {
        let by_request = match resource {
            Resource::Pids => Ordering::Equal,
            _ => unmeasured(*a, *b).then_with(|| exceeding(*a).cmp(&exceeding(*b))),
        };
        let by_priority = a_priority.cmp(b_priority);
        by_request.then(by_priority).then_with(|| unmeasured(*a, *b)).then_with(|| most(*a).cmp(&most(*b)))
    });
    ranked.into_iter().map(|(candidate, ..)| candidate).collect()
}

/// What the pod uses of a resource.
fn amount(spec: &PodSpec, usage: &PodUse, resource: Resource, parts: Parts) -> u64 {
    let mut disk = Disk::default();
    for container in &usage.containers {
        for (counts, part) in [(parts.root, container.root), (parts.others, container.logs)] {
            disk = if counts { disk.and(part) } else { disk };
        }
    }
    if parts.others {
        let local = spec.volumes.iter().flatten().filter(|volume| is_local(volume));
        disk = local.filter_map(|it| usage.volumes.get(&it.name)).fold(disk.and(usage.other), |sum, it| sum.and(*it));
    }
    match resource {
        Resource::Memory => usage.containers.iter().map(|it| it.memory).sum(),
        Resource::EphemeralStorage => disk.bytes,
        Resource::Inodes => disk.inodes,
        Resource::Pids => usage.processes,
    }
}

/// The message, and the figures for programs.
fn words(candidate: &Candidate, starved: &[Threshold], readings: &Readings) -> (String, BTreeMap<String, String>) {
    let Some(first) = starved.first() else { return Default::default() };
    let resource = first.signal.resource();
    let name = resource.name();
    let mut message = format!("The node was low on resource: {name}. ");
    let of_it = starved.iter().filter(|threshold| threshold.signal.resource() == resource);
    let seen = of_it.filter_map(|threshold| Some((threshold, readings.get(&threshold.signal)?))).next();
    if let Some((threshold, reading)) = seen {
        let format = match resource {
            Resource::Memory | Resource::EphemeralStorage => Format::BinarySi,
            Resource::Inodes | Resource::Pids => Format::DecimalSi,
        };
        let (least, free) = (threshold.least.of(reading.whole), number(reading.free, format));
        message += &format!("Threshold quantity: {least}, available: {free}. ");
    }
    let mut annotations = BTreeMap::new();
    let Some(usage) = &candidate.usage else { return (message, annotations) };
    let spec = spec::spec(&candidate.pod);
    let whole = spec.resources.as_ref().and_then(|it| of(it.requests.as_ref(), name));
    if let Some(request) = whole.filter(|_| resource == Resource::Memory) {
        let pod = candidate.pod.metadata.name.clone().unwrap_or_default();
        let used = bytes(usage.containers.iter().map(|it| it.memory).sum());
        message += &format!("Pod {pod} was using {used}, request is {request}, has larger consumption of {name}. ");
        annotations.insert("offending_pod".to_owned(), pod);
        annotations.insert("offending_pod_usage".to_owned(), used.to_string());
    }
    let (mut names, mut amounts) = (Vec::new(), Vec::new());
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let Some(it) = usage.containers.iter().find(|it| it.name == container.name) else { continue };
        let used = match resource {
            Resource::Memory => bytes(it.memory),
            Resource::EphemeralStorage => bytes(it.root.bytes + it.logs.bytes),
            Resource::Inodes | Resource::Pids => continue,
        };
        let request = of(container.resources.as_ref().and_then(|it| it.requests.as_ref()), name);
        let request = request.unwrap_or(Quantity::ZERO);
        if used > request {
            let own = &container.name;
            message +=
                &format!("Container {own} was using {used}, request is {request}, has larger consumption of {name}. ");
            names.push(own.clone());
            amounts.push(used.to_string());
        }
    }
    annotations.insert("offending_containers".to_owned(), names.join(","));
    annotations.insert("offending_containers_usage".to_owned(), amounts.join(","));
    annotations.insert("starved_resource".to_owned(), name.to_owned());
    (message, annotations)
}
