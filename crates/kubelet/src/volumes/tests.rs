//! Volumes on disk: what readers see of a write, what stays, and what cannot be reached.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    let file = |text: &str| File { data: text.as_bytes().to_vec(), mode: 0o640, uid: None };
    files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
}

fn read(dir: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(path)).ok()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with("..2"));
    names.sort();
    names
}

#[test]
fn a_write_replaces_everything_at_once_and_an_equal_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path();
    atomic::write(volume, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
    assert_eq!(names(volume), ["..data", "a", "sub"]);
    assert_eq!((read(volume, "a").unwrap(), read(volume, "sub/b").unwrap()), ("1".to_owned(), "2".to_owned()));
    assert_eq!(std::fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o7777, 0o640);
    let moment = std::fs::read_link(volume.join("..data")).unwrap();
    let inode = std::fs::metadata(volume.join("a")).unwrap().ino();

    atomic::write(volume, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
    assert_eq!(std::fs::metadata(volume.join("a")).unwrap().ino(), inode, "nothing was written");

    atomic::write(volume, &payload(&[("a", "new"), ("c", "3")]), None).unwrap();
    assert_eq!(names(volume), ["..data", "a", "c"]);
    assert_eq!(read(volume, "a").unwrap(), "new");
    assert!(!volume.join(&moment).exists(), "the old moment is gone");
    atomic::write(volume, &Payload::new(), None).unwrap();
    assert_eq!(names(volume), ["..data"]);
}

#[test]
fn an_interrupted_write_is_cleared_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("..2026_01_01_00_00_00.left");
    std::fs::create_dir(&left).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("..data_tmp")).unwrap();
    atomic::write(dir.path(), &payload(&[("a", "1")]), None).unwrap();
    assert!(!left.exists());
    assert_eq!(read(dir.path(), "a").unwrap(), "1");
}

#[test]
fn no_path_of_a_payload_leaves_its_volume() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["../out", "/etc/passwd", "a/../../out", "..data", "", "..2/x"] {
        let result = atomic::write(dir.path(), &payload(&[(path, "x")]), None);
        assert!(matches!(result, Err(VolumeError::Escapes(_))), "{path:?}");
    }
    assert!(names(dir.path()).is_empty());
}

/// Binds nothing, but says what it would have bound.
#[derive(Default)]
struct Seen(parking_lot::Mutex<Vec<PathBuf>>);

impl Mounts for Seen {
    fn tmpfs(&self, _: &Path, _: Option<u64>) -> std::io::Result<()> {
        Ok(())
    }

    fn bind(&self, handle: std::os::fd::BorrowedFd<'_>, _: &Path) -> std::io::Result<()> {
        use std::os::fd::AsRawFd as _;
        self.0.lock().push(std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()))?);
        Ok(())
    }

    fn unmount(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sub_path_is_made_where_missing_and_no_link_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("volume");
    let at = dir.path().join("target");
    std::fs::create_dir(&root).unwrap();
    let seen = Seen::default();
    let bind = |path: &str| subpath::bind(&root, path, &at, &seen);

    bind("new/folder").unwrap();
    assert_eq!(seen.0.lock().pop().unwrap(), root.join("new/folder"));
    std::os::unix::fs::symlink("new", root.join("inside")).unwrap();
    bind("inside/folder").unwrap();
    assert_eq!(seen.0.lock().pop().unwrap(), root.join("new/folder"), "a link that stays inside is followed");

    for (name, target) in [("abs", "/etc"), ("up", ".."), ("far", "new/../../..")] {
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        assert!(bind(name).is_err(), "{name}");
        assert!(bind(&format!("{name}/made")).is_err(), "{name}/made");
    }
    assert!(bind("../target").is_err());
    assert!(seen.0.lock().is_empty());
    assert!(!dir.path().join("made").exists());
}

#[test]
fn host_paths_are_checked_by_type() {
    let dir = tempfile::tempdir().unwrap();
    let prepare = |path: &str, kind: &str| {
        let path = dir.path().join(path).to_string_lossy().into_owned();
        host_path::prepare(&HostPathVolumeSource { path, type_: Some(kind.to_owned()) })
    };
    assert!(prepare("nothing", "").is_ok(), "unchecked");
    assert!(prepare("d", "Directory").is_err());
    assert!(prepare("d", "DirectoryOrCreate").is_ok());
    assert!(prepare("d", "Directory").is_ok());
    assert!(prepare("d", "File").is_err());
    assert!(prepare("d", "FileOrCreate").is_err());
    assert!(prepare("f", "FileOrCreate").is_ok());
    assert!(prepare("f", "File").is_ok());
    assert!(prepare("f", "Socket").is_err());
    assert!(
        host_path::prepare(&HostPathVolumeSource { path: "/dev/null".into(), type_: Some("CharDevice".into()) })
            .is_ok()
    );
}

#[test]
fn memory_is_mounted_once_and_taken_away() {
    if !rustix::process::geteuid().is_root() {
        assert!(!std::env::vars().any(|(name, value)| name == "K3RS_TEST_REQUIRE" && value.contains("root")));
        eprintln!("skipped: mounting needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let kernel = mounts::Kernel;
    if let Err(error) = kernel.tmpfs(at, Some(1 << 20)) {
        eprintln!("skipped: mounting is not allowed here: {error}");
        return;
    }
    let device = std::fs::metadata(at).unwrap().dev();
    kernel.tmpfs(at, Some(1 << 20)).unwrap();
    assert_eq!(std::fs::metadata(at).unwrap().dev(), device, "the same mount");
    kernel.unmount(at).unwrap();
    assert_ne!(std::fs::metadata(at).unwrap().dev(), device);
    kernel.unmount(at).unwrap();
    kernel.unmount(&at.join("nothing")).unwrap();
}
