//! Who a node's processes are, across calls: a number may be another's by now, a number with its start time not.

use std::fs;
use std::io;
use std::path::Path;

use linux::processes::Process;
use serde::{Deserialize, Serialize};

/// A process of this machine, since its last boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Clock ticks since boot (proc_pid_stat(5)).
    started: u64,
    /// Changes with each boot.
    boot: String,
}

impl Identity {
    pub(super) fn of(pid: i32) -> io::Result<Self> {
        let started = started(pid)?.ok_or_else(|| io::Error::other(format!("process {pid} has no start time")))?;
        Ok(Self { pid, started, boot: boot()? })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.open().is_some()
    }

    /// A handle on it, if it is still the same and has not ended.
    pub(super) fn open(&self) -> Option<Process> {
        let process = Process::open(self.pid).ok()?;
        // After the handle is had, its number cannot become another's without the handle telling.
        let same = started(self.pid).ok()? == Some(self.started) && boot().ok()? == self.boot;
        (same && !process.ended().ok()?).then_some(process)
    }
}

fn started(pid: i32) -> io::Result<Option<u64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map(|it| it.1).unwrap_or_default();
    Ok(fields.split_whitespace().nth(19).and_then(|it| it.parse().ok()))
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The processes of a node that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Running {
    /// PID 1, as the host numbers it.
    pub(super) init: Identity,
    pub(super) host: Identity,
}

impl Running {
    pub(super) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        linux::files::replace(path, &serde_json::to_vec(self)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_used_again_is_another_process() {
        let me = Identity::of(std::process::id().cast_signed()).unwrap();
        assert!(me.is_alive());
        assert!(!Identity { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!Identity { boot: "another".to_owned(), ..me }.is_alive());
    }
}
