//! Cgroup v1: one folder in each hierarchy, each controller with files of its own.

use std::fs;
use std::io;

use super::{Access, DeviceKind, DeviceRule, Group, Hierarchy, Limits, Result, Usage, field};

pub(super) fn create(hierarchies: &[Hierarchy], path: &str) -> io::Result<()> {
    for hierarchy in hierarchies {
        let directory = hierarchy.mount.join(path);
        if directory.is_dir() {
            continue;
        }
        if !hierarchy.controllers.iter().any(|it| it == "cpuset") {
            fs::create_dir_all(directory)?;
            continue;
        }
        // A cpuset without CPUs and memory nodes takes no process: each level copies those above it.
        let mut current = hierarchy.mount.clone();
        for name in path.split('/') {
            let parent = current.clone();
            current.push(name);
            match fs::create_dir(&current) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if fs::read_to_string(current.join(file))?.trim().is_empty() {
                    let inherited = fs::read_to_string(parent.join(file))?;
                    let mut file = fs::OpenOptions::new().write(true).open(current.join(file))?;
                    io::Write::write_all(&mut file, inherited.trim().as_bytes())?;
                }
            }
        }
    }
    Ok(())
}

pub(super) fn limit(limits: &Limits, group: &Group, set: impl Fn(&str, &str) -> Result<()>) -> Result<()> {
    let number = |file: &str, value: Option<i64>| match value {
        Some(value) => set(file, &value.to_string()),
        None => Ok(()),
    };
    if let Some(shares) = limits.cpu_shares {
        set("cpu.shares", &shares.max(2).to_string())?;
    }
    if let Some(period) = limits.cpu_period {
        set("cpu.cfs_period_us", &period.to_string())?;
    }
    number("cpu.cfs_quota_us", limits.cpu_quota)?;
    memory(limits, group, &set)?;
    if let Some(pids) = limits.pids {
        set("pids.max", &if pids < 0 { "max".to_owned() } else { pids.to_string() })?;
    }
    for (file, value) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
        if let Some(value) = value {
            set(file, value)?;
        }
    }
    for (size, bytes) in &limits.hugepages {
        let file = format!("hugetlb.{size}.limit_in_bytes");
        // Upstream asks for zero of every size; a machine without huge pages need not hear of it.
        if *bytes > 0 || group.has(&file) {
            set(&file, &bytes.to_string())?;
        }
    }
    Ok(())
}

/// The two limits must never cross, so that the one that makes room goes first.
fn memory(limits: &Limits, group: &Group, set: &impl Fn(&str, &str) -> Result<()>) -> Result<()> {
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let Some(memory) = limits.memory else { return Ok(()) };
    let bytes = |value: i64| value.to_string();
    let swap = limits.memory_and_swap.filter(|_| group.has(SWAP));
    let Some(swap) = swap else { return set("memory.limit_in_bytes", &bytes(memory)) };
    let now = group.read(SWAP).ok().and_then(|it| it.trim().parse::<u64>().ok()).unwrap_or(u64::MAX);
    let grows = memory < 0 || memory.cast_unsigned() > now;
    if grows {
        set(SWAP, &bytes(swap))?;
        set("memory.limit_in_bytes", &bytes(memory))
    } else {
        set("memory.limit_in_bytes", &bytes(memory))?;
        set(SWAP, &bytes(swap))
    }
}

pub(super) fn allow_devices(rules: &[DeviceRule], set: impl Fn(&str, &str) -> Result<()>) -> Result<()> {
    set("devices.deny", "a")?;
    for rule in rules {
        let kind = match rule.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |it: Option<u32>| it.map_or("*".to_owned(), |it| it.to_string());
        let access: String = [(Access::READ, 'r'), (Access::WRITE, 'w'), (Access::MAKE, 'm')]
            .into_iter()
            .filter(|it| rule.access.contains(it.0))
            .map(|it| it.1)
            .collect();
        set("devices.allow", &format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor)))?;
    }
    Ok(())
}

pub(super) fn usage(read: impl Fn(&str) -> io::Result<String>) -> io::Result<Usage> {
    let number = |file: &str| read(file).map(|it| it.trim().parse::<u64>().unwrap_or(0));
    let stat = read("memory.stat")?;
    let total = |name: &str| field(&stat, name).unwrap_or(0);
    let memory = number("memory.usage_in_bytes")?;
    // The kernel's "no limit" is the largest page-aligned i64.
    let limit = number("memory.limit_in_bytes")?;
    Ok(Usage {
        cpu: number("cpuacct.usage")?,
        memory,
        working_set: memory.saturating_sub(total("total_inactive_file")),
        rss: total("total_rss"),
        page_faults: total("total_pgfault"),
        major_page_faults: total("total_pgmajfault"),
        memory_limit: Some(limit).filter(|it| *it < 1 << 62),
        swap: field(&stat, "total_swap"),
        pids: number("pids.current")?,
    })
}
