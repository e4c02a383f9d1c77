//! A kernel that cannot run a node: what it lacks is named, and nothing is made.

use std::path::Path;

use linux::mounts::{self, Propagation};
use linux::namespaces::{self, Namespaces};
use rustix::mount::{UnmountFlags, unmount};

use crate::root;
use crate::server::refused_with_node;

#[test]
fn what_a_node_lacks_is_said_by_name() {
    if !root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    // As far as this thread and its children see, the kernel has no cgroups.
    namespaces::unshare(Namespaces::NEWNS).unwrap();
    mounts::set_propagation(Path::new("/"), true, Propagation::Private).unwrap();
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for line in mounted.lines().rev().filter(|it| it.contains(" - cgroup")) {
        let place = line.split(' ').nth(4).unwrap();
        unmount(place, UnmountFlags::DETACH).unwrap();
    }
    let data = home.path().join("data");
    let told = refused_with_node(&data, &[]);
    expect_test::expect![[r#"
        k3rs: this kernel cannot run a node: no cgroups with cpu, memory and pids (CONFIG_CGROUPS): no cgroup file system is mounted: mount one at /sys/fs/cgroup"#]]
    .assert_eq(&told);
    assert!(!data.exists(), "something was made");
}
