//! Files that change all at once: upstream's `AtomicWriter`.
//!
//! ```text
//! <volume>/..2026_11_21_08_00_00.0123456789/dir/key   the files of one moment
//! <volume>/..data -> ..2026_11_21_08_00_00.0123456789  swapped by rename
//! <volume>/dir -> ..data/dir                           what the container opens
//! ```
//!
//! A reader that follows `..data` once sees one moment whole. A folder left by an interrupted write is removed by the next.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::{Payload, VolumeError};

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes the volume's content equal to `payload`; `group` may read all of it.
pub(super) fn write(volume: &Path, payload: &Payload, group: Option<u32>) -> Result<(), VolumeError> {
    for path in payload.keys() {
        check(path)?;
    }
    let old = std::fs::read_link(volume.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| same(&volume.join(old), payload, group)) {
        return links(volume, payload);
    }
    let name = moment();
    let dir = volume.join(&name);
    let made = std::fs::DirBuilder::new().mode(0o755).create(&dir);
    made.map_err(VolumeError::io("cannot make folder", &dir))?;
    set_mode(&dir, 0o755, None, group)?;
    for (path, file) in payload {
        write_file(&dir, path, file, group)?;
    }
    let next = volume.join(DATA_NEXT);
    remove_if_there(&next)?;
    std::os::unix::fs::symlink(&name, &next).map_err(VolumeError::io("cannot make link", &next))?;
    std::fs::rename(&next, volume.join(DATA)).map_err(VolumeError::io("cannot rename", &next))?;
    links(volume, payload)?;
    remove_others(volume, &name)
}

/// A path of a payload stays in its volume and out of the names used here.
fn check(path: &str) -> Result<(), VolumeError> {
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    if inside && !path.is_empty() && !path.starts_with("..") {
        return Ok(());
    }
    Err(VolumeError::Escapes(path.to_owned()))
}

/// Whether the files that are there are those of the payload.
fn same(dir: &Path, payload: &Payload, group: Option<u32>) -> bool {
    let mut there = BTreeSet::new();
    files_below(dir, Path::new(""), &mut there);
    there.len() == payload.len()
        && payload.iter().all(|(path, file)| {
            let at = dir.join(path);
            there.contains(Path::new(path))
                && std::fs::read(&at).is_ok_and(|data| data == file.data)
                && std::fs::metadata(&at)
                    .is_ok_and(|meta| meta.permissions().mode() & 0o7777 == file_mode(file.mode, group))
        })
}

fn files_below(dir: &Path, prefix: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = prefix.join(entry.file_name());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files_below(&entry.path(), &path, found);
        } else {
            found.insert(path);
        }
    }
}

fn write_file(dir: &Path, path: &str, file: &super::File, group: Option<u32>) -> Result<(), VolumeError> {
    let mut parent = dir.to_owned();
    let at = dir.join(path);
    let folders = Path::new(path).parent().into_iter().flat_map(Path::components);
    for folder in folders {
        parent.push(folder);
        if !parent.exists() {
            std::fs::create_dir(&parent).map_err(VolumeError::io("cannot make folder", &parent))?;
            set_mode(&parent, 0o755, None, group)?;
        }
    }
    let io = || VolumeError::io("cannot write", &at);
    // Nobody reads it before its mode and owner are right.
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&at).map_err(io())?;
    out.write_all(&file.data).map_err(io())?;
    set_mode(&at, file_mode(file.mode, group), file.uid, group)
}

/// With an fsGroup, the group reads what the owner may (the volume is read-only to both).
fn file_mode(mode: u32, group: Option<u32>) -> u32 {
    if group.is_some() { mode | 0o440 } else { mode }
}

fn set_mode(path: &Path, mode: u32, uid: Option<u32>, group: Option<u32>) -> Result<(), VolumeError> {
    if uid.is_some() || group.is_some() {
        std::os::unix::fs::chown(path, uid, group).map_err(VolumeError::io("cannot change the owner of", path))?;
    }
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(VolumeError::io("cannot change the mode of", path))
}

/// Links for the payload's first path parts; links to what is gone are removed.
fn links(volume: &Path, payload: &Payload) -> Result<(), VolumeError> {
    let first = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let wanted: BTreeSet<String> = payload.keys().map(|path| first(path)).collect();
    for name in &wanted {
        let link = volume.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            let target = Path::new(DATA).join(name);
            std::os::unix::fs::symlink(target, &link).map_err(VolumeError::io("cannot make link", &link))?;
        }
    }
    for entry in std::fs::read_dir(volume).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes the folders of other moments.
fn remove_others(volume: &Path, current: &str) -> Result<(), VolumeError> {
    for entry in std::fs::read_dir(volume).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("..") && name != DATA && name != current {
            let path = entry.path();
            std::fs::remove_dir_all(&path).map_err(VolumeError::io("cannot remove", &path))?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), VolumeError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(VolumeError::io("cannot remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// The name of a moment's folder: its time, and enough beyond it to be new.
fn moment() -> String {
    let now = jiff::Timestamp::now();
    format!("..{}.{}", now.strftime("%Y_%m_%d_%H_%M_%S"), uuid::Uuid::new_v4().simple())
}
