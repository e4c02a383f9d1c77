//! Where everything lies below the data directory. Names are k3s's, so that habits and scripts hold.
//!
//! ```text
//! D/server/token              the secret with which nodes join
//! D/server/tls/               authorities, certificates, keys
//! D/server/cred/              encryption key, kubeconfigs of components
//! D/server/db/state.db        the datastore
//! D/agent/                    what a node keeps
//! ```

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What k3s has in a data directory and k3rs has not.
const THEIRS: [(&str, &str); 2] = [("server/db/etcd", "etcd"), ("agent/containerd", "containerd")];

/// The data directory of one server or agent.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `D/server/tls/NAME`
    pub fn tls(&self, name: &str) -> PathBuf {
        self.root.join("server/tls").join(name)
    }

    /// `D/server/cred/NAME`
    pub fn cred(&self, name: &str) -> PathBuf {
        self.root.join("server/cred").join(name)
    }

    pub fn database(&self) -> PathBuf {
        self.root.join("server/db/state.db")
    }

    /// `D/agent/NAME`
    pub fn agent(&self, name: &str) -> PathBuf {
        self.root.join("agent").join(name)
    }

    /// Makes the directories of a server, which nobody else may enter.
    pub fn create_server(&self) -> io::Result<()> {
        self.refuse_foreign()?;
        for name in ["server/tls", "server/cred", "server/db", "server/manifests"] {
            create_private(&self.root.join(name))?;
        }
        Ok(())
    }

    /// k3s keeps other things under the same names. (Its SQLite database the datastore knows by its table.)
    fn refuse_foreign(&self) -> io::Result<()> {
        match THEIRS.iter().find(|(name, _)| self.root.join(name).exists()) {
            None => Ok(()),
            Some((name, what)) => Err(io::Error::other(format!(
                "it belongs to k3s, whose {what} is in {name}: k3rs cannot take it over; name another with --data-dir, or \
                 move it away"
            ))),
        }
    }

    /// Makes the directories of an agent.
    pub fn create_agent(&self) -> io::Result<()> {
        self.refuse_foreign()?;
        for name in ["agent/images", "agent/etc"] {
            create_private(&self.root.join(name))?;
        }
        // Whoever is in its group may look at what the node runs by itself.
        std::fs::DirBuilder::new().recursive(true).mode(0o750).create(self.root.join("agent/pod-manifests"))
    }
}

fn create_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}
