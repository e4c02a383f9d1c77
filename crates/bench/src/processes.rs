//! What the kernel says of processes: memory, CPU time, writes; and whose children they are.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Memory of some processes, in MB (10^6 bytes).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// Each shared page counted in parts.
    pub(crate) pss: f64,
    pub(crate) anonymous: f64,
}

/// All that there are.
pub(crate) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// A process and all that descend from it, itself first.
pub(crate) fn tree(root: i32) -> Vec<i32> {
    let parent = |pid: i32| stat(pid)?.get(1)?.parse::<i32>().ok();
    let parents: Vec<(i32, i32)> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(parents.iter().filter(|it| it.1 == pid).map(|it| it.0));
        next += 1;
    }
    found
}

/// The words that a process was started with.
pub(crate) fn command(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

/// Memory of these processes together; one that has ended has none.
pub(crate) fn memory(pids: &[i32]) -> Memory {
    pids.iter().fold(Memory::default(), |all, pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        Memory {
            pss: all.pss + kilobytes(&rollup, "Pss:") / 1000.0,
            anonymous: all.anonymous + kilobytes(&status, "RssAnon:") / 1000.0,
        }
    })
}

/// The field of a table of /proc, which counts in units of 1,024 bytes; in units of 1,000.
fn kilobytes(text: &str, field: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|it| it.parse::<f64>().ok()).unwrap_or_default() * 1.024
}

/// CPU time that these processes have used, in steps of a clock tick.
pub(crate) fn cpu(pids: &[i32]) -> Duration {
    let ticks = pids.iter().filter_map(|pid| {
        let fields = stat(*pid)?;
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    });
    Duration::from_secs_f64(ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Bytes that these processes have caused to be written to disks.
pub(crate) fn written(pids: &[i32]) -> u64 {
    let bytes = pids.iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse::<u64>().ok()
    });
    bytes.sum()
}

/// The fields of proc_pid_stat(5) behind the name, from the state on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// The calling thread, and what it starts, run on one core from now on.
pub(crate) fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core} alone: this needs two cores"))
}

/// What the calling thread did with its cores is undone when this is dropped.
pub(crate) struct Cores(CpuSet);

impl Cores {
    pub(crate) fn keep() -> Result<Self> {
        Ok(Self(sched_getaffinity(None)?))
    }
}

impl Drop for Cores {
    fn drop(&mut self) {
        // They were allowed before.
        _ = sched_setaffinity(None, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_thousands_of_bytes() {
        let text = "Rss:                8 kB\nPss:             2000 kB\nPss_Anon:           4 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), 2048.0);
        assert_eq!(kilobytes(text, "Swap:"), 0.0);
    }

    #[test]
    fn this_process_has_memory_and_is_its_own_tree() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let memory = memory(&[pid]);
        assert!(memory.pss > 0.0 && memory.anonymous > 0.0, "{memory:?}");
        assert_eq!(tree(pid)[0], pid);
        assert!(command(pid).contains("bench"));
    }
}
