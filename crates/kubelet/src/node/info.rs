//! What machine this is, and whether anything runs short on it.

use k8s_openapi::api::core::v1::NodeSystemInfo;

use crate::config::Config;
use crate::runtime::Runtime;

/// The signals that mean a disk, of which a node here has one.
pub(super) const DISK: [&str; 3] = ["nodefs.available", "imagefs.available", "containerfs.available"];
const INODES: [&str; 3] = ["nodefs.inodesFree", "imagefs.inodesFree", "containerfs.inodesFree"];
pub(super) const MEMORY: [&str; 1] = ["memory.available"];
const PIDS: [&str; 1] = ["pid.available"];

/// Of what the node has too little left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

pub(crate) fn observe(runtime: &Runtime) -> NodeSystemInfo {
    let uname = rustix::system::uname();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let machine_id = read("/etc/machine-id");
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        // The service proxy is part of the agent; upstream leaves this empty since 1.33.
        kube_proxy_version: String::new(),
        kubelet_version: String::new(),
        system_uuid: Some(read("/sys/class/dmi/id/product_uuid"))
            .filter(|uuid| !uuid.is_empty())
            .unwrap_or_else(|| machine_id.clone()),
        machine_id,
        operating_system: "linux".to_owned(),
        os_image: os_image(&read("/etc/os-release")),
        swap: None,
    }
}

/// The architecture by Go's names, as images and labels have it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_image(release: &str) -> String {
    let value = |line: &str| Some(line.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned());
    release.lines().find_map(value).unwrap_or_else(|| "Linux".to_owned())
}

pub(crate) fn pressure(config: &Config) -> Pressure {
    let least = &config.eviction_hard;
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = field(&meminfo, "MemAvailable:").zip(field(&meminfo, "MemTotal:"));
    let disk = rustix::fs::statvfs(&config.root_dir).or_else(|_| rustix::fs::statvfs("/"));
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/kernel/pid_max").unwrap_or(0);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Pressure {
        memory: memory.is_some_and(|(free, all)| least.are_met(&MEMORY, free, all)),
        disk: disk.is_ok_and(|it| {
            least.are_met(&DISK, it.f_bavail * it.f_frsize, it.f_blocks * it.f_frsize)
                || least.are_met(&INODES, it.f_favail, it.f_files)
        }),
        pids: least.are_met(&PIDS, most.saturating_sub(tasks(&load)), most),
    }
}

/// Bytes, from a line of `/proc/meminfo`.
fn field(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// How many tasks there are: the number behind the slash of `/proc/loadavg`.
fn tasks(loadavg: &str) -> u64 {
    let field = loadavg.split_whitespace().nth(3).and_then(|it| it.split_once('/'));
    field.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(field("MemTotal: 10 kB\nMemAvailable:    2048 kB\n", "MemAvailable:"), Some(2 << 20));
        assert_eq!(tasks("0.10 0.20 0.30 2/734 12345\n"), 734);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"), "Debian GNU/Linux 13");
        assert_eq!(os_image(""), "Linux");
    }
}
