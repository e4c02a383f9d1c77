//! A folder that lives as long as its pod, on disk or in memory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::VolumeError;
use super::mounts::Mounts;
use crate::quantity;

/// Everybody in the pod may write.
const MODE: u32 = 0o777;

pub(super) fn prepare(
    at: &Path,
    source: &EmptyDirVolumeSource,
    group: Option<u32>,
    mounts: &dyn Mounts,
) -> Result<(), VolumeError> {
    let fresh = !at.exists();
    std::fs::create_dir_all(at).map_err(VolumeError::io("cannot make folder", at))?;
    if source.medium.as_deref() == Some("Memory") {
        let size = source.size_limit.as_ref().and_then(|it| quantity::parse(&it.0)).filter(|size| *size > 0.0);
        mounts.tmpfs(at, size.map(|size| size as u64)).map_err(VolumeError::io("cannot mount memory at", at))?;
    }
    // One that is in use belongs to its users.
    if !fresh {
        return Ok(());
    }
    let mut mode = MODE;
    if group.is_some() {
        std::os::unix::fs::chown(at, None, group).map_err(VolumeError::io("cannot change the group of", at))?;
        // New files get the group, too.
        mode |= 0o2000;
    }
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(at, permissions).map_err(VolumeError::io("cannot change the mode of", at))
}
