//! Syscalls in safe wrappers: the only crate that may say `unsafe`.
//!
//! Thin where the kernel's call is already the right shape (an fd in, an fd out), thicker where a sequence of
//! calls has one meaning: an atomic write, a tree removed by handle, a cgroup on either version, PID 1 of a node.
//! Paths that others control are walked by handle ([`paths`]); mounts are made detached and attached by
//! handle ([`mounts`]); every fd is close-on-exec.

pub mod capabilities;
pub mod cgroups;
pub mod files;
pub mod init;
pub mod listeners;
pub mod mounts;
pub mod namespaces;
pub mod netlink;
pub mod netns;
pub mod network;
pub mod paths;
pub mod processes;
pub mod pty;
pub mod seccomp;
pub mod signals;
pub mod sockets;
pub mod spawn;
#[cfg(test)]
mod tests;
