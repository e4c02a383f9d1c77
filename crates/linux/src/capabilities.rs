//! Capabilities: their names, and the sets of the calling thread.

use std::io;

pub use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;

/// Every capability that Linux has, without `CAP_`, by number.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Reads `NET_ADMIN`, `CAP_NET_ADMIN` or `net_admin`.
pub fn parse(name: &str) -> Option<CapabilitySet> {
    let name = name.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    let number = NAMES.iter().position(|it| *it == name)?;
    Some(CapabilitySet::from_bits_retain(1 << number))
}

/// What the calling thread could still give to a program: its bounding set.
pub fn bounding() -> CapabilitySet {
    (0..NAMES.len())
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .filter(|it| rustix::thread::capability_is_in_bounding_set(*it).unwrap_or(false))
        .collect()
}

/// Removes everything that is not in `keep` from the bounding set.
pub fn limit_bounding(keep: CapabilitySet) -> io::Result<()> {
    for capability in bounding().difference(keep).iter() {
        rustix::thread::remove_capability_from_bounding_set(capability)?;
    }
    Ok(())
}

/// Sets the thread's capabilities. Nothing is inheritable but what is ambient, which must be (CVE-2022-29162).
pub fn set(permitted: CapabilitySet, ambient: CapabilitySet) -> io::Result<()> {
    rustix::thread::set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable: ambient })?;
    rustix::thread::clear_ambient_capability_set()?;
    for capability in ambient.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// What the calling thread may do now.
pub fn effective() -> io::Result<CapabilitySet> {
    Ok(rustix::thread::capabilities(None)?.effective)
}
