//! What the node has, and what of it pods may use: the smaller of the machine and the cgroup that the agent is in.

use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::config::Config;
use crate::eviction::Signal;
use crate::quantity;

/// The signals that are about a disk, of which a node here mostly has one.
const DISK: [Signal; 3] = [Signal::NodefsAvailable, Signal::ImagefsAvailable, Signal::ContainerfsAvailable];

/// A cgroup v1 limit at or above this is none.
const UNLIMITED: u64 = 1 << 60;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Capacity {
    /// Thousandths of a core.
    pub(crate) cpu_milli: i64,
    /// Bytes, as of `disk`.
    pub(crate) memory: u64,
    pub(crate) disk: u64,
    pub(crate) pods: u32,
    /// Held back, with what must stay free: thousandths of a core, bytes, bytes.
    pub(crate) reserved: (i64, u64, u64),
}

impl Capacity {
    /// Reads the machine and the cgroup.
    pub(crate) fn observe(config: &Config) -> Self {
        let reserved = |name: &str| config.reserved(name);
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let disk = rustix::fs::statvfs(&config.root_dir).or_else(|_| rustix::fs::statvfs("/"));
        let disk = disk.map_or(0, |stat| stat.f_blocks * stat.f_frsize);
        let memory = machine_memory().min(cgroup_memory(Path::new("/sys/fs/cgroup")).unwrap_or(u64::MAX));
        let kept = &config.eviction.hard;
        Self {
            cpu_milli: i64::try_from(cores).unwrap_or(1) * 1000,
            memory,
            disk,
            pods: match config.pods_per_core {
                0 => config.max_pods,
                each => config.max_pods.min(u32::try_from(cores).unwrap_or(1).saturating_mul(each)),
            },
            reserved: (
                quantity::milli(reserved("cpu")),
                reserved("memory") as u64 + kept.kept(&[Signal::MemoryAvailable], memory),
                reserved("ephemeral-storage") as u64 + kept.kept(&DISK, disk),
            ),
        }
    }

    pub(crate) fn memory_bytes(&self) -> f64 {
        self.memory as f64
    }

    /// What pods may use, in base units.
    pub(crate) fn allocatable(&self) -> BTreeMap<String, f64> {
        let (cpu, memory, disk) = self.rest();
        [
            ("cpu", cpu as f64 / 1000.0),
            ("memory", memory as f64),
            ("ephemeral-storage", disk as f64),
            ("pods", f64::from(self.pods)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn rest(&self) -> (i64, u64, u64) {
        let (cpu, memory, disk) = self.reserved;
        ((self.cpu_milli - cpu).max(0), self.memory.saturating_sub(memory), self.disk.saturating_sub(disk))
    }

    /// The node's capacity and allocatable lists as the API has them.
    pub(crate) fn lists(&self) -> (BTreeMap<String, Quantity>, BTreeMap<String, Quantity>) {
        let list = |cpu: i64, memory: u64, disk: Quantity| -> BTreeMap<String, Quantity> {
            [
                ("cpu", quantity::cores(cpu)),
                ("memory", quantity::bytes(memory)),
                ("ephemeral-storage", disk),
                ("hugepages-1Gi", Quantity("0".to_owned())),
                ("hugepages-2Mi", Quantity("0".to_owned())),
                ("pods", Quantity(self.pods.to_string())),
            ]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
        };
        let (cpu, memory, disk) = self.rest();
        let whole = list(self.cpu_milli, self.memory, quantity::bytes(self.disk));
        (whole, list(cpu, memory, quantity::bytes(disk)))
    }
}

fn machine_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kib * 1024
}

/// The limit of the cgroup that is mounted as the root here, in either version's files.
fn cgroup_memory(root: &Path) -> Option<u64> {
    let files = ["memory.max", "memory/memory.limit_in_bytes"];
    let limits = files.iter().filter_map(|file| std::fs::read_to_string(root.join(file)).ok()?.trim().parse().ok());
    limits.filter(|limit| *limit < UNLIMITED).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_limits_the_machine_in_either_version() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(cgroup_memory(dir.path()), None);
        linux_write(&dir.path().join("memory.max"), "max\n");
        assert_eq!(cgroup_memory(dir.path()), None);
        linux_write(&dir.path().join("memory.max"), "1048576\n");
        assert_eq!(cgroup_memory(dir.path()), Some(1 << 20));
        std::fs::create_dir(dir.path().join("memory")).unwrap();
        linux_write(&dir.path().join("memory/memory.limit_in_bytes"), "9223372036854771712\n");
        assert_eq!(cgroup_memory(dir.path()), Some(1 << 20));
    }

    #[test]
    fn a_node_takes_no_more_pods_than_its_cores_may_have() {
        let pods = |config: Config| Capacity::observe(&config).pods;
        let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert_eq!(pods(Config::new("n1")), 110);
        assert_eq!(pods(Config { pods_per_core: 3, max_pods: 3 * cores + 1, ..Config::new("n1") }), 3 * cores);
        assert_eq!(pods(Config { pods_per_core: 3, max_pods: 1, ..Config::new("n1") }), 1);
    }

    fn linux_write(path: &Path, text: &str) {
        use std::io::Write as _;
        std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn what_is_reserved_is_not_handed_out() {
        let capacity =
            Capacity { cpu_milli: 2000, memory: 1 << 30, disk: 1000, pods: 110, reserved: (500, 1 << 20, 100) };
        let (whole, rest) = capacity.lists();
        assert_eq!(whole["cpu"].0, "2");
        assert_eq!(rest["cpu"].0, "1500m");
        assert_eq!(rest["memory"].0, format!("{}Mi", 1024 - 1));
        assert_eq!(rest["ephemeral-storage"].0, "900");
    }
}
