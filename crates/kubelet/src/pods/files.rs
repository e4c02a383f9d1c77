//! What a container finds mounted besides its volumes' folders: its hosts file and the file of its last words; and
//! which path of the node each mount comes from.

use std::path::{Path, PathBuf};

use api::cri::{ImageSpec, Mount, MountPropagation};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::container::message_path;
use crate::context::Context;
use crate::dns;
use crate::env::expand::expand_strict;
use crate::volumes::{self, Mounted, Source};

/// Why a container's mounts cannot be made: `CreateContainerConfigError` with this message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("cannot find volume \"{volume}\" to mount into container \"{container}\"")]
    NoVolume { volume: String, container: String },
    #[error("missing value for {name:?} in subPathExpr {expression:?}")]
    Expression { name: String, expression: String },
    #[error("subPath {0:?} must be a relative path without '..'")]
    SubPath(String),
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}: {source}")]
    Bind { volume: String, container: String, source: Box<volumes::VolumeError> },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// All mounts of a container.
pub(crate) async fn mounts(
    context: &Context,
    pod: &Pod,
    container: &Container,
    attempt: u32,
    mounted: &Mounted,
    environment: &[(String, String)],
    ips: &[String],
) -> Result<Vec<Mount>, MountError> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let mut mounts = Vec::new();
    for (index, mount) in volumes::mounts_of(container).enumerate() {
        let source = mounted
            .sources
            .get(&mount.name)
            .ok_or_else(|| MountError::NoVolume { volume: mount.name.clone(), container: container.name.clone() })?;
        let sub_path = sub_path(mount, environment)?;
        mounts.push(match source {
            Source::Image { reference, .. } => Mount {
                image: Some(ImageSpec { image: reference.clone(), ..ImageSpec::default() }),
                image_sub_path: sub_path,
                readonly: true,
                ..base(mount)
            },
            Source::Path { path, read_only } => {
                let path = match sub_path.is_empty() {
                    true => path.clone(),
                    false => {
                        let volumes = &context.volumes;
                        let bound = volumes.sub_path(&uid, &container.name, index, &mount.name, path, &sub_path).await;
                        bound.map_err(|source| MountError::Bind {
                            volume: mount.name.clone(),
                            container: container.name.clone(),
                            source: Box::new(source),
                        })?
                    }
                };
                let base = base(mount);
                let readonly = base.readonly || *read_only;
                Mount { host_path: path.to_string_lossy().into_owned(), readonly, ..base }
            }
        });
    }
    let dir = context.config.pod_dir(&uid);
    let own = |path: &str| container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == path);
    if !own("/etc/hosts") && (host_network(pod) || !ips.is_empty()) {
        let path = dir.join("etc-hosts");
        let node = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        write(&path, &dns::hosts_file(pod, ips, &context.config.cluster_domain, &node))?;
        mounts.push(file_mount(&path, "/etc/hosts"));
    }
    if !own(message_path(container)) {
        let path = dir.join("containers").join(&container.name).join(attempt.to_string());
        write(&path, "")?;
        open_to_all(&path)?;
        mounts.push(file_mount(&path, message_path(container)));
    }
    Ok(mounts)
}

fn host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

fn base(mount: &VolumeMount) -> Mount {
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::HostToContainer,
        Some("Bidirectional") => MountPropagation::Bidirectional,
        _ => MountPropagation::Private,
    };
    let readonly = mount.read_only == Some(true);
    Mount {
        container_path: mount.mount_path.clone(),
        readonly,
        propagation: propagation.into(),
        recursive_read_only: readonly && matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        ..Mount::default()
    }
}

fn file_mount(path: &Path, at: &str) -> Mount {
    Mount { container_path: at.to_owned(), host_path: path.to_string_lossy().into_owned(), ..Mount::default() }
}

/// The part of the volume that is mounted; empty for all of it.
fn sub_path(mount: &VolumeMount, environment: &[(String, String)]) -> Result<String, MountError> {
    let path = match mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty()) {
        None => mount.sub_path.clone().unwrap_or_default(),
        Some(expression) => {
            let lookup =
                |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            expand_strict(expression, lookup)
                .map_err(|name| MountError::Expression { name, expression: expression.to_owned() })?
        }
    };
    if path.starts_with('/') || Path::new(&path).components().any(|part| part == std::path::Component::ParentDir) {
        return Err(MountError::SubPath(path));
    }
    Ok(path)
}

/// Written in place: a file that is mounted into running containers must stay the same file.
fn write(path: &Path, text: &str) -> Result<(), MountError> {
    use std::io::Write as _;
    let failed = |source| MountError::Write { path: path.to_owned(), source };
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = std::fs::File::create(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// Whoever the container runs as leaves its last words here.
fn open_to_all(path: &Path) -> Result<(), MountError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .map_err(|source| MountError::Write { path: path.to_owned(), source })
}
