//! Syscalls in safe wrappers: the only unsafe code.

pub mod netlink;
pub mod netns;
