//! The slim `k3rs` binary for production hosts.

fn main() {}
