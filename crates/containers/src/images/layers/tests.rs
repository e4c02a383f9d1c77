use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use super::*;

fn tar(entries: &[(tar::EntryType, &str, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, content, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        // Raw bytes: the crate's setter refuses what a hostile archive has.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        if kind.is_symlink() || kind.is_hard_link() {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            header.set_size(0);
        } else {
            header.set_size(content.len() as u64);
        }
        header.set_cksum();
        builder.append(&header, content.as_bytes().get(..header.size().unwrap() as usize).unwrap()).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIRECTORY: tar::EntryType = tar::EntryType::Directory;
const SYMLINK: tar::EntryType = tar::EntryType::Symlink;
const LINK: tar::EntryType = tar::EntryType::Link;

pub(in crate::images) fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
    let required = std::env::var("K3RS_TEST_REQUIRE").is_ok_and(|it| it.contains("root"));
    assert!(root || !required, "this test needs root, and K3RS_TEST_REQUIRE says it must run");
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn hostile_archives_stay_inside() {
    if !root() {
        return;
    }
    let archives: &[&[(tar::EntryType, &str, &str, u32)]] = &[
        &[(FILE, "../../escape", "x", 0o644)],
        &[(FILE, "/escape", "x", 0o644)],
        &[(SYMLINK, "link", "..", 0o777), (FILE, "link/escape", "x", 0o644)],
        &[(SYMLINK, "link", "/..", 0o777), (FILE, "link/../../escape", "x", 0o644)],
        &[(SYMLINK, "a", "/proc/self/root", 0o777), (FILE, "a/escape", "x", 0o644)],
        &[(LINK, "passwd", "../../../../etc/passwd", 0o644)],
        &[(FILE, "d/.wh...", "", 0o644)],
    ];
    for archive in archives {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("layer");
        fs::create_dir(&target).unwrap();
        // Unpacked or refused, but nothing beside the layer.
        _ = unpack(&tar(archive)[..], &target, &[]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "{archive:?}");
        assert!(!target.join("passwd").exists(), "{archive:?}");
    }
}

#[test]
fn later_entries_win_and_whiteouts_hide() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (lower, upper) = (directory.path().join("lower"), directory.path().join("upper"));
    fs::create_dir(&lower).unwrap();
    fs::create_dir(&upper).unwrap();
    let below = tar(&[(DIRECTORY, "tmp", "", 0o1777), (FILE, "bin/tool", "tool", 0o4755), (FILE, "a", "1", 0o644)]);
    assert_eq!(unpack(&below[..], &lower, &[]).unwrap(), 5);
    let above = tar(&[
        (FILE, "tmp/new", "", 0o600),
        (SYMLINK, "b", "a", 0o777),
        (FILE, "b", "file now", 0o600),
        (FILE, ".wh.a", "", 0),
        (FILE, "opaque/.wh..wh..opq", "", 0),
        (LINK, "linked", "bin/tool", 0o644),
    ]);
    unpack(&above[..], &upper, std::slice::from_ref(&lower)).unwrap();
    assert_eq!(fs::metadata(upper.join("tmp")).unwrap().mode() & 0o7777, 0o1777, "looks as below");
    assert_eq!(fs::read(upper.join("b")).unwrap(), b"file now");
    let hidden = fs::symlink_metadata(upper.join("a")).unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
    assert_eq!(fs::read(upper.join("linked")).unwrap(), b"tool");
    assert_eq!(fs::metadata(upper.join("linked")).unwrap().mode() & 0o7777, 0o4755);
    let mut value = [0; 4];
    assert_eq!(rustix::fs::getxattr(upper.join("opaque"), "trusted.overlay.opaque", &mut value[..]).unwrap(), 1);
}

#[test]
fn cut_off_archives_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let whole = tar(&[(FILE, "f", &"x".repeat(4000), 0o644)]);
    assert!(unpack(&whole[..2000], directory.path(), &[]).is_err());
}
