//! What must be mounted in a node, worked out from what is: nothing in a VM, nearly all of it in a container.

use std::fs;
use std::io;
use std::path::Path;

use rustix::mount::MountFlags;

use crate::mounts::{self, Propagation};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Mount {
        kind: &'static str,
        target: String,
        options: String,
    },
    /// Readonly as the container engine left it; the node must write.
    Writable {
        target: String,
    },
    /// An engine's readonly view of a hierarchy, in the way of our own.
    Detach {
        target: String,
    },
    Link {
        target: String,
        to: String,
    },
}

/// Mounts /proc, /sys, /dev and its parts, /run and the cgroups where they are missing or readonly, and makes the
/// whole tree shared, so that mounts made for one container can reach others.
pub fn prepare_mounts() -> io::Result<()> {
    // Without /proc nothing can be looked at; it comes first and by itself.
    if !Path::new("/proc/self").exists() {
        fs::create_dir_all("/proc")?;
        mounts::mount_at("proc", "proc", Path::new("/proc"), hardened("proc"), "")?;
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let cgroups = fs::read_to_string("/proc/self/cgroup")?;
    for step in plan(&mountinfo, &cgroups) {
        apply(&step).map_err(|error| io::Error::new(error.kind(), format!("{step:?}: {error}")))?;
    }
    mounts::set_propagation(Path::new("/"), true, Propagation::Shared)
}

fn hardened(kind: &str) -> MountFlags {
    let base = MountFlags::NOSUID | MountFlags::RELATIME;
    match kind {
        "devtmpfs" | "devpts" => base | MountFlags::NOEXEC,
        _ => base | MountFlags::NOEXEC | MountFlags::NODEV,
    }
}

fn apply(step: &Step) -> io::Result<()> {
    match step {
        Step::Mount { kind, target, options } => {
            fs::create_dir_all(target)?;
            mounts::mount_at(kind, kind, Path::new(target), hardened(kind), options)
        }
        Step::Writable { target } => {
            let flags = MountFlags::BIND | hardened("");
            Ok(rustix::mount::mount_remount(target.as_str(), flags, c"")?)
        }
        Step::Detach { target } => mounts::detach(Path::new(target)),
        Step::Link { target, to } => match std::os::unix::fs::symlink(to, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done,
        },
    }
}

/// What is mounted somewhere.
struct Mounted<'a> {
    target: &'a str,
    kind: &'a str,
    readonly: bool,
}

fn parse(mountinfo: &str) -> Vec<Mounted<'_>> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(4);
            let (target, options) = (left.next()?, left.next()?);
            let kind = right.split(' ').next()?;
            Some(Mounted { target, kind, readonly: options.split(',').any(|it| it == "ro") })
        })
        .collect()
}

fn plan(mountinfo: &str, cgroups: &str) -> Vec<Step> {
    let mounted = parse(mountinfo);
    // The last one mounted at a place is the one to be seen.
    let at = |target: &str| mounted.iter().rev().find(|it| it.target == target);
    let mut steps = Vec::new();
    let mut ensure = |kind: &'static str, target: &str, options: &str| match at(target) {
        None => steps.push(Step::Mount { kind, target: target.to_owned(), options: options.to_owned() }),
        Some(it) if it.readonly => steps.push(Step::Writable { target: target.to_owned() }),
        Some(_) => {}
    };
    ensure("proc", "/proc", "");
    ensure("sysfs", "/sys", "");
    ensure("devtmpfs", "/dev", "mode=755");
    ensure("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5");
    ensure("tmpfs", "/dev/shm", "mode=1777");
    ensure("mqueue", "/dev/mqueue", "");
    ensure("tmpfs", "/run", "mode=755");
    for target in ["/proc/sys", "/proc/sysrq-trigger"] {
        if at(target).is_some_and(|it| it.readonly) {
            steps.push(Step::Detach { target: target.to_owned() });
        }
    }
    let hierarchies: Vec<&str> = cgroups
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|it| !it.is_empty() && !it.starts_with("name="))
        .collect();
    let here = "/sys/fs/cgroup";
    if hierarchies.is_empty() {
        match at(here) {
            Some(it) if it.kind == "cgroup2" && !it.readonly => {}
            Some(it) if it.kind == "cgroup2" => steps.push(Step::Writable { target: here.to_owned() }),
            _ => steps.push(Step::Mount { kind: "cgroup2", target: here.to_owned(), options: String::new() }),
        }
        return steps;
    }
    match at(here) {
        Some(it) if it.readonly => steps.push(Step::Writable { target: here.to_owned() }),
        Some(_) => {}
        None => steps.push(Step::Mount { kind: "tmpfs", target: here.to_owned(), options: "mode=755".to_owned() }),
    }
    for controllers in hierarchies {
        // An engine may order the names of joint controllers its own way.
        let existing = mounted
            .iter()
            .find(|it| it.kind == "cgroup" && it.target.rsplit('/').next().is_some_and(|it| same_set(it, controllers)));
        match existing {
            Some(it) if !it.readonly => continue,
            Some(it) => steps.push(Step::Detach { target: it.target.to_owned() }),
            None => {}
        }
        let target = existing.map_or_else(|| format!("{here}/{controllers}"), |it| it.target.to_owned());
        steps.push(Step::Mount { kind: "cgroup", target, options: controllers.to_owned() });
        if controllers.contains(',') {
            for name in controllers.split(',') {
                steps.push(Step::Link { target: format!("{here}/{name}"), to: controllers.to_owned() });
            }
        }
    }
    steps
}

fn same_set(a: &str, b: &str) -> bool {
    let sorted = |text: &str| {
        let mut names: Vec<String> = text.split(',').map(str::to_owned).collect();
        names.sort();
        names
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(target: &str, options: &str, kind: &str) -> String {
        format!("24 1 0:20 / {target} {options},relatime - {kind} {kind} rw\n")
    }

    #[test]
    fn an_empty_machine_gets_everything() {
        let steps = plan(&line("/", "rw", "rootfs"), "0::/\n");
        let kinds: Vec<&str> =
            steps.iter().filter_map(|it| if let Step::Mount { kind, .. } = it { Some(*kind) } else { None }).collect();
        assert_eq!(kinds, ["proc", "sysfs", "devtmpfs", "devpts", "tmpfs", "mqueue", "tmpfs", "cgroup2"]);
    }

    #[test]
    fn an_engines_readonly_views_give_way() {
        let mut info = String::new();
        for (target, options, kind) in [
            ("/proc", "rw", "proc"),
            ("/sys", "ro", "sysfs"),
            ("/dev", "rw", "tmpfs"),
            ("/dev/pts", "rw", "devpts"),
            ("/dev/shm", "rw", "tmpfs"),
            ("/dev/mqueue", "rw", "mqueue"),
            ("/run", "rw", "tmpfs"),
            ("/sys/fs/cgroup", "ro", "tmpfs"),
            ("/sys/fs/cgroup/cpu,cpuacct", "ro", "cgroup"),
            ("/sys/fs/cgroup/pids", "rw", "cgroup"),
        ] {
            info.push_str(&line(target, options, kind));
        }
        let steps = plan(&info, "3:cpuacct,cpu:/\n2:pids:/\n1:name=systemd:/\n0::/\n");
        let there = || "/sys/fs/cgroup/cpu,cpuacct".to_owned();
        assert_eq!(
            steps[..4],
            [
                Step::Writable { target: "/sys".into() },
                Step::Writable { target: "/sys/fs/cgroup".into() },
                Step::Detach { target: there() },
                Step::Mount { kind: "cgroup", target: there(), options: "cpuacct,cpu".into() },
            ]
        );
        assert!(!steps.iter().any(|it| matches!(it, Step::Mount { target, .. } if target.ends_with("pids"))));
    }
}
