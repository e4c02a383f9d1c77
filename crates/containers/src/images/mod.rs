//! Images: imported from archives or pulled from registries, kept by digest, shared by the nodes of a host, named per node.
//!
//! ```text
//! <root>/                           may be shared: what is there never changes, only comes and goes
//!   lock                            flock: shared to add, exclusive to remove
//!   blobs/sha256/<hex>              configurations and manifests
//!   layers/<hex of chain id>/fs     an unpacked layer; complete once it has its name
//!   layers/<hex of chain id>/size   bytes of its files
//!   references/<owner>/<hex>        what keeps an image: one file for each node that has it
//! <state>/images.json               this node's names
//! ```

mod archive;
pub(crate) mod blanks;
mod digests;
pub(crate) mod formats;
mod layers;
pub(crate) mod names;
pub(crate) mod registry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use linux::files::{self, Lock};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use self::formats::Configuration;
use self::names::Reference;

/// Why an image could not be imported or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read the archive: {0}")]
    Archive(#[source] io::Error),
    #[error(
        "the archive has neither a manifest.json nor an index.json: save it with `docker save` or as an OCI archive"
    )]
    NoImage,
    #[error("the archive has no image for linux/{}", formats::ARCHITECTURE)]
    OtherPlatform,
    #[error("the archive lacks {name}")]
    Missing { name: String },
    #[error("{name} in the archive cannot be used: {reason}")]
    Document { name: String, reason: String },
    #[error("the archive is damaged: {expected} has another content")]
    Digest { expected: String },
    #[error("the image is for {found}, this node is linux/{}", formats::ARCHITECTURE)]
    Platform { found: String },
    #[error("{0}")]
    Layer(String),
    #[error("image store: {what}: {source}")]
    Store { what: String, source: io::Error },
}

/// An image of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration.
    pub id: String,
    /// Complete names by tag.
    pub tags: BTreeSet<String>,
    /// Complete names by digest.
    pub digests: BTreeSet<String>,
    /// Bytes of its layers' files.
    pub size: u64,
    /// Chain ids, lowest first.
    layers: Vec<String>,
    /// It came from registries alone: who asks for it again must be allowed to by them.
    #[serde(default)]
    pub(crate) pulled: bool,
}

/// An image whose layers are all there.
struct Given {
    /// The digest of its configuration.
    id: String,
    configuration: Vec<u8>,
    /// The digest and bytes of what its names by digest mean.
    manifest: Option<(String, Vec<u8>)>,
    names: Vec<Reference>,
    /// Chain ids, lowest first.
    chains: Vec<String>,
    pulled: bool,
}

/// The images of a node.
#[derive(Debug)]
pub struct Images {
    root: PathBuf,
    names: PathBuf,
    owner: String,
    /// By id.
    images: RwLock<BTreeMap<String, Image>>,
}

/// The file `images.json`.
#[derive(Serialize, Deserialize)]
struct Names {
    version: u32,
    images: Vec<Image>,
}

const VERSION: u32 = 1;

impl Images {
    /// Opens the store at `root` for the node that `owner` names, whose own state is in `state`.
    pub fn open(root: &Path, state: &Path, owner: &str) -> Result<Self, Error> {
        let images = Self {
            root: root.to_path_buf(),
            names: state.join("images.json"),
            owner: owner.to_owned(),
            images: RwLock::default(),
        };
        for directory in ["blobs/sha256", "layers", &format!("references/{owner}")] {
            fs::create_dir_all(root.join(directory)).map_err(store("cannot be made"))?;
        }
        fs::create_dir_all(state).map_err(store("cannot be made"))?;
        images.load()?;
        Ok(images)
    }

    /// Imports all images of an archive, compressed or not; returns them. Names that other images had move to these.
    ///
    /// Takes as long as unpacking does: not for an async task.
    pub fn import(&self, archive: File) -> Result<Vec<Image>, Error> {
        let archive = archive::Archive::open(self.plain(archive)?)?;
        let _lock = self.lock_shared()?;
        let mut imported = Vec::new();
        for found in archive.images()? {
            imported.push(self.import_one(&archive, found)?);
        }
        Ok(imported)
    }

    /// The image that a name, digest or (shortened) id means.
    pub fn find(&self, reference: &str) -> Option<Image> {
        let images = self.images.read();
        if let Some(image) = images.get(reference).or_else(|| images.get(&format!("sha256:{reference}"))) {
            return Some(image.clone());
        }
        if let Some(name) = Reference::parse(reference) {
            let (tag, digest) = (name.by_tag(), name.by_digest());
            let named = images.values().find(|it| {
                tag.as_ref().is_some_and(|tag| it.tags.contains(tag))
                    || digest.as_ref().is_some_and(|digest| it.digests.contains(digest))
                    || name.digest.as_ref() == Some(&it.id)
            });
            if let Some(image) = named {
                return Some(image.clone());
            }
        }
        let short = reference.strip_prefix("sha256:").unwrap_or(reference);
        let mut matching = images.values().filter(|it| short.len() >= 6 && it.id["sha256:".len()..].starts_with(short));
        matching.next().filter(|_| matching.next().is_none()).cloned()
    }

    pub fn list(&self) -> Vec<Image> {
        self.images.read().values().cloned().collect()
    }

    /// Removes an image from this node, and from the store what no node needs any more. Missing is success.
    pub fn remove(&self, reference: &str) -> Result<(), Error> {
        let Some(image) = self.find(reference) else { return Ok(()) };
        let _lock = Lock::exclusive(&self.root.join("lock")).map_err(store("cannot be locked"))?;
        self.images.write().remove(&image.id);
        self.save()?;
        remove(&self.reference(&image.id))?;
        self.collect()
    }

    /// What its configuration says.
    pub(crate) fn configuration(&self, image: &Image) -> Result<Configuration, Error> {
        let bytes = fs::read(self.blob(&image.id)).map_err(store("a configuration cannot be read"))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Document { name: image.id.clone(), reason: error.to_string() })
    }

    /// Its layers' directories, uppermost first.
    pub(crate) fn layers(&self, image: &Image) -> Vec<PathBuf> {
        image.layers.iter().rev().map(|it| self.layer(it).join("fs")).collect()
    }

    /// Where everything is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The archive itself, or where it is compressed its contents in a file without a name.
    fn plain(&self, file: File) -> Result<File, Error> {
        let decoder = decompress(file.try_clone().map_err(Error::Archive)?).map_err(Error::Archive)?;
        if matches!(decoder, Decoder::Plain(_)) {
            return Ok(file);
        }
        let mut plain = files::unnamed(&self.root).map_err(store("cannot be made"))?;
        let (mut decoder, mut block) = (decoder, vec![0; 1 << 20]);
        // What cannot be read and what cannot be written are different errors.
        loop {
            match decoder.read(&mut block).map_err(Error::Archive)? {
                0 => return Ok(plain),
                length => plain.write_all(&block[..length]).map_err(store("cannot be written"))?,
            }
        }
    }

    fn import_one(&self, archive: &archive::Archive, found: archive::Found) -> Result<Image, Error> {
        let id = digests::of(&found.configuration);
        let document = |reason: String| Error::Document { name: id.clone(), reason };
        let configuration: Configuration =
            serde_json::from_slice(&found.configuration).map_err(|error| document(error.to_string()))?;
        let chains = chains(&id, &configuration, found.layers.len())?;
        for (at, (diff_id, (name, digest))) in configuration.rootfs.diff_ids.iter().zip(&found.layers).enumerate() {
            if !self.layer(&chains[at]).exists() {
                let lower: Vec<PathBuf> = chains[..at].iter().rev().map(|it| self.layer(it).join("fs")).collect();
                self.unpack(archive.layer(name)?, &chains[at], diff_id, digest.as_deref(), &lower)?;
            }
        }
        self.admit(Given {
            id,
            configuration: found.configuration,
            manifest: found.manifest,
            names: found.names.iter().filter_map(|it| Reference::parse(it)).collect(),
            chains,
            pulled: false,
        })
    }

    /// Takes an image in. The caller has had the lock since before its layers were looked for.
    fn admit(&self, given: Given) -> Result<Image, Error> {
        let Given { id, configuration, manifest, names, chains, pulled } = given;
        let size = chains.iter().map(|it| self.layer_size(it)).sum();
        let (tags, digests) = (BTreeSet::new(), BTreeSet::new());
        let mut image = Image { id: id.clone(), tags, digests, size, layers: chains, pulled };
        for reference in names {
            image.tags.extend(reference.by_tag());
            if let Some((digest, _)) = &manifest {
                image.digests.insert(format!("{}@{digest}", reference.repository));
            }
        }
        files::write_atomic(&self.blob(&id), &configuration, 0o644).map_err(store("cannot be written"))?;
        if let Some((digest, bytes)) = &manifest {
            files::write_atomic(&self.blob(digest), bytes, 0o644).map_err(store("cannot be written"))?;
        }
        files::write_atomic(&self.reference(&id), b"", 0o644).map_err(store("cannot be written"))?;
        self.publish(image)
    }

    /// Gives the image its names, which it takes from others.
    fn publish(&self, mut image: Image) -> Result<Image, Error> {
        {
            let mut images = self.images.write();
            if let Some(old) = images.remove(&image.id) {
                image.tags.extend(old.tags);
                image.digests.extend(old.digests);
                image.pulled &= old.pulled;
            }
            for other in images.values_mut() {
                other.tags.retain(|it| !image.tags.contains(it));
            }
            images.insert(image.id.clone(), image.clone());
        }
        self.save()?;
        Ok(image)
    }

    /// Unpacks into a directory of its own, which gets its name when all is checked and on the disk.
    fn unpack(
        &self,
        compressed: impl Read + 'static,
        chain: &str,
        diff_id: &str,
        digest: Option<&str>,
        lower: &[PathBuf],
    ) -> Result<(), Error> {
        let temporary = self.root.join("layers").join(format!(".{}", crate::records::new_id()));
        let unpack = || {
            let target = temporary.join("fs");
            fs::create_dir_all(&target).map_err(store("cannot be made"))?;
            let outer = digests::Digesting::new(compressed);
            let mut inner = digests::Digesting::new(decompress(outer).map_err(Error::Archive)?);
            let size = layers::unpack(&mut inner, &target, lower).map_err(|error| Error::Layer(error.to_string()))?;
            let (found, outer) = inner.finish().map_err(Error::Archive)?;
            if found != diff_id {
                return Err(Error::Digest { expected: diff_id.to_owned() });
            }
            let (found, _) = outer.into_inner().finish().map_err(Error::Archive)?;
            if let Some(expected) = digest.filter(|it| **it != found) {
                return Err(Error::Digest { expected: expected.to_owned() });
            }
            files::replace(&temporary.join("size"), size.to_string().as_bytes(), 0o644)
                .map_err(store("cannot be written"))?;
            files::sync_filesystem(&temporary).map_err(store("cannot be synced"))?;
            match fs::rename(&temporary, self.layer(chain)) {
                // Another node of this host was faster: the layers are the same.
                Err(_) if self.layer(chain).exists() => Ok(()),
                done => done.map_err(store("a layer cannot be published")),
            }
        };
        let unpacked = unpack();
        linux::paths::remove_tree(&temporary).map_err(store("cannot be cleaned"))?;
        unpacked
    }

    /// Removes layers and documents that no reference of any node leads to. The caller has the exclusive lock.
    fn collect(&self) -> Result<(), Error> {
        let (mut kept_blobs, mut kept_layers) = (BTreeSet::new(), BTreeSet::new());
        for owner in entries(&self.root.join("references"))? {
            for id in entries(&self.root.join("references").join(owner))? {
                let path = self.root.join("blobs/sha256").join(&id);
                let configuration =
                    fs::read(path).ok().and_then(|it| serde_json::from_slice::<Configuration>(&it).ok());
                let mut below: Option<String> = None;
                for diff_id in configuration.map(|it| it.rootfs.diff_ids).unwrap_or_default() {
                    let chain = digests::chain(below.as_deref(), &diff_id);
                    kept_layers.insert(hex(&chain).to_owned());
                    below = Some(chain);
                }
                kept_blobs.insert(id);
            }
        }
        for image in self.images.read().values() {
            kept_blobs
                .extend(image.digests.iter().filter_map(|it| it.rsplit_once("@sha256:")).map(|it| it.1.to_owned()));
        }
        for (directory, kept) in [("blobs/sha256", kept_blobs), ("layers", kept_layers)] {
            let directory = self.root.join(directory);
            for name in entries(&directory)?.into_iter().filter(|it| !kept.contains(it)) {
                linux::paths::remove_tree(&directory.join(name)).map_err(store("cannot be cleaned"))?;
            }
        }
        Ok(())
    }

    fn load(&self) -> Result<(), Error> {
        let text = match fs::read(&self.names) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(store("images.json cannot be read")(error)),
        };
        let document = |reason: String| Error::Document { name: self.names.display().to_string(), reason };
        let names: Names = serde_json::from_slice(&text).map_err(|error| document(error.to_string()))?;
        if names.version > VERSION {
            return Err(document(format!("it is of version {}, this program knows {VERSION}", names.version)));
        }
        let usable = names.images.into_iter().filter(|it| {
            let complete = self.blob(&it.id).exists() && it.layers.iter().all(|it| self.layer(it).exists());
            if !complete {
                tracing::warn!(image = it.id, "an image has lost its layers: import it again");
            }
            complete
        });
        *self.images.write() = usable.map(|it| (it.id.clone(), it)).collect();
        Ok(())
    }

    fn save(&self) -> Result<(), Error> {
        let names = Names { version: VERSION, images: self.list() };
        let text = serde_json::to_vec_pretty(&names).expect("names are JSON");
        files::write_atomic(&self.names, &text, 0o600).map_err(store("images.json cannot be written"))
    }

    fn lock_shared(&self) -> Result<Lock, Error> {
        Lock::shared(&self.root.join("lock")).map_err(store("cannot be locked"))
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.root.join("blobs/sha256").join(hex(digest))
    }

    fn layer(&self, chain: &str) -> PathBuf {
        self.root.join("layers").join(hex(chain))
    }

    fn layer_size(&self, chain: &str) -> u64 {
        let text = fs::read_to_string(self.layer(chain).join("size")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    fn reference(&self, id: &str) -> PathBuf {
        self.root.join("references").join(&self.owner).join(hex(id))
    }
}

/// The chain ids of a configuration's layers, lowest first, where it can be used here with so many layers.
fn chains(id: &str, configuration: &Configuration, layers: usize) -> Result<Vec<String>, Error> {
    if configuration.os != "linux" || configuration.architecture != formats::ARCHITECTURE {
        let found = format!("{}/{}", configuration.os, configuration.architecture);
        return Err(Error::Platform { found });
    }
    let expected = &configuration.rootfs.diff_ids;
    if expected.len() != layers || expected.is_empty() || !expected.iter().all(|it| names::is_digest(it)) {
        let reason = format!("{} layers are named, {layers} are there", expected.len());
        return Err(Error::Document { name: id.to_owned(), reason });
    }
    let mut chains: Vec<String> = Vec::new();
    for diff_id in expected {
        chains.push(digests::chain(chains.last().map(String::as_str), diff_id));
    }
    Ok(chains)
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}

fn store(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Store { what: what.to_owned(), source }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(store("cannot be cleaned")(error)),
        _ => Ok(()),
    }
}

fn entries(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(directory).map_err(store("cannot be listed"))?;
    Ok(entries.flatten().filter_map(|it| it.file_name().into_string().ok()).collect())
}

/// Tells by the first bytes, for media types lie.
fn decompress<R: Read + 'static>(mut reader: R) -> io::Result<Decoder<R>> {
    let mut magic = [0; 4];
    let mut length = 0;
    while length < magic.len() {
        match reader.read(&mut magic[length..])? {
            0 => break,
            more => length += more,
        }
    }
    let whole = io::Cursor::new(magic[..length].to_vec()).chain(reader);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Decoder::Gzip(Box::new(flate2::read::MultiGzDecoder::new(whole))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Decoder::Zstandard(Box::new(ruzstd::decoding::StreamingDecoder::new(whole).map_err(io::Error::other)?))
        }
        _ => Decoder::Plain(whole),
    })
}

type Whole<R> = io::Chain<io::Cursor<Vec<u8>>, R>;

enum Decoder<R: Read> {
    Plain(Whole<R>),
    Gzip(Box<flate2::read::MultiGzDecoder<Whole<R>>>),
    Zstandard(Box<ruzstd::decoding::StreamingDecoder<Whole<R>, ruzstd::decoding::FrameDecoder>>),
}

impl<R: Read> Decoder<R> {
    fn into_inner(self) -> R {
        let whole = match self {
            Self::Plain(whole) => whole,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstandard(decoder) => decoder.into_inner(),
        };
        whole.into_inner().1
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstandard(reader) => reader.read(buffer),
        }
    }
}
