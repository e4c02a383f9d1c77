//! What sandboxes and containers use, read from their cgroups when asked.

use std::collections::HashMap;
use std::path::Path;

use api::cri::{
    ContainerAttributes, ContainerStats, CpuUsage, Error, FilesystemIdentifier, FilesystemUsage, LinuxPodSandboxStats,
    MemoryUsage, PodSandboxAttributes, PodSandboxStats, ProcessUsage, Result, SwapUsage, UInt64Value,
};
use linux::cgroups::Usage;
use parking_lot::Mutex;

use super::Runtime;
use crate::records;
use crate::sandboxes::Sandbox;
use crate::tasks::{Container, Phase};

/// The last samples, for rates: time and CPU of each cgroup, both in nanoseconds.
#[derive(Default)]
pub(crate) struct Rates {
    last: Mutex<HashMap<String, (i64, u64)>>,
}

impl Rates {
    /// Nanoseconds of CPU in each second since the last sample.
    fn sample(&self, id: &str, now: i64, cpu: u64) -> Option<u64> {
        let (then, before) = self.last.lock().insert(id.to_owned(), (now, cpu))?;
        let elapsed = u128::try_from(now - then).ok().filter(|it| *it > 0)?;
        u64::try_from(u128::from(cpu.checked_sub(before)?) * 1_000_000_000 / elapsed).ok()
    }

    pub(crate) fn forget(&self, id: &str) {
        self.last.lock().remove(id);
    }
}

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

impl Runtime {
    /// `None` for a container that does not run.
    pub(crate) fn container_stats_of(&self, container: &Container) -> Result<Option<ContainerStats>> {
        if !matches!(container.phase(), Phase::Running { .. }) {
            return Ok(None);
        }
        let usage = self.group(container).usage().map_err(|error| Error::internal(error.to_string()))?;
        let now = records::now();
        let attributes = {
            let record = container.record.lock();
            ContainerAttributes {
                id: container.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            }
        };
        let layer = self.snapshots().join(&container.id).join("fs");
        let (bytes, inodes) = disk_usage(&layer);
        Ok(Some(ContainerStats {
            attributes: Some(attributes),
            cpu: Some(self.cpu(&container.id, now, &usage)),
            memory: Some(memory(now, &usage)),
            writable_layer: Some(FilesystemUsage {
                timestamp: now,
                fs_id: Some(FilesystemIdentifier { mountpoint: self.config.root.to_string_lossy().into_owned() }),
                used_bytes: value(bytes),
                inodes_used: value(inodes),
            }),
            swap: usage.swap.map(|swap| SwapUsage {
                timestamp: now,
                swap_available_bytes: None,
                swap_usage_bytes: value(swap),
            }),
            io: None,
        }))
    }

    pub(crate) fn sandbox_stats_of(&self, sandbox: &Sandbox) -> Result<PodSandboxStats> {
        let mut containers = Vec::new();
        for container in self.containers_of(&sandbox.id) {
            containers.extend(self.container_stats_of(&container)?);
        }
        let now = records::now();
        let (attributes, parent) = {
            let record = sandbox.record.lock();
            let attributes = PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: record.config.metadata.clone(),
                labels: record.config.labels.clone(),
                annotations: record.config.annotations.clone(),
            };
            (attributes, record.config.linux.as_ref().map(|it| it.cgroup_parent.clone()).unwrap_or_default())
        };
        let group = self.cgroups.group(&format!("{}/{parent}", self.config.cgroup_parent));
        // Without a cgroup of its own the pod is what its containers are.
        let usage = if parent.is_empty() { None } else { group.usage().ok() };
        let linux = LinuxPodSandboxStats {
            cpu: usage.as_ref().map(|it| self.cpu(&sandbox.id, now, it)),
            memory: usage.as_ref().map(|it| memory(now, it)),
            network: None,
            process: usage.map(|it| ProcessUsage { timestamp: now, process_count: value(it.pids) }),
            containers,
            io: None,
        };
        Ok(PodSandboxStats { attributes: Some(attributes), linux: Some(linux) })
    }

    fn cpu(&self, id: &str, now: i64, usage: &Usage) -> CpuUsage {
        CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(usage.cpu),
            usage_nano_cores: self.rates.sample(id, now, usage.cpu).and_then(value),
            psi: None,
        }
    }

    /// The file system that holds images and snapshots.
    pub(crate) fn file_system(&self) -> FilesystemUsage {
        let (bytes, inodes) = disk_usage(self.images.root());
        FilesystemUsage {
            timestamp: records::now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.config.root.to_string_lossy().into_owned() }),
            used_bytes: value(bytes),
            inodes_used: value(inodes),
        }
    }
}

fn memory(now: i64, usage: &Usage) -> MemoryUsage {
    MemoryUsage {
        timestamp: now,
        working_set_bytes: value(usage.working_set),
        available_bytes: usage.memory_limit.and_then(|it| value(it.saturating_sub(usage.working_set))),
        usage_bytes: value(usage.memory),
        rss_bytes: value(usage.rss),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: None,
    }
}

/// Bytes on the disk and number of files below a directory. Links are not followed; what vanishes meanwhile is not
/// counted.
fn disk_usage(directory: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let (mut bytes, mut inodes) = (0, 0);
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            inodes += 1;
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}
