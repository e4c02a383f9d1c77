//! fsGroup: what is in a volume belongs to a group, whose members may read and write it.
//!
//! The walk goes by handles: a container that shares the volume and swaps a file for a link meanwhile leads it nowhere. The
//! volume's own folder comes last, so that a walk that was cut short is begun again.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::VolumeError;

/// What the group may do to files, and to folders besides.
const OF_FILES: u32 = 0o660;
const OF_FOLDERS: u32 = 0o110;
/// New files get the group of their folder.
const INHERIT: u32 = 0o2000;

/// What a pod asks of the volumes that it writes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ownership {
    pub(super) group: u32,
    /// Nothing is changed where the volume's own folder is as wanted.
    only_on_mismatch: bool,
}

impl Ownership {
    pub(super) fn of(spec: &PodSpec) -> Option<Self> {
        let context = spec.security_context.as_ref()?;
        let group = u32::try_from(context.fs_group?).ok()?;
        Some(Self { group, only_on_mismatch: context.fs_group_change_policy.as_deref() == Some("OnRootMismatch") })
    }
}

/// Gives everything in a volume to the group. A file that cannot be given is logged and left, as upstream does: read-only
/// and foreign file systems would keep the pod from starting for ever.
pub(super) fn change(root: &Path, wanted: Ownership) -> Result<(), VolumeError> {
    let failed = |error: Errno| VolumeError::io("cannot change the group of", root)(error.into());
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
    let stat = rustix::fs::fstat(&handle).map_err(failed)?;
    if wanted.only_on_mismatch && is_as_wanted(&stat, wanted.group) {
        return Ok(());
    }
    let mut refused = None;
    walk(handle, &stat, wanted.group, &mut refused).map_err(failed)?;
    if let Some(error) = refused {
        tracing::warn!(path = %root.display(), %error, "files of a volume keep their group or mode");
    }
    Ok(())
}

fn is_as_wanted(stat: &Stat, group: u32) -> bool {
    let wanted = OF_FILES | OF_FOLDERS | INHERIT;
    FileType::from_raw_mode(stat.st_mode).is_dir() && stat.st_gid == group && stat.st_mode & wanted == wanted
}

fn walk(handle: OwnedFd, stat: &Stat, group: u32, refused: &mut Option<Errno>) -> Result<(), Errno> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_dir() {
        let folder =
            rustix::fs::openat(&handle, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                step(folder.as_fd(), entry.file_name(), group, refused)?;
            }
        }
    }
    let given = rustix::fs::chownat(&handle, c"", None, Some(Gid::from_raw(group)), AtFlags::EMPTY_PATH);
    let mut outcome = given;
    if !kind.is_symlink() {
        let more = if kind.is_dir() { OF_FILES | OF_FOLDERS | INHERIT } else { OF_FILES };
        // A handle that only names a file cannot be given a mode but by this link of the kernel's.
        let named = format!("/proc/self/fd/{}", handle.as_raw_fd());
        outcome = outcome.and(rustix::fs::chmod(named, Mode::from_raw_mode(stat.st_mode & 0o7777 | more)));
    }
    if let Err(error) = outcome {
        refused.get_or_insert(error);
    }
    Ok(())
}

fn step(folder: BorrowedFd<'_>, name: &CStr, group: u32, refused: &mut Option<Errno>) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(handle) => {
            let stat = rustix::fs::fstat(&handle)?;
            walk(handle, &stat, group, refused)
        }
        // Somebody who shares the volume was faster.
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// Whose the tests' files are: a group that any user may give its files to.
    fn own_group() -> u32 {
        rustix::process::getegid().as_raw()
    }

    #[test]
    fn everything_in_the_volume_is_opened_to_the_group_and_nothing_outside() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, outside) = (dir.path().join("volume"), dir.path().join("outside"));
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        for path in [&volume.join("sub/file"), &outside] {
            linux::files::write_atomic(path, b"", 0o600).unwrap();
        }
        std::fs::set_permissions(volume.join("sub"), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink(&outside, volume.join("link")).unwrap();
        let wanted = Ownership { group: own_group(), only_on_mismatch: true };
        change(&volume, wanted).unwrap();
        assert_eq!(mode(&volume.join("sub/file")), 0o660);
        assert_eq!(mode(&volume.join("sub")), 0o2770);
        assert_eq!(mode(&outside), 0o600, "behind a link");
        assert_eq!(mode(&volume) & 0o2770, 0o2770);

        std::fs::set_permissions(volume.join("sub/file"), std::fs::Permissions::from_mode(0o600)).unwrap();
        change(&volume, wanted).unwrap();
        assert_eq!(mode(&volume.join("sub/file")), 0o600, "the folder is as wanted");
        change(&volume, Ownership { only_on_mismatch: false, ..wanted }).unwrap();
        assert_eq!(mode(&volume.join("sub/file")), 0o660);
        assert_eq!(std::fs::metadata(&volume).unwrap().gid(), own_group());
    }

    #[test]
    fn the_group_of_a_volume_is_changed_to_the_one_asked_for() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: giving files to another group needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        linux::files::write_atomic(&dir.path().join("file"), b"", 0o644).unwrap();
        change(dir.path(), Ownership { group: 2000, only_on_mismatch: true }).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("file")).unwrap().gid(), 2000);
        std::fs::set_permissions(dir.path().join("file"), std::fs::Permissions::from_mode(0o600)).unwrap();
        change(dir.path(), Ownership { group: 3000, only_on_mismatch: true }).unwrap();
        assert_eq!(std::fs::metadata(dir.path().join("file")).unwrap().gid(), 3000);
        assert_eq!(mode(&dir.path().join("file")), 0o660);
    }
}
