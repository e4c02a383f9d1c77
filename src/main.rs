//! `k3rs-dev`: clusters of k3rs nodes on one machine.

fn main() {}
