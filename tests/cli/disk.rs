//! A disk that is full: it is said, nothing half-made stays, and with space it works.

use std::os::fd::AsFd as _;
use std::path::Path;

use linux::mounts::{self, Attributes, Propagation};
use linux::namespaces::{self, Namespaces};

use crate::{Home, root};

#[test]
fn a_full_disk_is_said_and_forgotten_when_there_is_space() {
    if !root() {
        return;
    }
    let home = Home::new();
    // As far as this thread and its children see.
    namespaces::unshare(Namespaces::NEWNS).unwrap();
    mounts::set_propagation(Path::new("/"), true, Propagation::Private).unwrap();
    let mount = |size| {
        let disk = mounts::new_filesystem("tmpfs", &[("size", Some(size))], Attributes::empty()).unwrap();
        mounts::attach_at(disk.as_fd(), home.path()).unwrap();
    };
    mount("1m");
    let data = home.path().join("data").display().to_string();
    let (code, out, err) = home.run(&["--data", &data, "cluster", "create", "--runtime", "native"]);
    assert_eq!((code, out.as_str()), (6, ""), "{err}");
    assert!(err.contains("No space left on device"), "{err}");
    assert!(err.ends_with("  try: free some space on that disk and try again\n"), "{err}");
    for list in [["image", "list"], ["cluster", "list"]] {
        assert_eq!(home.run(&["--data", &data, list[0], list[1], "-o", "name"]), (0, String::new(), String::new()));
    }
    rustix::mount::mount_remount(home.path(), rustix::mount::MountFlags::empty(), "size=1g").unwrap();
    let (code, built, err) = home.run(&["--data", &data, "image", "build"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(home.run(&["--data", &data, "image", "list", "-o", "name"]).1, built);
}
