//! What the wrappers do to a real kernel. Tests that need root say so when they cannot run.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::files::{Lock, write_atomic};
use crate::mounts::{self, Attributes};
use crate::namespaces::{self, Namespaces};
use crate::paths::{Root, remove_tree};

/// True as root. Otherwise says that the test is skipped, or fails where CI requires root.
pub(crate) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
    let required = std::env::var("K3RS_TEST_REQUIRE").is_ok_and(|it| it.contains("root"));
    assert!(root || !required, "this test needs root, and K3RS_TEST_REQUIRE says it must run");
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Runs `work` in a forked child and returns the bytes that it made.
///
/// The test binary has threads, which [`crate::processes::fork`] refuses; the C library's fork keeps its own
/// allocator usable in the child.
pub(crate) fn in_child(work: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let (reader, writer) = crate::sockets::pipe().unwrap();
    // SAFETY: the child only runs `work`, which uses nothing that another thread could hold locked.
    match unsafe { libc::fork() } {
        0 => {
            let bytes = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_default();
            rustix::io::write(&writer, &bytes).unwrap();
            crate::processes::exit_now(0)
        }
        pid => {
            drop(writer);
            let mut bytes = Vec::new();
            fs::File::from(reader).read_to_end(&mut bytes).unwrap();
            // SAFETY: waits for the child just made; its status is not looked at.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            bytes
        }
    }
}

#[test]
fn atomic_writes_replace_and_set_the_mode() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    write_atomic(&path, b"one", 0o644).unwrap();
    write_atomic(&path, b"two", 0o600).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file was left");
    assert!(write_atomic(&directory.path().join("none/f"), b"", 0o600).is_err());
}

#[test]
fn locks_exclude() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    let shared = Lock::shared(&path).unwrap();
    assert!(Lock::try_exclusive(&path).unwrap().is_none());
    drop(shared);
    assert!(Lock::try_exclusive(&path).unwrap().is_some());
}

#[test]
fn walks_stay_inside_their_root() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("root");
    fs::create_dir(&inside).unwrap();
    fs::create_dir(directory.path().join("outside")).unwrap();
    std::os::unix::fs::symlink("/../outside", inside.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../outside", inside.join("relative")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root", inside.join("magic")).unwrap();
    let root = Root::open(&inside).unwrap();
    root.make_directories(Path::new("/../../a/b"), 0o755).unwrap();
    assert!(inside.join("a/b").is_dir());
    for link in ["absolute", "relative"] {
        assert!(root.make_file(&Path::new(link).join("f"), 0o644).is_err(), "{link}");
    }
    assert!(root.handle(Path::new("magic/etc")).is_err());
    assert_eq!(fs::read_dir(directory.path().join("outside")).unwrap().count(), 0);
    root.make_file(Path::new("c/d/f"), 0o644).unwrap();
    assert_eq!(root.read(Path::new("c/d/f"), 10).unwrap(), b"");
}

#[test]
fn trees_are_removed_without_following_links() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::create_dir(directory.path().join("keep")).unwrap();
    std::os::unix::fs::symlink(directory.path().join("keep"), tree.join("a/link")).unwrap();
    remove_tree(&tree).unwrap();
    remove_tree(&tree).unwrap();
    assert!(!tree.exists() && directory.path().join("keep").exists());
}

/// Bad input 39: a pod may make what no stack and no table of descriptors has room for.
#[test]
fn trees_of_any_depth_are_removed() {
    // In memory: thousands of directories on a disk take as long as the disk likes.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let mut level = rustix::fs::open(&tree, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..3_000 {
        rustix::fs::mkdirat(&level, "a", Mode::from_raw_mode(0o755)).unwrap();
        // A name that taking up could want.
        rustix::fs::mkdirat(&level, ".removed-1", Mode::from_raw_mode(0o755)).unwrap();
        level = rustix::fs::openat(&level, "a", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(level);
    let small = std::thread::Builder::new().stack_size(256 << 10);
    small.spawn(move || remove_tree(&tree)).unwrap().join().unwrap().unwrap();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn trees_with_mounts_are_not_removed() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("volume")).unwrap();
    let volume = mounts::new_filesystem("tmpfs", &[], Attributes::empty()).unwrap();
    mounts::attach_at(volume.as_fd(), &tree.join("volume")).unwrap();
    fs::create_dir(tree.join("volume/precious")).unwrap();
    assert!(remove_tree(&tree).is_err());
    assert!(tree.join("volume/precious").exists());
    mounts::detach(&tree.join("volume")).unwrap();
    remove_tree(&tree).unwrap();
}

#[test]
fn mounts_get_their_attributes_before_anybody_sees_them() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    let target = directory.path().join("target");
    fs::create_dir_all(source.join("d")).unwrap();
    fs::create_dir_all(&target).unwrap();
    let copy = mounts::clone_path(&source, true).unwrap();
    mounts::set_attributes(copy.as_fd(), true, Attributes::MOUNT_ATTR_RDONLY, None).unwrap();
    mounts::attach_at(copy.as_fd(), &target).unwrap();
    let error = fs::create_dir(target.join("no")).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    mounts::detach(&target).unwrap();
    let error = mounts::new_filesystem("tmpfs", &[("nonsense", None)], Attributes::empty()).unwrap_err();
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[test]
fn overlays_take_many_long_paths() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let layers: Vec<_> = (0..80).map(|it| directory.path().join(format!("{}{it}", "x".repeat(120)))).collect();
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir(layer).unwrap();
        fs::create_dir(layer.join(number.to_string())).unwrap();
    }
    let lower: Vec<&Path> = layers.iter().map(|it| it.as_path()).collect();
    let mount = mounts::overlay(&lower, None, Attributes::empty()).unwrap();
    let seen = Root::from_fd(mount);
    assert!(seen.handle(Path::new("0")).is_ok() && seen.handle(Path::new("79")).is_ok());
}

#[test]
fn namespaces_are_made_joined_and_named() {
    if !root() {
        return;
    }
    let bytes = in_child(|| {
        namespaces::unshare(Namespaces::NEWNET | Namespaces::NEWUTS).unwrap();
        crate::network::loopback_up().unwrap();
        crate::network::set_hostname("inside").unwrap();
        let flags = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        assert!(flags.is_empty() || flags.contains("lo"));
        rustix::system::uname().nodename().to_bytes().to_vec()
    });
    assert_eq!(bytes, b"inside");
}

#[test]
fn forks_are_refused_to_processes_with_threads() {
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| crate::processes::fork(Namespaces::empty(), None).is_err()).join().unwrap()
    });
    assert!(refused);
}

#[test]
fn children_are_forked_signalled_and_reaped() {
    let bytes = in_child(|| match crate::processes::fork(Namespaces::empty(), None).unwrap() {
        crate::processes::Fork::Child => loop {
            rustix::thread::sched_yield();
        },
        crate::processes::Fork::Parent(child) => {
            assert_eq!(child.try_wait().unwrap(), None);
            child.signal(libc::SIGKILL).unwrap();
            let exit = child.wait().unwrap();
            child.signal(libc::SIGKILL).unwrap();
            vec![u8::try_from(exit.code()).unwrap(), u8::from(child.ended().unwrap())]
        }
    });
    assert_eq!(bytes, [137, 1]);
}

#[test]
fn descriptors_travel_with_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&long).unwrap();
    let listener = crate::sockets::listen(&long.join("socket")).unwrap();
    let client = crate::sockets::connect(&long.join("socket")).unwrap();
    let server = crate::sockets::accept(listener.as_fd()).unwrap();
    let (reader, writer) = crate::sockets::pipe().unwrap();
    crate::sockets::send(client.as_fd(), b"hello", &[writer.as_fd()]).unwrap();
    drop(writer);
    let (mut buffer, mut fds) = ([0; 64], Vec::new());
    assert_eq!(crate::sockets::receive(server.as_fd(), &mut buffer, &mut fds).unwrap(), 5);
    rustix::io::write(fds.pop().unwrap(), b"through").unwrap();
    let mut text = String::new();
    fs::File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[test]
fn capabilities_have_their_kernel_numbers() {
    assert_eq!(crate::capabilities::parse("cap_net_admin").map(|it| it.bits()), Some(1 << libc_number::NET_ADMIN));
    assert_eq!(crate::capabilities::parse("CHECKPOINT_RESTORE").map(|it| it.bits()), Some(1 << 40));
    assert_eq!(crate::capabilities::parse("FLY"), None);
}

mod libc_number {
    /// `CAP_NET_ADMIN` in linux/capability.h.
    pub(super) const NET_ADMIN: u32 = 12;
}

#[test]
fn a_v1_or_v2_group_takes_limits_processes_and_kills() {
    if !root() {
        return;
    }
    let cgroups = crate::cgroups::Cgroups::detect().unwrap();
    let group = cgroups.group(&format!("/k3rs-linux-test-{}/inner", std::process::id()));
    group.create().unwrap();
    let limits = crate::cgroups::Limits {
        memory: Some(32 << 20),
        memory_and_swap: Some(32 << 20),
        pids: Some(10),
        cpu_shares: Some(512),
        ..Default::default()
    };
    group.limit(&limits).unwrap();
    let child =
        crate::spawn::Program { arguments: vec!["infinity".into()], ..crate::spawn::Program::new("/bin/sleep") };
    let child = child.start().unwrap();
    group.add(child.pid).unwrap();
    assert_eq!(group.processes().unwrap(), [child.pid]);
    let usage = group.usage().unwrap();
    assert_eq!((usage.memory_limit, usage.pids), (Some(32 << 20), 1));
    group.kill().unwrap();
    assert_eq!(child.wait().unwrap().code(), 137);
    let parent = cgroups.group(group.path().rsplit_once('/').unwrap().0);
    parent.remove().unwrap();
    assert!(!parent.exists());
}

#[test]
fn terminals_have_sizes() {
    let pty = crate::pty::open().unwrap();
    crate::pty::resize(pty.master.as_fd(), 80, 25).unwrap();
    let size = rustix::termios::tcgetwinsize(&pty.slave).unwrap();
    assert_eq!((size.ws_col, size.ws_row), (80, 25));
}

#[test]
fn filters_bite() {
    let bytes = in_child(|| {
        use crate::seccomp::Instruction;
        rustix::thread::set_no_new_privs(true).unwrap();
        // getppid answers 42 as its error number, all else is allowed.
        let number = u32::try_from(libc::SYS_getppid).unwrap();
        let step = |code, jump_true, jump_false, operand| Instruction { code, jump_true, jump_false, operand };
        crate::seccomp::install(&[
            step(0x20, 0, 0, 0),
            step(0x15, 0, 1, number),
            step(0x06, 0, 0, 0x0005_0000 | 42),
            step(0x06, 0, 0, 0x7fff_0000),
        ])
        .unwrap();
        // SAFETY: getppid takes nothing and touches nothing.
        let result = unsafe { libc::syscall(libc::SYS_getppid) };
        vec![u8::from(result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(42))]
    });
    assert_eq!(bytes, [1]);
}
