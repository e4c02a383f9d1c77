//! Syscalls in safe wrappers: the only unsafe code.
