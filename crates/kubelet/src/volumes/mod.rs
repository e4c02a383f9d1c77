//! A pod's volumes: made before its first container, kept current while it runs, taken away after its last.
//!
//! ```text
//! <root>/pods/<uid>/volumes/kubernetes.io~<type>/<name>      one volume
//! <root>/pods/<uid>/volume-subpaths/<volume>/<container>/<n> a subPath, bound by handle
//! ```
//!
//! Types whose content is computed (configMap, secret, downwardAPI, projected) give a [`Payload`]; [`atomic`] writes it.
//! A claim stands for a volume of the cluster: [`claims`] finds it, [`persistent`] makes it usable. What a type does not
//! know (CSI and others that need a driver) stays pending with the reason that upstream gives.

mod atomic;
pub(crate) mod claims;
mod config_map;
mod downward;
mod empty_dir;
mod host_path;
pub(crate) mod mounts;
mod ownership;
mod persistent;
mod projected;
mod secret;
mod subpath;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};

use crate::env::fields::Facts;
use crate::env::{EnvError, Objects};
use crate::pods::spec;
use claims::{Storage, Used};
use mounts::Mounts;
use ownership::Ownership;
use persistent::{Held, Ready};

/// Files by path below the volume.
pub(crate) type Payload = BTreeMap<String, File>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    /// The owner, when it is not root.
    pub(crate) uid: Option<u32>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("{0}")]
    Object(#[from] EnvError),
    #[error("{0}")]
    Field(#[from] crate::env::fields::FieldError),
    #[error("references non-existent {kind} key: {key}")]
    MissingKey { kind: &'static str, key: String },
    #[error("failed to fetch token: {0}")]
    Token(String),
    #[error("hostPath type check failed: {path} is not {what}")]
    HostPath { path: String, what: &'static str },
    #[error("no volume plugin matched")]
    Unsupported,
    /// In upstream's words.
    #[error("{0}")]
    Refused(String),
    #[error("path {0} leaves the volume")]
    Escapes(String),
    #[error("{what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
}

impl VolumeError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// The step of making a volume that failed, which its event begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What the volume is could not be found out.
    Process,
    Affinity,
    Mounter,
    Options,
    Device,
    SetUp,
}

impl Stage {
    fn text(self) -> &'static str {
        match self {
            Self::Process => "",
            Self::Affinity => "MountVolume.NodeAffinity check failed",
            Self::Mounter => "MountVolume.NewMounter initialization failed",
            Self::Options => "MountVolume.MountOptionSupport check failed",
            Self::Device => "MountVolume.MountDevice failed",
            Self::SetUp => "MountVolume.SetUp failed",
        }
    }
}

/// A volume that could not be made.
#[derive(Debug)]
struct Failed {
    stage: Stage,
    /// The volume's name: of a claim's, the PersistentVolume's.
    name: String,
    source: VolumeError,
}

/// Volumes of a pod that could not be made: the texts of the events that tell of it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(crate) struct MountError(pub(crate) Vec<String>);

impl MountError {
    /// Of failures by the name that the pod has for the volume.
    fn of(failed: &BTreeMap<&str, Failed>) -> Self {
        let names = |wanted: fn(&Failed) -> bool| {
            let names: Vec<&str> = failed.iter().filter(|(_, it)| wanted(it)).map(|(name, _)| *name).collect();
            names.join(" ")
        };
        let unknown = |it: &Failed| it.stage == Stage::Process;
        let reasons = failed.values().filter(|it| unknown(it)).map(|it| match &it.source {
            source @ VolumeError::Unsupported => {
                format!("failed to get Plugin from volumeSpec for volume \"{}\" err={source}", it.name)
            }
            source => source.to_string(),
        });
        let reasons: Vec<String> = reasons.collect();
        let mut texts = Vec::new();
        if !reasons.is_empty() {
            texts.push(format!(
                "Unable to attach or mount volumes: unmounted volumes=[{}], unattached volumes=[], \
                 failed to process volumes=[{}]: {}",
                names(|_| true),
                names(unknown),
                reasons.join("; ")
            ));
        }
        let known = failed.values().filter(|it| !unknown(it));
        texts.extend(known.map(|it| format!("{} for volume \"{}\" : {}", it.stage.text(), it.name, it.source)));
        Self(texts)
    }
}

/// A service account token and when it ends.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) expires: Timestamp,
}

/// Where tokens bound to a pod come from: the TokenRequest API.
pub(crate) trait Tokens: Send + Sync {
    fn request<'a>(
        &'a self,
        pod: &'a Pod,
        audience: Option<&'a str>,
        seconds: i64,
    ) -> BoxFuture<'a, Result<Token, String>>;
}

/// What a container's mount of a volume is served from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// A file or folder of the node.
    Path { path: PathBuf, read_only: bool },
    /// An image's file system (KEP-4639).
    Image { reference: String, policy: Option<String> },
}

/// All volumes of a pod, ready to be mounted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mounted {
    pub(crate) sources: BTreeMap<String, Source>,
    /// When content must be made anew: a token is past four fifths of its life.
    pub(crate) refresh_at: Option<Timestamp>,
    /// Groups that volumes give to all processes of the pod.
    pub(crate) groups: Vec<i64>,
    /// What is to be told of volumes that were made now: a reason and a message each.
    pub(crate) warnings: Vec<(&'static str, String)>,
}

pub(crate) struct Volumes {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) tokens: Arc<dyn Tokens>,
    pub(crate) mounts: Arc<dyn Mounts>,
    /// The folder that holds `pods/`.
    pub(crate) root: PathBuf,
    held: Held,
}

/// What is to be done for one volume; content is computed first, then written without waiting.
enum Step {
    Content { payload: Payload, in_memory: bool, kind: &'static str },
    EmptyDir(EmptyDirVolumeSource),
    HostPath(HostPathVolumeSource),
    Image { reference: String, policy: Option<String> },
}

/// A volume that is made, or made anew.
struct Made {
    source: Source,
    refresh_at: Option<Timestamp>,
    group: Option<i64>,
    warning: Option<(&'static str, String)>,
}

impl Volumes {
    pub(crate) fn new(
        objects: Arc<dyn Objects>,
        storage: Arc<dyn Storage>,
        tokens: Arc<dyn Tokens>,
        mounts: Arc<dyn Mounts>,
        root: PathBuf,
    ) -> Self {
        Self { objects, storage, tokens, mounts, root, held: Held::default() }
    }

    /// Makes or refreshes the volumes of a pod that its containers use. Doing it again changes nothing that is as it should
    /// be, and one that fails holds back no other.
    pub(crate) async fn set_up(&self, pod: &Pod, facts: &Facts, now: Timestamp) -> Result<Mounted, MountError> {
        let spec = spec::spec(pod);
        let used = Used::by(&spec);
        let mut mounted = Mounted::default();
        let mut failed = BTreeMap::new();
        for volume in spec.volumes.iter().flatten().filter(|volume| used.contains(&volume.name)) {
            match self.make(pod, facts, volume, &used, now).await {
                Ok(made) => {
                    mounted.refresh_at = [mounted.refresh_at, made.refresh_at].into_iter().flatten().min();
                    mounted.groups.extend(made.group.filter(|group| !mounted.groups.contains(group)));
                    mounted.warnings.extend(made.warning);
                    mounted.sources.insert(volume.name.clone(), made.source);
                }
                Err(error) => drop(failed.insert(volume.name.as_str(), error)),
            }
        }
        if failed.is_empty() { Ok(mounted) } else { Err(MountError::of(&failed)) }
    }

    async fn make(
        &self,
        pod: &Pod,
        facts: &Facts,
        volume: &Volume,
        used: &Used,
        now: Timestamp,
    ) -> Result<Made, Failed> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let name = volume.name.as_str();
        let failed = |stage| move |source| Failed { stage, name: name.to_owned(), source };
        let made = |it: Ready, warning| Made { source: it.source, refresh_at: None, group: it.group, warning };
        if let Some(ready) = self.held.ready(&uid, name) {
            return Ok(made(ready, None));
        }
        let claimed = claims::resolve(&*self.storage, pod, volume, used).await;
        let claimed = claimed.map_err(|why| failed(Stage::Process)(VolumeError::Refused(why)))?;
        let ownership = Ownership::of(&spec::spec(pod));
        if let Some(claimed) = claimed {
            let ready = persistent::set_up(self, pod, &uid, name, claimed, ownership).await?;
            let warning = ready.warning.clone();
            return Ok(made(ready, warning));
        }
        let planned = self.plan(pod, facts, volume, now).await;
        let (step, refresh_at) = planned.map_err(|source| match source {
            VolumeError::Unsupported => failed(Stage::Process)(source),
            source => failed(Stage::SetUp)(source),
        })?;
        let group = ownership.map(|it| it.group);
        let source = self.apply(&uid, name, step, group).await.map_err(failed(Stage::SetUp))?;
        Ok(Made { source, refresh_at, group: None, warning: None })
    }

    /// What a volume needs, with its content.
    async fn plan(
        &self,
        pod: &Pod,
        facts: &Facts,
        volume: &Volume,
        now: Timestamp,
    ) -> Result<(Step, Option<Timestamp>), VolumeError> {
        let objects = &*self.objects;
        let step = if let Some(source) = &volume.empty_dir {
            Step::EmptyDir(source.clone())
        } else if let Some(source) = &volume.host_path {
            Step::HostPath(source.clone())
        } else if let Some(source) = &volume.config_map {
            let payload = config_map::payload(objects, pod, source).await?;
            Step::Content { payload, in_memory: false, kind: "configmap" }
        } else if let Some(source) = &volume.secret {
            let payload = secret::payload(objects, pod, source).await?;
            Step::Content { payload, in_memory: true, kind: "secret" }
        } else if let Some(source) = &volume.downward_api {
            let items = source.items.as_deref().unwrap_or_default();
            let payload = downward::payload(pod, facts, items, source.default_mode)?;
            Step::Content { payload, in_memory: true, kind: "downward-api" }
        } else if let Some(source) = &volume.projected {
            let (payload, refresh_at) = projected::payload(self, pod, facts, source, now).await?;
            return Ok((Step::Content { payload, in_memory: true, kind: "projected" }, refresh_at));
        } else if let Some(source) = &volume.image {
            let reference = source.reference.clone().unwrap_or_default();
            Step::Image { reference, policy: source.pull_policy.clone() }
        } else if let Some(source) = &volume.csi {
            return Err(persistent::no_driver("mounter.SetUpAt failed to get CSI client", &source.driver));
        } else {
            return Err(VolumeError::Unsupported);
        };
        Ok((step, None))
    }

    /// Writes on a thread that may wait for the disk.
    async fn apply(&self, uid: &str, name: &str, step: Step, group: Option<u32>) -> Result<Source, VolumeError> {
        let volumes = self.pod_dir(uid).join("volumes");
        let folder = |kind: &str| volumes.join(format!("kubernetes.io~{kind}")).join(name);
        let mounts = Arc::clone(&self.mounts);
        match step {
            Step::Image { reference, policy } => Ok(Source::Image { reference, policy }),
            Step::HostPath(source) => {
                let path = blocking(move || host_path::prepare(&source)).await?;
                Ok(Source::Path { path, read_only: false })
            }
            Step::EmptyDir(source) => {
                let path = folder("empty-dir");
                let at = path.clone();
                blocking(move || empty_dir::prepare(&at, &source, group, &*mounts)).await?;
                Ok(Source::Path { path, read_only: false })
            }
            Step::Content { payload, in_memory, kind } => {
                let path = folder(kind);
                let at = path.clone();
                blocking(move || {
                    std::fs::create_dir_all(&at).map_err(VolumeError::io("cannot make folder", &at))?;
                    if in_memory {
                        mounts.tmpfs(&at, None).map_err(VolumeError::io("cannot mount memory at", &at))?;
                    }
                    atomic::write(&at, &payload, group)
                })
                .await?;
                Ok(Source::Path { path, read_only: false })
            }
        }
    }

    /// Binds the subPath of a mount, so that no link in the volume can lead out of it.
    pub(crate) async fn sub_path(
        &self,
        uid: &str,
        container: &str,
        index: usize,
        volume: &str,
        root: &Path,
        sub_path: &str,
    ) -> Result<PathBuf, VolumeError> {
        let at = self.pod_dir(uid).join("volume-subpaths").join(volume).join(container).join(index.to_string());
        let (root, sub_path, mounts) = (root.to_owned(), sub_path.to_owned(), Arc::clone(&self.mounts));
        blocking(move || subpath::bind(&root, &sub_path, &at, &*mounts).map(|()| at)).await
    }

    /// Unmounts what was mounted for a pod. Content on disk stays until [`Volumes::remove`].
    pub(crate) async fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        let (dir, mounts) = (self.pod_dir(uid), Arc::clone(&self.mounts));
        let local = dir.join("volumes").join(persistent::LOCAL);
        blocking(move || {
            unmount_below(&dir.join("volume-subpaths"), 3, &*mounts)?;
            unmount_below(&dir.join("volumes"), 2, &*mounts)
        })
        .await?;
        // Others look here for who has the volume.
        blocking(move || linux::paths::remove_tree(&local).map_err(VolumeError::io("cannot remove", &local))).await?;
        self.held.forget(uid);
        Ok(())
    }

    /// Removes all that is on disk of a pod whose volumes are unmounted.
    pub(crate) async fn remove(&self, uid: &str) -> Result<(), VolumeError> {
        let dir = self.pod_dir(uid);
        // Whatever is still mounted below is somebody's data: that stops it.
        blocking(move || linux::paths::remove_tree(&dir).map_err(VolumeError::io("cannot remove", &dir))).await
    }

    /// Where a pod's claimed volumes are whose file systems can be measured, by the pod's names for them. A hostPath's is the
    /// node's own.
    pub(crate) fn measured(&self, uid: &str) -> BTreeMap<String, PathBuf> {
        self.held.mounted(uid, &self.pod_dir(uid))
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.root.join("pods").join(uid)
    }
}

/// The mounts of a container: which volume where, and how.
pub(crate) fn mounts_of(container: &Container) -> impl Iterator<Item = &k8s_openapi::api::core::v1::VolumeMount> {
    container.volume_mounts.iter().flatten()
}

/// Unmounts every folder exactly `depth` levels below `dir`.
fn unmount_below(dir: &Path, depth: usize, mounts: &dyn Mounts) -> Result<(), VolumeError> {
    if depth == 0 {
        return mounts.unmount(dir).map_err(VolumeError::io("cannot unmount", dir));
    }
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.flatten() {
        unmount_below(&entry.path(), depth - 1, mounts)?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VolumeError::Io {
            what: "writing ended early at",
            path: PathBuf::new(),
            source: std::io::Error::other(error),
        }),
    }
}

/// A file mode as the API gives it, else the default.
fn mode(own: Option<i32>, default: Option<i32>) -> u32 {
    own.or(default).and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644) & 0o7777
}

/// The keys of an object as files: all of them, or the items at their paths.
fn project(
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[k8s_openapi::api::core::v1::KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
    kind: &'static str,
) -> Result<Payload, VolumeError> {
    let file = |data: Vec<u8>, own: Option<i32>| File { data, mode: mode(own, default_mode), uid: None };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(data.into_iter().map(|(key, data)| (key, file(data, None))).collect());
    };
    let mut payload = Payload::new();
    for item in items {
        match data.get(&item.key) {
            Some(data) => {
                payload.insert(item.path.clone(), file(data.clone(), item.mode));
            }
            None if optional => {}
            None => return Err(VolumeError::MissingKey { kind, key: item.key.clone() }),
        }
    }
    Ok(payload)
}
