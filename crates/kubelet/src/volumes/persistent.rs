//! Volumes of the cluster on this node: folders of the node's own (hostPath, local). Others need a driver that is not here.
//!
//! A local volume is bound into the pod's folder, so that it is seen there who uses it; a hostPath is used where it is.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, LocalVolumeSource, PersistentVolume, Pod};
use linux::mounts::Attributes;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use super::claims::Claimed;
use super::mounts::Mounts;
use super::ownership::{self, Ownership};
use super::{Failed, Source, Stage, VolumeError, Volumes, blocking, host_path};
use crate::admission;

/// A group that every process of a pod is in that mounts the volume.
const GROUP: &str = "pv.beta.kubernetes.io/gid";
/// The older place of a volume's mount options.
const OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
/// The folder of a pod's local volumes.
pub(super) const LOCAL: &str = "kubernetes.io~local-volume";

/// A volume of the cluster as a pod has it.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) source: Source,
    pub(super) group: Option<i64>,
    /// A reason and a message for an event about the pod.
    pub(super) warning: Option<(&'static str, String)>,
}

/// Which pod has which volume of the cluster. What a pod has is not looked up again: a claim that changes does not move
/// the data of pods that run.
#[derive(Default)]
pub(super) struct Held(Mutex<BTreeMap<(String, String), Holding>>);

struct Holding {
    volume: String,
    /// None while it is being made.
    ready: Option<Ready>,
}

impl Held {
    pub(super) fn ready(&self, uid: &str, name: &str) -> Option<Ready> {
        let held = self.0.lock();
        held.get(&(uid.to_owned(), name.to_owned())).and_then(|it| it.ready.clone())
    }

    /// Notes that the pod is to have the volume; false where another has it and it is for one alone.
    fn take(&self, uid: &str, name: &str, volume: &str, alone: bool) -> bool {
        let mut held = self.0.lock();
        if alone && held.iter().any(|((other, _), it)| other != uid && it.volume == volume) {
            return false;
        }
        held.insert((uid.to_owned(), name.to_owned()), Holding { volume: volume.to_owned(), ready: None });
        true
    }

    fn settle(&self, uid: &str, name: &str, ready: Option<Ready>) {
        let (mut held, key) = (self.0.lock(), (uid.to_owned(), name.to_owned()));
        match ready {
            Some(ready) => {
                if let Some(it) = held.get_mut(&key) {
                    it.ready = Some(ready);
                }
            }
            None => drop(held.remove(&key)),
        }
    }

    /// Where the pod's volumes of the cluster are that are mounted for it, by its own names for them.
    pub(super) fn mounted(&self, uid: &str, below: &Path) -> BTreeMap<String, PathBuf> {
        let held = self.0.lock();
        let ready = held.iter().filter(|((pod, _), _)| pod == uid).filter_map(|((_, name), it)| {
            let Source::Path { path, .. } = &it.ready.as_ref()?.source else { return None };
            path.starts_with(below).then(|| (name.clone(), path.clone()))
        });
        ready.collect()
    }

    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().retain(|(pod, _), _| pod != uid);
    }
}

/// What this node can make usable.
enum Kind {
    HostPath(HostPathVolumeSource),
    Local(LocalVolumeSource),
}

/// Makes a claimed volume usable for a pod.
pub(super) async fn set_up(
    volumes: &Volumes,
    pod: &Pod,
    uid: &str,
    name: &str,
    claimed: Claimed,
    ownership: Option<Ownership>,
) -> Result<Ready, Failed> {
    let volume = &claimed.volume;
    let volume_name = volume.metadata.name.clone().unwrap_or_default();
    let failed = |stage| {
        let name = volume_name.clone();
        move |source| Failed { stage, name, source }
    };
    let refused = |stage, why: String| failed(stage)(VolumeError::Refused(why));
    let kind = kind_of(volume).map_err(|(stage, source)| failed(stage)(source))?;
    check_affinity(volumes, volume).await.map_err(|why| refused(Stage::Affinity, why))?;
    let options = options_of(volume);
    match &kind {
        Kind::HostPath(_) if !options.is_empty() => {
            let why = "mount options are not supported for this volume type";
            return Err(refused(Stage::Options, why.to_owned()));
        }
        Kind::HostPath(_) => {}
        Kind::Local(source) => {
            let path = PathBuf::from(&source.path);
            blocking(move || check_folder(&path)).await.map_err(failed(Stage::Mounter))?;
        }
    }
    let others = others(&volumes.root, uid, &volume_name);
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    let alone = modes == ["ReadWriteOncePod"];
    if (alone && others) || !volumes.held.take(uid, name, &volume_name, alone) {
        let why = "volume uses the ReadWriteOncePod access mode and is already in use by another pod";
        return Err(refused(Stage::SetUp, why.to_owned()));
    }
    let read_only = claimed.read_only;
    let made = match kind {
        Kind::HostPath(source) => {
            let path = blocking(move || host_path::prepare(&source)).await;
            path.map(|path| Ready { source: Source::Path { path, read_only }, group: None, warning: None })
        }
        Kind::Local(source) => {
            let at = volumes.pod_dir(uid).join("volumes").join(LOCAL).join(&volume_name);
            let mounts = Arc::clone(&volumes.mounts);
            let local = Local { name: volume_name.clone(), path: source.path.into(), at, options, read_only, others };
            blocking(move || local.set_up(ownership, &*mounts)).await
        }
    };
    let made = made.map(|ready| Ready { group: group_of(volume, pod), ..ready });
    volumes.held.settle(uid, name, made.as_ref().ok().cloned());
    made.map_err(failed(Stage::SetUp))
}

fn kind_of(volume: &PersistentVolume) -> Result<Kind, (Stage, VolumeError)> {
    let spec = volume.spec.clone().unwrap_or_default();
    if let Some(source) = spec.host_path {
        return Ok(Kind::HostPath(source));
    }
    if let Some(source) = spec.local {
        return Ok(Kind::Local(source));
    }
    match spec.csi {
        Some(source) => {
            Err((Stage::Device, no_driver("attacher.MountDevice failed to create newCsiDriverClient", &source.driver)))
        }
        None => Err((Stage::Process, VolumeError::Unsupported)),
    }
}

/// What is said of a volume whose driver has not registered with this node: none can.
pub(super) fn no_driver(doing: &str, driver: &str) -> VolumeError {
    let why = format!("driver name {driver} not found in the list of registered CSI drivers");
    VolumeError::Refused(format!("kubernetes.io/csi: {doing}: {why}"))
}

/// A volume that other nodes reach must not be looked for here.
async fn check_affinity(volumes: &Volumes, volume: &PersistentVolume) -> Result<(), String> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else { return Ok(()) };
    let labels = volumes.storage.node_labels().await?;
    let reached = required.node_selector_terms.iter().any(|term| admission::matches(term, &labels, ""));
    if reached { Ok(()) } else { Err("no matching NodeSelectorTerms".to_owned()) }
}

fn options_of(volume: &PersistentVolume) -> Vec<String> {
    let annotated = volume.metadata.annotations.as_ref().and_then(|all| all.get(OPTIONS));
    let listed: Vec<String> = match annotated {
        Some(listed) => listed.split(',').map(str::to_owned).collect(),
        None => volume.spec.as_ref().and_then(|spec| spec.mount_options.clone()).unwrap_or_default(),
    };
    listed.into_iter().filter(|option| !option.is_empty()).collect()
}

/// The group that the volume's annotation gives the pod, unless it is in it anyway.
fn group_of(volume: &PersistentVolume, pod: &Pod) -> Option<i64> {
    let group = volume.metadata.annotations.as_ref()?.get(GROUP)?.parse().ok()?;
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let mut known = context.iter().flat_map(|it| it.supplemental_groups.iter().flatten());
    (!known.any(|it| *it == group)).then_some(group)
}

fn check_folder(path: &Path) -> Result<(), VolumeError> {
    use std::os::unix::fs::FileTypeExt as _;
    let refused = |why: String| Err(VolumeError::Refused(why));
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) if found.file_type().is_block_device() => refused(format!(
            "{} is a block device, which this node cannot mount; mount it and give its folder",
            path.display()
        )),
        Ok(_) => refused("only directory and block device are supported".to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refused(format!("path \"{}\" does not exist", path.display()))
        }
        Err(error) => Err(VolumeError::io("cannot look at", path)(error)),
    }
}

/// Whether another pod's folder shows that it has the local volume; also of pods that this process has not met yet.
fn others(root: &Path, uid: &str, volume: &str) -> bool {
    let pods = std::fs::read_dir(root.join("pods")).into_iter().flatten().flatten();
    pods.filter(|pod| pod.file_name() != uid).any(|pod| pod.path().join("volumes").join(LOCAL).join(volume).exists())
}

struct Local {
    name: String,
    path: PathBuf,
    at: PathBuf,
    options: Vec<String>,
    read_only: bool,
    others: bool,
}

impl Local {
    fn set_up(self, ownership: Option<Ownership>, mounts: &dyn Mounts) -> Result<Ready, VolumeError> {
        let (path, at, read_only) = (&self.path, &self.at, self.read_only);
        let source = Source::Path { path: at.clone(), read_only };
        if mounts.is_mounted(at).map_err(VolumeError::io("cannot look at", at))? {
            return Ok(Ready { source, group: None, warning: None });
        }
        let mut attributes = attributes(&self.options)?;
        attributes.set(Attributes::MOUNT_ATTR_RDONLY, read_only || attributes.contains(Attributes::MOUNT_ATTR_RDONLY));
        let handle = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let handle = handle.map_err(|error| VolumeError::io("cannot open", path)(error.into()))?;
        let warning = ownership.filter(|_| self.others).and_then(|wanted| self.clash(wanted));
        std::fs::create_dir_all(at).map_err(VolumeError::io("cannot make folder", at))?;
        let bound = mounts.bind(handle.as_fd(), at, attributes);
        if let Err(error) = bound {
            // An empty folder would tell that the pod has the volume.
            let _gone = std::fs::remove_dir(at);
            return Err(VolumeError::io("cannot bind", at)(error));
        }
        if let Some(ownership) = ownership.filter(|_| !read_only && !self.others) {
            ownership::change(at, ownership)?;
        }
        Ok(Ready { source, group: None, warning })
    }

    /// Files that another pod uses keep their group.
    fn clash(&self, wanted: Ownership) -> Option<(&'static str, String)> {
        use std::os::unix::fs::MetadataExt as _;
        let has = std::fs::metadata(&self.path).ok()?.gid();
        let (group, name) = (wanted.group, &self.name);
        let message = format!(
            "The requested fsGroup is {group}, but the volume {name} has GID {has}. The volume may not be shareable."
        );
        (has != group).then_some(("AlreadyMountedVolume", message))
    }
}

/// Mount options as far as they say something of a folder.
fn attributes(options: &[String]) -> Result<Attributes, VolumeError> {
    let mut all = Attributes::empty();
    for option in options {
        all |= match option.as_str() {
            "ro" => Attributes::MOUNT_ATTR_RDONLY,
            "noexec" => Attributes::MOUNT_ATTR_NOEXEC,
            "nosuid" => Attributes::MOUNT_ATTR_NOSUID,
            "nodev" => Attributes::MOUNT_ATTR_NODEV,
            "noatime" => Attributes::MOUNT_ATTR_NOATIME,
            "strictatime" => Attributes::MOUNT_ATTR_STRICTATIME,
            "nodiratime" => Attributes::MOUNT_ATTR_NODIRATIME,
            "nosymfollow" => Attributes::MOUNT_ATTR_NOSYMFOLLOW,
            "bind" | "defaults" | "rw" | "exec" | "suid" | "dev" | "relatime" | "atime" | "diratime" => {
                Attributes::empty()
            }
            other => {
                return Err(VolumeError::Refused(format!(
                    "mount option {other:?} says nothing of a folder; remove it"
                )));
            }
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_for_one_pod_is_free_again_when_its_pod_lets_go() {
        let held = Held::default();
        assert!(held.take("a", "data", "pv", true));
        assert!(held.take("a", "again", "pv", true), "the same pod, twice");
        assert!(!held.take("b", "data", "pv", true));
        assert!(held.take("b", "other", "another", true));
        held.forget("a");
        assert!(held.take("b", "data", "pv", true));
        held.settle("b", "data", None);
        assert!(held.take("c", "data", "pv", true), "what could not be made is held by nobody");
    }

    #[test]
    fn options_become_attributes_and_unknown_ones_are_refused() {
        let read = |options: &[&str]| attributes(&options.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
        let both = Attributes::MOUNT_ATTR_NOEXEC | Attributes::MOUNT_ATTR_RDONLY;
        assert_eq!(read(&["noexec", "bind", "ro"]).unwrap(), both);
        assert!(read(&["size=1"]).is_err());
    }
}
