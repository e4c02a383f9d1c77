//! Cgroup v2: one folder, whose controllers must be handed down level by level.

use std::fs;
use std::io;
use std::path::Path;

use super::{Limits, Result, Usage, field};

const WANTED: [&str; 6] = ["cpu", "cpuset", "io", "memory", "pids", "hugetlb"];

pub(super) fn create(mount: &Path, path: &str) -> io::Result<()> {
    let mut current = mount.to_path_buf();
    for name in path.split('/') {
        hand_down(&current)?;
        current.push(name);
        match fs::create_dir(&current) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Gives the groups below `directory` the controllers that it has itself.
fn hand_down(directory: &Path) -> io::Result<()> {
    let available = fs::read_to_string(directory.join("cgroup.controllers"))?;
    let given = fs::read_to_string(directory.join("cgroup.subtree_control"))?;
    let missing: Vec<String> = available
        .split_whitespace()
        .filter(|it| WANTED.contains(it) && !given.split_whitespace().any(|given| given == *it))
        .map(|it| format!("+{it}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut file = fs::OpenOptions::new().write(true).open(directory.join("cgroup.subtree_control"))?;
    io::Write::write_all(&mut file, missing.join(" ").as_bytes())
}

pub(super) fn limit(limits: &Limits, set: impl Fn(&str, &str) -> Result<()>) -> Result<()> {
    let bytes = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    if let Some(shares) = limits.cpu_shares.filter(|it| *it > 0) {
        set("cpu.weight", &weight(shares).to_string())?;
    }
    if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
        let quota = limits.cpu_quota.filter(|it| *it > 0).map_or("max".to_owned(), |it| it.to_string());
        set("cpu.max", &format!("{quota} {}", limits.cpu_period.filter(|it| *it > 0).unwrap_or(100_000)))?;
    }
    if let Some(memory) = limits.memory {
        set("memory.max", &bytes(memory))?;
        // v1 counts memory and swap together, v2 swap alone.
        if let Some(both) = limits.memory_and_swap {
            set("memory.swap.max", &bytes(if both < 0 { both } else { (both - memory).max(0) }))?;
        }
    }
    if let Some(pids) = limits.pids {
        set("pids.max", &bytes(pids))?;
    }
    for (file, value) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)] {
        if let Some(value) = value {
            set(file, value)?;
        }
    }
    for (size, limit) in limits.hugepages.iter().filter(|it| it.1 > 0) {
        set(&format!("hugetlb.{size}.max"), &limit.to_string())?;
    }
    for (file, value) in &limits.unified {
        set(file, value)?;
    }
    Ok(())
}

/// Shares (2 to 262,144) as a weight (1 to 10,000).
///
/// The curve of KEP-2254's successor as runc and crun have it since 2025 (opencontainers/cgroups issue 14): a
/// quadratic in log2 that maps the two ends, and the default of 1,024 to the default of 100.
pub(super) fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

pub(super) fn usage(read: impl Fn(&str) -> io::Result<String>) -> io::Result<Usage> {
    let number = |file: &str| read(file).ok().and_then(|it| it.trim().parse::<u64>().ok());
    let stat = read("memory.stat")?;
    let of = |name: &str| field(&stat, name).unwrap_or(0);
    let memory = number("memory.current").unwrap_or(0);
    let cpu = field(&read("cpu.stat")?, "usage_usec").unwrap_or(0).saturating_mul(1000);
    Ok(Usage {
        cpu,
        memory,
        working_set: memory.saturating_sub(of("inactive_file")),
        rss: of("anon"),
        page_faults: of("pgfault"),
        major_page_faults: of("pgmajfault"),
        // `max` is no number, so no limit.
        memory_limit: number("memory.max"),
        swap: number("memory.swap.current"),
        pids: number("pids.current").unwrap_or(0),
    })
}
