//! Cgroups on either version behind one face: make, limit, join, measure, kill, remove.
//!
//! On v1 a group is a folder in each of several hierarchies; on v2 it is one folder. A hybrid machine, with v1's
//! controllers and an empty v2 tree, counts as v1. Paths are as the kubelet writes them: `/kubepods/pod1/c1`.

mod devices;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use devices::{Access, DeviceKind, DeviceRule};
use rustix::fs::{CWD, Mode, OFlags};

/// What could not be done to which group.
#[derive(Debug, thiserror::Error)]
#[error("cgroup {path}: {what}: {source}")]
pub struct Error {
    pub path: String,
    pub what: String,
    pub source: io::Error,
}

pub type Result<T> = std::result::Result<T, Error>;

/// The machine's cgroup hierarchies.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Arc<Layout>,
}

#[derive(Debug)]
enum Layout {
    V1(Vec<Hierarchy>),
    V2 { mount: PathBuf },
}

/// One of v1's hierarchies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Such as `cpu` and `cpuacct` together.
    pub controllers: Vec<String>,
    pub mount: PathBuf,
}

/// What a group may use. What is absent is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// v1's unit, 2 to 262,144; converted to a weight on v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds in each period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    /// Bytes; -1 is no limit.
    pub memory: Option<i64>,
    /// Memory and swap together, in bytes; -1 is no limit.
    pub memory_and_swap: Option<i64>,
    /// -1 is no limit.
    pub pids: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Page size as file names spell it (`2MB`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Files of v2 and their contents, written as they are; ignored on v1.
    pub unified: BTreeMap<String, String>,
}

/// What a group uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of all cores together.
    pub cpu: u64,
    pub memory: u64,
    /// Memory without the page cache that is easily given back: what eviction looks at.
    pub working_set: u64,
    pub rss: u64,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// Absent when there is no limit.
    pub memory_limit: Option<u64>,
    pub swap: Option<u64>,
    pub pids: u64,
}

impl Cgroups {
    /// Finds the hierarchies in the caller's mount namespace.
    pub fn detect() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let layout = parse_mounts(&mounts).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "no cgroup file system is mounted: mount one at /sys/fs/cgroup")
        })?;
        Ok(Self { layout: Arc::new(layout) })
    }

    /// 1 or 2.
    pub fn version(&self) -> u8 {
        match *self.layout {
            Layout::V1(_) => 1,
            Layout::V2 { .. } => 2,
        }
    }

    /// v1's hierarchies that have controllers; none on v2.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        match &*self.layout {
            Layout::V1(hierarchies) => hierarchies,
            Layout::V2 { .. } => &[],
        }
    }

    /// The group at `path`, which need not exist.
    pub fn group(&self, path: &str) -> Group {
        let clean: Vec<&str> = path.split('/').filter(|it| !matches!(*it, "" | "." | "..")).collect();
        Group { layout: Arc::clone(&self.layout), path: clean.join("/") }
    }

    /// Lets processes change groups without the milliseconds that the kernel otherwise takes to look after forks
    /// that go on meanwhile (`favordynmods`, Linux 6.0). The kernel has one such switch for all hierarchies and lets only
    /// v2's be set on a living one. An older kernel, a machine without v2, or a node inside another stays slow.
    pub fn favor_moves(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some((mount, options)) = unified_mount(&mounts) {
            _ = favor_moves(&mount, &options);
        }
    }
}

const FAVOR_MOVES: &str = "favordynmods";

/// v2's mount and the options of its file system.
fn unified_mount(mounts: &str) -> Option<(PathBuf, Vec<&str>)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - cgroup2 ")?;
        let mount = PathBuf::from(left.split(' ').nth(4)?);
        let options = right.rsplit(' ').next()?.split(',');
        Some((mount, options.filter(|it| !matches!(*it, "rw" | "ro")).collect()))
    })
}

/// Options that are not repeated would be lost.
fn favor_moves(mount: &Path, options: &[&str]) -> io::Result<()> {
    use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};
    if options.contains(&FAVOR_MOVES) {
        return Ok(());
    }
    let context = fspick(CWD, mount, FsPickFlags::FSPICK_CLOEXEC)?;
    for option in options.iter().chain([&FAVOR_MOVES]) {
        fsconfig_set_flag(std::os::fd::AsFd::as_fd(&context), *option)?;
    }
    Ok(fsconfig_reconfigure(std::os::fd::AsFd::as_fd(&context))?)
}

/// Reads `/proc/self/mountinfo` (proc(5)).
fn parse_mounts(mounts: &str) -> Option<Layout> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") => unified = unified.or(Some(mount)),
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                let controllers: Vec<String> =
                    options.split(',').filter(|it| CONTROLLERS.contains(it)).map(str::to_owned).collect();
                let known = hierarchies.iter().any(|it| it.controllers == controllers);
                if !controllers.is_empty() && !known {
                    hierarchies.push(Hierarchy { controllers, mount });
                }
            }
            _ => {}
        }
    }
    match (hierarchies.is_empty(), unified) {
        (false, _) => Some(Layout::V1(hierarchies)),
        (true, Some(mount)) => Some(Layout::V2 { mount }),
        (true, None) => None,
    }
}

const CONTROLLERS: [&str; 12] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "pids",
    "devices",
    "freezer",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
];

/// A group of processes.
#[derive(Clone, Debug)]
pub struct Group {
    layout: Arc<Layout>,
    /// Without a slash at either end.
    path: String,
}

impl Group {
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The group below this one.
    pub fn child(&self, name: &str) -> Self {
        Self { layout: Arc::clone(&self.layout), path: format!("{}/{name}", self.path) }
    }

    pub fn exists(&self) -> bool {
        self.any_directory().is_dir()
    }

    /// Makes the group and those above it. One that is there is success.
    pub fn create(&self) -> Result<()> {
        match &*self.layout {
            Layout::V1(hierarchies) => v1::create(hierarchies, &self.path),
            Layout::V2 { mount } => v2::create(mount, &self.path),
        }
        .map_err(|source| self.error("cannot create it", source))
    }

    /// Sets limits on a group that exists.
    pub fn limit(&self, limits: &Limits) -> Result<()> {
        let set = |file: &str, value: &str| self.write(file, value);
        match &*self.layout {
            Layout::V1(_) => v1::limit(limits, self, set),
            Layout::V2 { .. } => v2::limit(limits, set),
        }
    }

    /// Confines the group's processes to some devices.
    pub fn allow_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        match &*self.layout {
            Layout::V1(_) => v1::allow_devices(rules, |file, value| self.write(file, value)),
            Layout::V2 { .. } => {
                let directory = self
                    .open(&self.any_directory(), OFlags::RDONLY | OFlags::DIRECTORY)
                    .map_err(|source| self.error("cannot open it", source))?;
                devices::attach(&directory, rules).map_err(|source| self.error("cannot filter devices", source))
            }
        }
    }

    /// Descriptors through which a process enters the group by writing `0` to each.
    pub fn entrances(&self) -> Result<Vec<OwnedFd>> {
        self.directories()
            .into_iter()
            .map(|it| self.open(&it.join("cgroup.procs"), OFlags::WRONLY))
            .collect::<io::Result<_>>()
            .map_err(|source| self.error("cannot be entered", source))
    }

    /// Moves a process in.
    pub fn add(&self, pid: i32) -> Result<()> {
        for entrance in self.entrances()? {
            rustix::io::write(&entrance, pid.to_string().as_bytes())
                .map_err(|source| self.error("cannot move a process in", source.into()))?;
        }
        Ok(())
    }

    /// The processes in the group itself; none if it does not exist.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match fs::read_to_string(self.any_directory().join("cgroup.procs")) {
            Ok(text) => Ok(text.lines().filter_map(|it| it.parse().ok()).collect()),
            // ENODEV: removed while it was open.
            Err(error) if gone(&error) => Ok(Vec::new()),
            Err(source) => Err(self.error("cannot read its processes", source)),
        }
    }

    /// Kills every process in the group and in those below. They may still be dying on return.
    pub fn kill(&self) -> Result<()> {
        if let Layout::V2 { mount } = &*self.layout {
            match fs::OpenOptions::new().write(true).open(mount.join(&self.path).join("cgroup.kill")) {
                Ok(mut file) => {
                    return io::Write::write_all(&mut file, b"1").map_err(|it| self.error("cannot be killed", it));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.error("cannot be killed", error));
                }
                Err(_) => {}
            }
        }
        for child in self.children() {
            child.kill()?;
        }
        // A process that forks meanwhile is found in the next round; none is left when a round finds nothing new.
        let mut killed = std::collections::BTreeSet::new();
        loop {
            let fresh: Vec<i32> = self.processes()?.into_iter().filter(|it| killed.insert(*it)).collect();
            if fresh.is_empty() {
                return Ok(());
            }
            for pid in fresh {
                // Gone meanwhile is what was wanted.
                if let Ok(process) = crate::processes::Process::open(pid) {
                    process.signal(libc::SIGKILL).map_err(|source| self.error("cannot kill a process", source))?;
                }
            }
        }
    }

    /// Removes the group and those below, which must have no processes. Missing is success.
    pub fn remove(&self) -> Result<()> {
        for child in self.children() {
            child.remove()?;
        }
        for directory in self.directories() {
            match fs::remove_dir(&directory) {
                Err(error) if !gone(&error) => return Err(self.error("cannot be removed", error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the group uses, with those below.
    pub fn usage(&self) -> Result<Usage> {
        let read = |file: &str| self.read(file);
        match &*self.layout {
            Layout::V1(_) => v1::usage(read),
            Layout::V2 { .. } => v2::usage(read),
        }
        .map_err(|source| self.error("cannot be measured", source))
    }

    /// The file that counts what the kernel killed for want of memory, on a line `oom_kill`.
    pub fn memory_events(&self) -> Result<OwnedFd> {
        let open = || self.open(&self.file(self.oom_file())?, OFlags::RDONLY);
        open().map_err(|source| self.error("cannot watch its memory", source))
    }

    /// Kills everything in the group and below, waits until it has ended, and removes the group. Blocks meanwhile.
    pub fn empty_and_remove(&self) -> Result<()> {
        self.kill()?;
        self.wait_until_empty()?;
        let mut removed = self.remove();
        // A process that has ended leaves its group only when the kernel has switched away from it, which v1 does
        // not tell; it is a matter of microseconds.
        for _ in 0..100 {
            match &removed {
                Err(error) if error.source.raw_os_error() == Some(libc::EBUSY) => {
                    _ = rustix::thread::nanosleep(&rustix::thread::Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
                    removed = self.remove();
                }
                _ => break,
            }
        }
        removed
    }

    /// Waits until the processes that are dying in the group and below have ended.
    fn wait_until_empty(&self) -> Result<()> {
        for child in self.children() {
            child.wait_until_empty()?;
        }
        for pid in self.processes()? {
            if let Ok(process) = crate::processes::Process::open(pid) {
                process.until_ended().map_err(|source| self.error("cannot wait for a process", source))?;
            }
        }
        Ok(())
    }

    /// How often the kernel killed one of its processes because the group was out of memory.
    pub fn oom_kills(&self) -> u64 {
        self.read(self.oom_file()).ok().and_then(|it| field(&it, "oom_kill")).unwrap_or(0)
    }

    fn oom_file(&self) -> &'static str {
        match *self.layout {
            Layout::V1(_) => "memory.oom_control",
            Layout::V2 { .. } => "memory.events",
        }
    }

    /// Groups directly below.
    pub fn children(&self) -> Vec<Self> {
        let mut names = std::collections::BTreeSet::new();
        for directory in self.directories() {
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|it| it.is_dir()) {
                    names.extend(entry.file_name().into_string().ok());
                }
            }
        }
        names.iter().map(|it| self.child(it)).collect()
    }

    /// Its folder in each hierarchy.
    pub fn directories(&self) -> Vec<PathBuf> {
        match &*self.layout {
            Layout::V1(hierarchies) => hierarchies.iter().map(|it| it.mount.join(&self.path)).collect(),
            Layout::V2 { mount } => vec![mount.join(&self.path)],
        }
    }

    /// A folder that lists its processes; on v1 any hierarchy will do, `pids` is always joined.
    fn any_directory(&self) -> PathBuf {
        self.directory_of("pids").unwrap_or_else(|| self.directories().swap_remove(0))
    }

    fn directory_of(&self, controller: &str) -> Option<PathBuf> {
        match &*self.layout {
            Layout::V1(hierarchies) => hierarchies
                .iter()
                .find(|it| it.controllers.iter().any(|it| it == controller))
                .map(|it| it.mount.join(&self.path)),
            Layout::V2 { mount } => Some(mount.join(&self.path)),
        }
    }

    fn file(&self, file: &str) -> io::Result<PathBuf> {
        let controller = file.split('.').next().unwrap_or_default();
        let directory = self.directory_of(controller).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("this machine has no cgroup controller {controller}"))
        })?;
        Ok(directory.join(file))
    }

    /// True when the machine has the controller of a file such as `pids.max`.
    fn has(&self, file: &str) -> bool {
        self.file(file).is_ok_and(|it| it.exists())
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.file(file)?)
    }

    fn write(&self, file: &str, value: &str) -> Result<()> {
        let write = || {
            // Not `fs::write`: these files exist or nothing can be done, and take a value in one write.
            let fd = self.open(&self.file(file)?, OFlags::WRONLY)?;
            Ok(rustix::io::write(&fd, value.as_bytes()).map(|_| ())?)
        };
        write().map_err(|source| self.error(&format!("cannot set {file} to {value}"), source))
    }

    fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn error(&self, what: &str, source: io::Error) -> Error {
        Error { path: format!("/{}", self.path), what: what.to_owned(), source }
    }
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// A field of a file with `name value` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        if key == name { value.trim().parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests;
