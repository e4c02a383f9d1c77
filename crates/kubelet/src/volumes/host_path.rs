//! A file or folder of the node, checked or made as its type says.

use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::VolumeError;

pub(super) fn prepare(source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = Path::new(&source.path);
    let refuse = |what| VolumeError::HostPath { path: source.path.clone(), what };
    let kind = || std::fs::metadata(path).map(|meta| meta.file_type());
    let is = |what, test: fn(&std::fs::FileType) -> bool| match kind() {
        Ok(kind) if test(&kind) => Ok(()),
        _ => Err(refuse(what)),
    };
    match source.type_.as_deref().unwrap_or_default() {
        "" => {}
        "DirectoryOrCreate" => {
            if kind().is_err() {
                std::fs::create_dir_all(path).map_err(VolumeError::io("cannot make folder", path))?;
                set_mode(path, 0o755)?;
            }
            is("a directory", std::fs::FileType::is_dir)?;
        }
        "Directory" => is("a directory", std::fs::FileType::is_dir)?,
        "FileOrCreate" => {
            if kind().is_err() {
                let made = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o644).open(path);
                made.map_err(VolumeError::io("cannot make file", path))?;
            }
            is("a file", std::fs::FileType::is_file)?;
        }
        "File" => is("a file", std::fs::FileType::is_file)?,
        "Socket" => is("a socket file", |kind| kind.is_socket())?,
        "CharDevice" => is("a character device", |kind| kind.is_char_device())?,
        "BlockDevice" => is("a block device", |kind| kind.is_block_device())?,
        _ => return Err(refuse("of a known type")),
    }
    Ok(path.to_owned())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), VolumeError> {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(VolumeError::io("cannot change the mode of", path))
}
