//! One node image a binary, made at its first use and kept by its hash.
//!
//! ```text
//! D/images/HASH/image.tar   the archive, for engines
//! D/images/HASH/rootfs/     the tree, for native nodes: their overlays' lower layer, never written
//! D/images/.lock            held while one is made
//! D/images/.known           `SOURCES HASH`, a line for each state of the files that images were made of lately
//! ```
//!
//! An image is made beside its place and renamed: it is whole or absent. To find the image of files that have not changed
//! since, nothing is read but their times.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
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
const KNOWN: &str = ".known";
/// Lines of `.known`: older ones are made again when they are wanted.
const MOST_KNOWN: usize = 16;

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
        let sources = sources();
        let known = sources.as_ref().and_then(|sources| self.known().into_iter().find(|(it, _)| it == sources));
        if let Some(image) = known.map(|(_, hash)| self.image(&hash)).filter(|image| image.archive.exists()) {
            return Ok(image);
        }
        let binary = strip::strip(fs::read("/proc/self/exe").whilst(|| "reading this program".to_owned())?);
        let entries = rootfs::listing(&from_host());
        // What the host contributes is part of the hash: a new bundle makes a new image.
        let layer = oci::layer(&entries, &binary).whilst(|| "making the node image".to_owned())?;
        let hash = &oci::digest(&layer)[..HASH];
        let image = self.image(hash);
        if !image.archive.exists() {
            self.make(hash, &entries, &binary, &layer)?;
        }
        // Files that changed while they were read are known by neither state.
        if let Some(sources) = sources.filter(|before| self::sources().as_ref() == Some(before)) {
            self.remember(sources, hash);
        }
        Ok(image)
    }

    /// The lines of `.known`, the latest first.
    fn known(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.directory.join(KNOWN)).unwrap_or_default();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(sources, hash)| (sources.to_owned(), hash.to_owned())).collect()
    }

    fn remember(&self, sources: String, hash: &str) {
        let others = self.known().into_iter().filter(|(known, _)| *known != sources);
        let lines = std::iter::once((sources.clone(), hash.to_owned())).chain(others).take(MOST_KNOWN);
        let text: String = lines.map(|(sources, hash)| format!("{sources} {hash}\n")).collect();
        // What is not remembered is read again.
        _ = linux::files::replace(&self.directory.join(KNOWN), text.as_bytes(), 0o644);
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

/// What tells whether the files that an image is made of are those that they were; `None` if that cannot be told.
fn sources() -> Option<String> {
    let state = |path: &str| {
        let it = fs::metadata(path).ok()?;
        Some(format!("{path} {} {} {} {} {}\n", it.dev(), it.ino(), it.size(), it.ctime(), it.ctime_nsec()))
    };
    let program = state("/proc/self/exe")?;
    let others = BUNDLES.iter().chain(&BUSYBOXES).filter_map(|path| state(path));
    Some(oci::digest(others.fold(program, |all, one| all + &one).as_bytes()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_again_by_the_times_of_what_it_was_made_of() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(directory.path());
        fs::create_dir(directory.path().join("feed")).unwrap();
        fs::File::create(directory.path().join("feed/image.tar")).unwrap();
        for number in 0..2 * MOST_KNOWN {
            cache.remember(format!("other-{number}"), "beef");
        }
        cache.remember(sources().unwrap(), "feed");
        assert_eq!(cache.known().len(), MOST_KNOWN);
        assert_eq!(cache.ensure().unwrap().name, "k3rs.local/node:feed");
    }
}
