use super::*;

#[test]
fn hybrid_machines_count_as_v1() {
    let info = "\
30 29 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
31 29 0:27 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
32 29 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    let Some(Layout::V1(hierarchies)) = parse_mounts(info) else { panic!("not v1") };
    assert_eq!(hierarchies.len(), 1);
    assert_eq!(hierarchies[0].controllers, ["cpu", "cpuacct"]);
    assert!(matches!(parse_mounts(info.lines().last().unwrap()), Some(Layout::V2 { .. })));
    assert!(parse_mounts("").is_none());
    assert_eq!(unified_mount(info), Some(("/sys/fs/cgroup/unified".into(), vec![])));
    let options = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot";
    assert_eq!(unified_mount(options), Some(("/sys/fs/cgroup".into(), vec!["nsdelegate", "memory_recursiveprot"])));
}

#[test]
fn shares_become_weights_as_in_runc() {
    for (shares, expected) in [(0, 1), (2, 1), (102, 17), (1024, 100), (2048, 174), (262_144, 10_000)] {
        assert_eq!(v2::weight(shares), expected, "{shares}");
    }
}

#[test]
fn groups_cannot_climb() {
    let cgroups = Cgroups { layout: Arc::new(Layout::V2 { mount: "/c".into() }) };
    assert_eq!(cgroups.group("/a/../../b/./c/").directories(), [PathBuf::from("/c/a/b/c")]);
}

/// On a hybrid machine the v2 tree has no controllers, but devices are filtered by program, which needs none.
#[test]
fn v2_devices_are_filtered() {
    if !crate::tests::root() {
        return;
    }
    let Some(mount) = std::fs::read_to_string("/proc/self/mountinfo").unwrap().lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| PathBuf::from(left.split(' ').nth(4).unwrap()))
    }) else {
        eprintln!("skipped: no cgroup2 file system is mounted here");
        return;
    };
    let group = Cgroups { layout: Arc::new(Layout::V2 { mount }) }.group(&format!("/k3rs-test-{}", std::process::id()));
    group.create().unwrap();
    let null = DeviceRule { kind: DeviceKind::Character, major: Some(1), minor: Some(3), access: Access::ALL };
    let zero = DeviceRule { minor: Some(5), access: Access::READ, ..null };
    group.allow_devices(&[null, zero]).unwrap();
    let entrances = group.entrances().unwrap();
    // Threads move by themselves on v2 only into threaded groups, so a child looks.
    let results = crate::tests::in_child(|| {
        rustix::io::write(&entrances[0], b"0").unwrap();
        let open = |path: &str, write: bool| {
            u8::from(std::fs::OpenOptions::new().read(!write).write(write).open(path).is_ok())
        };
        vec![open("/dev/null", true), open("/dev/zero", false), open("/dev/zero", true), open("/dev/urandom", false)]
    });
    group.remove().unwrap();
    assert_eq!(results, [1, 1, 0, 0]);
}

/// Groups of groups, as a node's are: a process anywhere below would keep them all.
#[test]
fn a_tree_of_groups_is_emptied_and_removed() {
    if !crate::tests::root() {
        return;
    }
    let top = Cgroups::detect().unwrap().group(&format!("/k3rs-test-tree-{}", std::process::id()));
    let below = top.child("pods").child("one");
    below.create().unwrap();
    #[expect(clippy::disallowed_methods, reason = "somebody has to be in the group")]
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    below.add(i32::try_from(sleeper.id()).unwrap()).unwrap();
    assert_eq!(below.processes().unwrap().len(), 1);
    let emptied = top.empty_and_remove();
    let ended = sleeper.try_wait().unwrap();
    // Whatever came of it, nobody is left behind.
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    emptied.unwrap();
    assert!(ended.is_some_and(|how| !how.success()));
    assert!(top.directories().iter().all(|directory| !directory.exists()));
}
