//! One node image a binary, made at its first use and kept by its hash.
//!
//! ```text
//! D/images/HASH/image.tar   the archive, for engines
//! D/images/HASH/rootfs/     the tree, for native nodes: their overlays' lower layer, never written
//! D/images/.lock            held while one is made
//! ```
//!
//! An image is made beside its place and renamed: it is whole or absent.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use linux::files::Lock;
use linux::paths::remove_tree;

use super::rootfs::{Entry, FromHost, Kind};
use super::{ImageError, NodeImage, While as _, oci, rootfs, strip};

/// The host's bundles of authorities, the first that exists.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const BUSYBOXES: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];
/// Enough to tell images apart, short enough to read.
const HASH: usize = 16;

/// The node images in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(crate) fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The image of the running binary, made if it is missing.
    pub(crate) fn ensure(&self) -> Result<NodeImage, ImageError> {
        let binary = strip::strip(fs::read("/proc/self/exe").whilst(|| "reading this program".to_owned())?);
        let entries = rootfs::listing(&from_host());
        // What the host contributes is part of the hash: a new bundle makes a new image.
        let layer = oci::layer(&entries, &binary).whilst(|| "making the node image".to_owned())?;
        let hash = &oci::digest(&layer)[..HASH];
        let image = self.image(hash);
        if !image.archive.exists() {
            self.make(hash, &entries, &binary, &layer)?;
        }
        Ok(image)
    }

    /// The images made so far.
    pub(crate) fn list(&self) -> Result<Vec<NodeImage>, ImageError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(ImageError::Io { what: self.directory.display().to_string(), source }),
        };
        let names = entries.filter_map(|it| it.ok()?.file_name().into_string().ok());
        let mut hashes: Vec<String> = names.filter(|it| !it.starts_with('.')).collect();
        hashes.sort();
        Ok(hashes.iter().map(|it| self.image(it)).collect())
    }

    /// The image of this name, if it was made here.
    pub(crate) fn find(&self, name: &str) -> Result<Option<NodeImage>, ImageError> {
        Ok(self.list()?.into_iter().find(|it| it.name == name))
    }

    fn image(&self, hash: &str) -> NodeImage {
        let directory = self.directory.join(hash);
        NodeImage {
            name: format!("k3rs.local/node:{hash}"),
            archive: directory.join("image.tar"),
            rootfs: directory.join("rootfs"),
        }
    }

    fn make(&self, hash: &str, entries: &[Entry], binary: &[u8], layer: &[u8]) -> Result<(), ImageError> {
        let what = || format!("making node image {hash} in {}", self.directory.display());
        fs::create_dir_all(&self.directory).whilst(what)?;
        let _lock = Lock::exclusive(&self.directory.join(".lock")).whilst(what)?;
        let (place, beside) = (self.directory.join(hash), self.directory.join(format!(".{hash}.new")));
        if place.exists() {
            return Ok(());
        }
        let made = (|| {
            remove_tree(&beside)?;
            fs::create_dir_all(beside.join("rootfs"))?;
            write_tree(&beside.join("rootfs"), entries, binary)?;
            let mut out = BufWriter::new(fs::File::create_new(beside.join("image.tar"))?);
            oci::write(&mut out, &self.image(hash).name, architecture(), layer)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            linux::files::sync_filesystem(&beside)?;
            fs::rename(&beside, &place)?;
            linux::files::sync_directory(&self.directory)
        })();
        if made.is_err() {
            // The error that matters is the first; what stays is removed by the next call.
            _ = remove_tree(&beside);
        }
        made.whilst(what)
    }
}

fn write_tree(root: &Path, entries: &[Entry], binary: &[u8]) -> io::Result<()> {
    for entry in entries {
        let path = root.join(&entry.path);
        match &entry.kind {
            Kind::Directory => fs::create_dir_all(&path)?,
            Kind::File(contents) => write_file(&path, contents, entry.mode)?,
            Kind::Binary => write_file(&path, binary, entry.mode)?,
            Kind::Link(to) => symlink(to, &path)?,
        }
    }
    // Modes last: a directory may forbid writing.
    for entry in entries.iter().filter(|it| it.kind == Kind::Directory) {
        fs::set_permissions(root.join(&entry.path), fs::Permissions::from_mode(entry.mode))?;
    }
    Ok(())
}

fn write_file(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(contents)?;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

fn from_host() -> FromHost {
    let first = |paths: &[&str]| paths.iter().find_map(|it| fs::read(it).ok());
    FromHost { authorities: first(&BUNDLES), busybox: first(&BUSYBOXES).filter(|it| is_static(it)) }
}

/// Whether a program needs no loader: the image has none.
fn is_static(program: &[u8]) -> bool {
    let header = &program[..program.len().min(4096)];
    program.starts_with(b"\x7fELF") && !header.windows(7).any(|it| it == b"ld-linu" || it == b"ld-musl")
}

/// As OCI names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
