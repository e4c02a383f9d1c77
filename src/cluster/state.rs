//! What is known of each cluster, on disk: whole or absent, one file a cluster, versioned.
//!
//! ```text
//! D/clusters/NAME/state.json     the cluster; in `phase: creating` until it is whole
//! D/clusters/NAME/journal.json   the steps begun since, while something is under way
//! D/clusters/NAME/tls/           its authorities, made before its first node
//! D/clusters/NAME/kubeconfig     the administrator's way in, for scripts that leave the user's file alone
//! D/clusters/NAME/nodes/         what the native runtime keeps
//! D/clusters/                    locked by whoever looks for a free network and free ports
//! D/locks/NAME                   held by whoever changes the cluster
//! D/images/                      node images (crate::node_image)
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use linux::files::{self, Lock};
use serde::{Deserialize, Serialize};

use super::plan::Step;
use crate::failure::{Code, Failure};
use crate::runtime::{NodeSpec, RuntimeKind};

/// Of `state.json` and `journal.json`. A newer one is refused.
const VERSION: u32 = 1;

/// How far a cluster has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    Creating,
    Whole,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterState {
    pub(crate) name: String,
    pub(crate) runtime: RuntimeKind,
    pub(crate) phase: Phase,
    /// RFC 3339.
    pub(crate) created: String,
    pub(crate) image: String,
    /// Which of the pool's networks it has.
    pub(crate) network: u8,
    /// Where the host offers its API.
    pub(crate) api: SocketAddr,
    pub(crate) token: String,
    pub(crate) nodes: Vec<NodeSpec>,
    /// The user's current context before this cluster's became it.
    pub(crate) previous_context: Option<String>,
    /// The user's kubeconfig that has the cluster's entries.
    pub(crate) kubeconfig: Option<PathBuf>,
}

impl ClusterState {
    /// When it was made, to the second.
    pub(crate) fn made(&self) -> String {
        self.created.split_once('.').map_or_else(|| self.created.clone(), |(seconds, _)| format!("{seconds}Z"))
    }

    pub(crate) fn node(&self, name: &str) -> Option<&NodeSpec> {
        self.nodes.iter().find(|it| it.name == name)
    }
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Begun {
    begun: Vec<Step>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is not what k3rs-dev wrote: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("{path} was written by a newer k3rs-dev (version {found}, this one knows {VERSION})")]
    Newer { path: PathBuf, found: u32 },
    #[error("cluster {name} is being changed by {holder}")]
    Locked { name: String, holder: String },
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let message = error.to_string();
        match error {
            StateError::Io { path, source } => Failure::io(path.display(), &source),
            StateError::Unreadable { path, .. } => Failure::new(Code::Failure, message)
                .remedy(format!("put the file back from a copy, or remove the folder of {}", path.display())),
            StateError::Newer { .. } => Failure::new(Code::Failure, message).remedy("use the newer k3rs-dev"),
            StateError::Locked { .. } => {
                Failure::new(Code::Exists, message).remedy("wait until it has ended, or stop it, then try again")
            }
        }
    }
}

type Result<T> = std::result::Result<T, StateError>;

/// All that k3rs-dev keeps.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// Keeps other calls from a cluster. Of a cluster that is gone the lock's file goes, too.
#[derive(Debug)]
pub(crate) struct ClusterLock {
    path: PathBuf,
    directory: PathBuf,
    _lock: Lock,
}

impl Drop for ClusterLock {
    fn drop(&mut self) {
        if !self.directory.exists() {
            // Whoever waits for the old file looks whether it is still there.
            _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Store {
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a cluster.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        self.root.join("clusters").join(name)
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Takes a cluster for oneself, or says who has it.
    pub(crate) fn lock(&self, name: &str) -> Result<ClusterLock> {
        let path = self.root.join("locks").join(name);
        make_private(&self.root.join("locks"))?;
        let failed = |source| StateError::Io { path: path.clone(), source };
        loop {
            let Some(lock) = Lock::try_exclusive(&path).map_err(failed)? else {
                return Err(StateError::Locked { name: name.to_owned(), holder: holder(&path) });
            };
            if lock.is_at(&path).map_err(failed)? {
                return Ok(ClusterLock { path, directory: self.directory(name), _lock: lock });
            }
        }
    }

    /// Waits for the right to choose networks and ports: until it is let go, no other call chooses any.
    pub(crate) fn choosing(&self) -> Result<Lock> {
        let path = self.root.join("clusters");
        make_private(&path)?;
        Lock::of_directory(&path).map_err(|source| StateError::Io { path, source })
    }

    /// The cluster of this name, whole or not.
    pub(crate) fn load(&self, name: &str) -> Result<Option<ClusterState>> {
        read(&self.directory(name).join("state.json"))
    }

    pub(crate) fn save(&self, state: &ClusterState) -> Result<()> {
        make_private(&self.directory(&state.name))?;
        write(&self.directory(&state.name).join("state.json"), state)
    }

    /// Forgets a cluster, with all that is in its folder.
    pub(crate) fn forget(&self, name: &str) -> Result<()> {
        let path = self.directory(name);
        linux::paths::remove_tree(&path).map_err(|source| StateError::Io { path, source })
    }

    /// All clusters, by name.
    pub(crate) fn list(&self) -> Result<Vec<ClusterState>> {
        let path = self.root.join("clusters");
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let mut names: Vec<String> =
            entries.filter_map(|it| it.ok().and_then(|it| it.file_name().into_string().ok())).collect();
        names.sort();
        names.iter().filter_map(|name| self.load(name).transpose()).collect()
    }

    /// The steps that were begun when a call died, or is at work.
    pub(crate) fn journal(&self, name: &str) -> Result<Vec<Step>> {
        let begun: Option<Begun> = read(&self.directory(name).join("journal.json"))?;
        Ok(begun.map(|it| it.begun).unwrap_or_default())
    }

    /// Notes the steps that have begun, before they do anything.
    pub(crate) fn note(&self, name: &str, begun: &[Step]) -> Result<()> {
        write(&self.directory(name).join("journal.json"), &Begun { begun: begun.to_vec() })
    }

    /// Nothing is under way any more.
    pub(crate) fn close_journal(&self, name: &str) -> Result<()> {
        let path = self.directory(name).join("journal.json");
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StateError::Io { path, source }),
            _ => Ok(()),
        }
    }
}

pub(crate) fn make_private(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| StateError::Io { path: path.to_owned(), source })
}

fn write<T: Serialize>(path: &Path, content: &T) -> Result<()> {
    let failed = |source| StateError::Io { path: path.to_owned(), source };
    let mut text = serde_json::to_vec_pretty(&Versioned { version: VERSION, content })
        .map_err(|error| failed(io::Error::other(error)))?;
    text.push(b'\n');
    files::write_atomic(path, &text, 0o600).map_err(failed)
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    #[derive(Deserialize)]
    struct Only {
        version: u32,
    }
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Io { path: path.to_owned(), source }),
    };
    let unreadable =
        |error: serde_json::Error| StateError::Unreadable { path: path.to_owned(), why: error.to_string() };
    // The version before anything else: what a newer one wrote need not be readable.
    let Only { version } = serde_json::from_slice(&text).map_err(unreadable)?;
    if version > VERSION {
        return Err(StateError::Newer { path: path.to_owned(), found: version });
    }
    let document: Versioned<T> = serde_json::from_slice(&text).map_err(unreadable)?;
    Ok(Some(document.content))
}

/// Who holds a lock, as /proc/locks tells it.
fn holder(path: &Path) -> String {
    let found = (|| {
        let inode = std::fs::metadata(path).ok()?.ino().to_string();
        let locks = std::fs::read_to_string("/proc/locks").ok()?;
        let line = locks.lines().find(|line| line.split([' ', ':']).any(|word| word == inode))?;
        let pid = line.split_whitespace().nth(4)?;
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("process {pid} ({})", name.trim()))
    })();
    found.unwrap_or_else(|| "another process".to_owned())
}
