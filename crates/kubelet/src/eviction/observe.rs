//! What is free on the node, and what each pod uses of it.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::cri::{
    ContainerStats, ContainerStatsFilter, Error, ImageFsInfoRequest, ListContainerStatsRequest,
    ListPodSandboxStatsRequest, RuntimeService, UInt64Value,
};
use k8s_openapi::api::core::v1::Pod;
use linux::cgroups::Cgroups;
use linux::paths::Root;
use rustix::fs::{AtFlags, Dir, OFlags};

use super::plan::{Candidate, ContainerUse, Disk, PodUse, Reading, Readings};
use super::thresholds::Signal;
use crate::context::Context;
use crate::names;
use crate::pods::sandbox::log_directory;
use crate::pods::spec;

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FileSystem {
    pub(crate) device: u64,
    pub(crate) bytes: Reading,
    pub(crate) inodes: Reading,
}

/// What the machine says of itself.
pub(crate) trait Sensors: Send + Sync {
    fn memory(&self) -> Option<Reading>;
    /// The memory that a cgroup and those below it cannot easily give back.
    fn working_set(&self, cgroup: &str) -> Option<u64>;
    fn file_system(&self, path: &Path) -> Option<FileSystem>;
    fn processes(&self) -> Option<Reading>;
}

/// The machine that this runs on.
pub(crate) struct Machine(Option<Cgroups>);

impl Machine {
    pub(crate) fn new() -> Self {
        Self(Cgroups::detect().ok())
    }
}

impl Sensors for Machine {
    /// The machine's, or of the cgroup that is the root here where that is limited to less.
    fn memory(&self) -> Option<Reading> {
        let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
        let machine = Reading { free: field(&meminfo, "MemAvailable:")?, whole: field(&meminfo, "MemTotal:")? };
        let usage = self.0.as_ref().and_then(|cgroups| cgroups.group("/").usage().ok());
        let limited = usage.and_then(|usage| {
            let whole = usage.memory_limit.filter(|limit| *limit < machine.whole)?;
            Some(Reading { free: machine.free.min(whole.saturating_sub(usage.working_set)), whole })
        });
        Some(limited.unwrap_or(machine))
    }

    fn working_set(&self, cgroup: &str) -> Option<u64> {
        Some(self.0.as_ref()?.group(cgroup).usage().ok()?.working_set)
    }

    fn file_system(&self, path: &Path) -> Option<FileSystem> {
        let (stat, space) = (rustix::fs::stat(path).ok()?, rustix::fs::statvfs(path).ok()?);
        Some(FileSystem {
            device: stat.st_dev,
            bytes: Reading { free: space.f_bavail * space.f_frsize, whole: space.f_blocks * space.f_frsize },
            inodes: Reading { free: space.f_favail, whole: space.f_files },
        })
    }

    /// How many more tasks there may be, of all: the smaller of two limits that the kernel has.
    fn processes(&self) -> Option<Reading> {
        let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].into_iter().filter_map(number);
        let whole = limits.min()?;
        let now = tasks(&std::fs::read_to_string("/proc/loadavg").ok()?)?;
        Some(Reading { free: whole.saturating_sub(now), whole })
    }
}

/// Bytes, from a line of `/proc/meminfo`.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// How many tasks there are: the number behind the slash of `/proc/loadavg`.
fn tasks(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

/// Where images are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ImageDisk {
    /// With the volumes, where nothing is said.
    pub(crate) path: Option<PathBuf>,
    /// It is another disk than that of volumes and logs.
    pub(crate) own: bool,
}

/// None until the runtime answers.
pub(crate) async fn image_disk(context: &Arc<Context>) -> Option<ImageDisk> {
    let images = Arc::clone(&context.runtime.images);
    let asked = waiting(async move { images.image_fs_info(ImageFsInfoRequest::default()).await }).await;
    let disk = asked.ok()?.image_filesystems.into_iter().next()?;
    let path = PathBuf::from(disk.fs_id?.mountpoint);
    let device = |path: &Path| context.sensors.file_system(path).map(|disk| disk.device);
    let (images, nodes) = (device(&path)?, device(&context.config.root_dir)?);
    Some(ImageDisk { path: Some(path), own: images != nodes })
}

/// What is free.
pub(super) fn readings(context: &Context, image_disk: &ImageDisk) -> Readings {
    let sensors = &*context.sensors;
    let mut readings = Readings::new();
    if let Some(memory) = sensors.memory() {
        readings.insert(Signal::MemoryAvailable, memory);
        // A node without a pod has no cgroup for them yet: then nothing is used of what they may.
        let used = sensors.working_set(&context.config.cgroup_root).unwrap_or(0);
        let whole = memory.whole.saturating_sub(context.config.reserved("memory") as u64);
        readings.insert(Signal::AllocatableMemoryAvailable, Reading { free: whole.saturating_sub(used), whole });
    }
    let images = image_disk.path.as_deref().unwrap_or(&context.config.root_dir);
    let disks = [
        (&*context.config.root_dir, Signal::NodefsAvailable, Signal::NodefsInodesFree),
        (images, Signal::ImagefsAvailable, Signal::ImagefsInodesFree),
        (images, Signal::ContainerfsAvailable, Signal::ContainerfsInodesFree),
    ];
    for (path, bytes, inodes) in disks {
        if let Some(disk) = sensors.file_system(path) {
            readings.insert(bytes, disk.bytes);
            // Some file systems make inodes as they are needed, and count none.
            if disk.inodes.whole > 0 {
                readings.insert(inodes, disk.inodes);
            }
        }
    }
    if let Some(processes) = sensors.processes() {
        readings.insert(Signal::PidAvailable, processes);
    }
    readings
}

/// What of pods is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Memory and all that is written.
    Storage,
    /// Also how many processes there are.
    Processes,
}

/// What pods use. Files are counted by threads that may wait for the disk.
pub(super) async fn measure(context: &Arc<Context>, pods: Vec<Arc<Pod>>, what: What) -> Vec<Candidate> {
    if pods.is_empty() {
        return Vec::new();
    }
    let mut containers = match containers(context, &pods).await {
        Ok(containers) => Some(containers),
        Err(error) => {
            tracing::warn!(%error, "the runtime does not say what containers use");
            None
        }
    };
    let mut counts = match what {
        What::Storage => BTreeMap::new(),
        What::Processes => processes(context).await.unwrap_or_default(),
    };
    let context = Arc::clone(context);
    let count = move || -> Vec<Candidate> {
        let each = pods.into_iter().map(|pod| {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            // A pod of which nothing runs has what it wrote.
            let stats = containers.as_mut().map(|all| all.remove(&uid).unwrap_or_default());
            let processes = counts.remove(&uid).unwrap_or(0);
            let usage = stats.map(|stats| PodUse { processes, ..written(&context, &pod, &stats) });
            Candidate { pod, usage }
        });
        each.collect()
    };
    tokio::task::spawn_blocking(count).await.unwrap_or_default()
}

/// What the runtime says of the containers of these pods, by UID.
async fn containers(context: &Arc<Context>, pods: &[Arc<Pod>]) -> Result<BTreeMap<String, Vec<ContainerStats>>, Error> {
    let mut all = BTreeMap::new();
    for pod in pods {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let label_selector = BTreeMap::from([(names::POD_UID.to_owned(), uid.clone())]);
        let filter = Some(ContainerStatsFilter { label_selector, ..ContainerStatsFilter::default() });
        let service = Arc::clone(&context.runtime.service);
        // It measures what containers wrote, which takes as long as the disk does.
        let asked = async move { service.list_container_stats(ListContainerStatsRequest { filter }).await };
        let stats = waiting(asked).await?.stats;
        if !stats.is_empty() {
            all.insert(uid, stats);
        }
    }
    Ok(all)
}

async fn processes(context: &Arc<Context>) -> Option<BTreeMap<String, u64>> {
    let service: Arc<dyn RuntimeService> = Arc::clone(&context.runtime.service);
    let asked = async move { service.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await };
    let each = waiting(asked).await.ok()?.stats.into_iter().filter_map(|it| {
        let uid = it.attributes?.labels.get(names::POD_UID)?.clone();
        Some((uid, it.linux?.process?.process_count?.value))
    });
    Some(each.collect())
}

/// Awaits what may keep its thread for long.
async fn waiting<T: Send + 'static>(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Error> {
    let runtime = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || runtime.block_on(work)).await;
    done.unwrap_or_else(|error| Err(Error::internal(error.to_string())))
}

/// What a pod's containers use, with what lies on the node for it.
fn written(context: &Context, pod: &Pod, stats: &[ContainerStats]) -> PodUse {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (metadata, spec) = (&pod.metadata, spec::spec(pod));
    let uid = text(&metadata.uid);
    let logs = log_directory(&context.config, &text(&metadata.namespace), &text(&metadata.name), &uid);
    let logs = PathBuf::from(logs);
    let number = |value: &Option<UInt64Value>| value.as_ref().map_or(0, |it| it.value);
    let each = stats.iter().map(|stats| {
        let name = stats.attributes.clone().unwrap_or_default().metadata.unwrap_or_default().name;
        let layer = stats.writable_layer.clone().unwrap_or_default();
        ContainerUse {
            memory: stats.memory.as_ref().map_or(0, |it| number(&it.working_set_bytes)),
            root: Disk { bytes: number(&layer.used_bytes), inodes: number(&layer.inodes_used) },
            logs: usage(&logs.join(&name)),
            name,
        }
    });
    let containers: Vec<ContainerUse> = each.collect();
    // Logs of containers that run no more are the pod's as well.
    let counted = containers.iter().fold(Disk::default(), |sum, it| sum.and(it.logs));
    let all = usage(&logs);
    let rest =
        Disk { bytes: all.bytes.saturating_sub(counted.bytes), inodes: all.inodes.saturating_sub(counted.inodes) };
    let dir = context.config.pod_dir(&uid);
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| {
        let kind = match (&volume.empty_dir, &volume.config_map) {
            (Some(_), _) => "empty-dir",
            (_, Some(_)) => "configmap",
            _ => return None,
        };
        let at = dir.join("volumes").join(format!("kubernetes.io~{kind}")).join(&volume.name);
        Some((volume.name.clone(), usage(&at)))
    });
    PodUse {
        volumes: volumes.collect(),
        other: rest.and(usage(&dir.join("containers"))).and(usage(&dir.join("etc-hosts"))),
        containers,
        processes: 0,
    }
}

/// An inode takes so much of the disk, whatever is in it: who makes empty files uses it, too.
const INODE_BYTES: u64 = 256;

/// What a file, or a folder with all that is below it, takes of its disk. Links are not followed, nor are other file
/// systems entered; what vanishes meanwhile is not counted.
pub(crate) fn usage(path: &Path) -> Disk {
    let Ok(stat) = rustix::fs::lstat(path) else { return Disk::default() };
    let size = |stat: &rustix::fs::Stat| Disk {
        bytes: (u64::try_from(stat.st_blocks).unwrap_or(0) * 512).max(INODE_BYTES),
        inodes: 1,
    };
    let is_folder = |stat: &rustix::fs::Stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    if !is_folder(&stat) {
        return size(&stat);
    }
    // Whoever can write there can change it meanwhile: nothing leads out of this handle.
    let Ok(root) = Root::open(path) else { return Disk::default() };
    let mut sum = Disk::default();
    let mut waiting = vec![PathBuf::from(".")];
    while let Some(folder) = waiting.pop() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(handle) = root.open_file(&folder, flags, 0) else { continue };
        let Ok(entries) = Dir::read_from(handle.as_fd()) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(found) = rustix::fs::statat(handle.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if found.st_dev != stat.st_dev {
                continue;
            }
            sum = sum.and(size(&found));
            if is_folder(&found) {
                use std::os::unix::ffi::OsStrExt as _;
                waiting.push(folder.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(field("MemTotal: 10 kB\nMemAvailable:    2048 kB\n", "MemAvailable:"), Some(2 << 20));
        assert_eq!(tasks("0.10 0.20 0.30 2/734 12345\n"), Some(734));
        let machine = Machine::new();
        let (memory, processes) = (machine.memory().unwrap(), machine.processes().unwrap());
        assert!(memory.free > 0 && memory.free <= memory.whole, "{memory:?}");
        assert!(processes.free > 0 && processes.free < processes.whole, "{processes:?}");
        assert!(machine.file_system(Path::new("/")).unwrap().bytes.whole > 0);
    }

    #[test]
    fn what_is_below_a_folder_is_counted_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        let file = |path: &str, size: u64| {
            let file = std::fs::File::create(dir.path().join(path)).unwrap();
            std::io::copy(&mut std::io::Read::take(std::io::repeat(b'x'), size), &mut &file).unwrap();
            file.sync_all().unwrap();
        };
        std::fs::create_dir_all(dir.path().join("outside")).unwrap();
        std::fs::create_dir_all(dir.path().join("inside/deep")).unwrap();
        file("outside/large", 1 << 20);
        file("inside/deep/some", 64 << 10);
        std::os::unix::fs::symlink(dir.path().join("outside"), dir.path().join("inside/link")).unwrap();
        let used = usage(&dir.path().join("inside"));
        assert_eq!(used.inodes, 3);
        assert!((64 << 10..256 << 10).contains(&used.bytes), "{used:?}");
        assert_eq!(usage(&dir.path().join("nothing")), Disk::default());
    }

    #[test]
    fn input_40_empty_files_take_room() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..1000 {
            std::fs::File::create(dir.path().join(n.to_string())).unwrap();
        }
        let used = usage(dir.path());
        assert_eq!(used.inodes, 1000);
        assert!(used.bytes >= 256_000, "{used:?}");
    }
}
