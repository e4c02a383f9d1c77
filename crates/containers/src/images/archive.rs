//! Reading image archives: what `docker save` writes and OCI layouts in a tar, compressed or not.
//!
//! The archive is a file, because its table of contents may come last; it is read where it lies.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::blanks::Filled;
use super::formats::{Descriptor, DockerManifest, Index, Manifest};
use super::{Error, digests, names};

/// Documents larger than this are none.
const LARGEST_DOCUMENT: u64 = 8 << 20;

pub(super) struct Archive {
    file: File,
    entries: HashMap<String, Entry>,
}

enum Entry {
    File {
        offset: u64,
        size: u64,
    },
    /// Old `docker save` links equal layers.
    Link(String),
}

/// An image that the archive has.
#[derive(Debug)]
pub(super) struct Found {
    /// As the archive gives them; may be short or none.
    pub names: Vec<String>,
    pub configuration: Vec<u8>,
    /// The manifest and its digest, where there is one.
    pub manifest: Option<(String, Vec<u8>)>,
    /// Names in the archive, lowest first, with the digest of the bytes there if it is known.
    pub layers: Vec<(String, Option<String>)>,
}

impl Archive {
    pub(super) fn open(mut file: File) -> Result<Self, Error> {
        let mut entries = HashMap::new();
        file.seek(SeekFrom::Start(0)).map_err(Error::Archive)?;
        let mut archive = tar::Archive::new(Filled::new(&mut file));
        for entry in archive.entries_with_seek().map_err(Error::Archive)? {
            let entry = entry.map_err(Error::Archive)?;
            let path = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            let kind = entry.header().entry_type();
            if kind.is_file() {
                entries.insert(path, Entry::File { offset: entry.raw_file_position(), size: entry.size() });
            } else if kind.is_symlink() || kind.is_hard_link() {
                let target = String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
                let base = path.rsplit_once('/').map_or("", |it| it.0).to_owned();
                let target = if kind.is_symlink() { join(&base, &target) } else { clean(&target) };
                entries.insert(path, Entry::Link(target));
            }
        }
        Ok(Self { file, entries })
    }

    /// The images for this machine. An archive without any is an error.
    pub(super) fn images(&self) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        if self.entries.contains_key("manifest.json") {
            for it in self.document::<Vec<DockerManifest>>("manifest.json")? {
                found.push(Found {
                    names: it.repo_tags.unwrap_or_default(),
                    configuration: self.read(&it.config)?,
                    manifest: None,
                    layers: it.layers.into_iter().map(|it| (it, None)).collect(),
                });
            }
        } else if self.entries.contains_key("index.json") {
            self.read_index(&self.document("index.json")?, &mut found, &[], 0)?;
        } else {
            return Err(Error::NoImage);
        }
        if found.is_empty() { Err(Error::OtherPlatform) } else { Ok(found) }
    }

    /// The bytes of a layer.
    pub(super) fn layer(&self, name: &str) -> Result<impl Read + use<>, Error> {
        let (offset, size) = self.locate(name)?;
        let file = self.file.try_clone().map_err(Error::Archive)?;
        Ok(Section { file, offset, left: size })
    }

    fn read_index(&self, index: &Index, found: &mut Vec<Found>, inherited: &[String], depth: u32) -> Result<(), Error> {
        for descriptor in index.manifests.iter().filter(|it| it.fits()) {
            let mut names: Vec<String> = image_names(descriptor);
            if names.is_empty() {
                names = inherited.to_vec();
            }
            let bytes = self.blob(&descriptor.digest)?;
            if descriptor.is_index() && depth < 4 {
                self.read_index(&parse(&descriptor.digest, &bytes)?, found, &names, depth + 1)?;
                continue;
            }
            let manifest: Manifest = parse(&descriptor.digest, &bytes)?;
            let mut layers = Vec::new();
            for layer in manifest.layers {
                layers.push((blob_path(&layer.digest)?, Some(layer.digest)));
            }
            found.push(Found {
                names,
                configuration: self.blob(&manifest.config.digest)?,
                manifest: Some((descriptor.digest.clone(), bytes)),
                layers,
            });
        }
        Ok(())
    }

    /// A document by digest, which is checked.
    fn blob(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let bytes = self.read(&blob_path(digest)?)?;
        if digests::of(&bytes) != digest {
            return Err(Error::Digest { expected: digest.to_owned() });
        }
        Ok(bytes)
    }

    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        parse(name, &self.read(name)?)
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let (_, size) = self.locate(name)?;
        if size > LARGEST_DOCUMENT {
            return Err(Error::Document { name: name.to_owned(), reason: format!("it has {size} bytes") });
        }
        let mut bytes = Vec::new();
        self.layer(name)?.read_to_end(&mut bytes).map_err(Error::Archive)?;
        Ok(bytes)
    }

    fn locate(&self, name: &str) -> Result<(u64, u64), Error> {
        let mut name = clean(name);
        for _ in 0..8 {
            match self.entries.get(&name) {
                Some(Entry::File { offset, size }) => return Ok((*offset, *size)),
                Some(Entry::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(Error::Missing { name })
    }
}

fn image_names(descriptor: &Descriptor) -> Vec<String> {
    let annotation = |name: &str| descriptor.annotations.get(name).cloned();
    let name = annotation("io.containerd.image.name").or_else(|| annotation("org.opencontainers.image.ref.name"));
    name.into_iter().collect()
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::Document { name: name.to_owned(), reason: error.to_string() })
}

fn blob_path(digest: &str) -> Result<String, Error> {
    if !names::is_digest(digest) {
        return Err(Error::Document { name: digest.to_owned(), reason: "only sha256 digests are read".to_owned() });
    }
    Ok(format!("blobs/{}", digest.replacen(':', "/", 1)))
}

fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|it| !matches!(*it, "" | ".")).collect();
    parts.join("/")
}

fn join(base: &str, target: &str) -> String {
    let mut parts: Vec<&str> = base.split('/').filter(|it| !it.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A part of a file.
struct Section {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let length = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}
