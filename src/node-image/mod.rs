//! The node image: this very binary and the little around it that makes a root file system, from nothing.
//!
//! ```text
//! rootfs   what is in it: a pure listing
//! strip    the binary without what only debuggers read
//! oci      the listing as an OCI image in a tar
//! cache    one image a binary, kept by its hash
//! archive  what an image archive of others has in it, for `image import`
//! ```

pub(crate) mod archive;
pub(crate) mod cache;
pub(crate) mod oci;
pub(crate) mod rootfs;
pub(crate) mod strip;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

/// A node image on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeImage {
    /// `k3rs.local/node:HASH`
    pub(crate) name: String,
    /// An OCI layout in a tar, which engines also take as their own format.
    pub(crate) archive: PathBuf,
    /// The same as a tree.
    pub(crate) rootfs: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("image archive {path}: {why}")]
    Archive { path: PathBuf, why: String },
}

impl From<ImageError> for crate::failure::Failure {
    fn from(error: ImageError) -> Self {
        use crate::failure::{Code, Failure};
        let message = error.to_string();
        match error {
            ImageError::Io { what, source } => Failure::io(what, &source),
            ImageError::Archive { .. } => Failure::new(Code::Failure, message)
                .remedy("make it again with `docker save` or an OCI image builder, for this machine's architecture"),
        }
    }
}

/// Says what an operation of the system was for.
pub(crate) trait While<T> {
    fn whilst(self, what: impl FnOnce() -> String) -> Result<T, ImageError>;
}

impl<T> While<T> for std::io::Result<T> {
    fn whilst(self, what: impl FnOnce() -> String) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::Io { what: what(), source })
    }
}
