//! What an image archive has in it: read and judged before it is sent anywhere.
//!
//! Nothing is unpacked. Both forms are known, plain and compressed by gzip: an OCI layout (`index.json`) and what `docker save` writes
//! (`manifest.json`); a member whose path leads out of the archive refuses the whole of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};

use containers::Filled;
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::{ImageError, cache};

/// Manifests and configs are small; a larger member is a layer.
const LARGEST_DOCUMENT: u64 = 4 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The names of the images in the archive `file`, which came from `path`.
pub(crate) fn names(file: File, path: &Path) -> Result<Vec<String>, ImageError> {
    let refuse = |why: String| ImageError::Archive { path: path.to_owned(), why };
    let members = read(file).map_err(refuse)?;
    let names = match (members.document("manifest.json"), members.document("index.json")) {
        (Some(manifest), _) => docker(&members, &manifest),
        (None, Some(index)) => oci(&members, &index),
        (None, None) => Err("it has neither index.json nor manifest.json".to_owned()),
    }
    .map_err(refuse)?;
    if names.is_empty() { Err(refuse("it names no image".to_owned())) } else { Ok(names.into_iter().collect()) }
}

/// The archive's members: what is small with its contents.
struct Members {
    documents: BTreeMap<String, Vec<u8>>,
    all: BTreeSet<String>,
}

impl Members {
    fn document(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(self.documents.get(name)?).ok()
    }

    fn add(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), String> {
        let path = entry.path().map_err(broken)?.into_owned();
        if path.components().any(|it| matches!(it, Component::ParentDir | Component::RootDir)) {
            return Err(format!("its member {} leads out of it", path.display()));
        }
        let name = path.components().filter(|it| *it != Component::CurDir).collect::<PathBuf>();
        let name = name.to_string_lossy().into_owned();
        if entry.header().entry_type().is_file() && entry.size() <= LARGEST_DOCUMENT {
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).map_err(broken)?;
            self.documents.insert(name.clone(), contents);
        }
        self.all.insert(name);
        Ok(())
    }

    fn require(&self, name: &str) -> Result<(), String> {
        if self.all.contains(name) { Ok(()) } else { Err(format!("it is incomplete: {name} is missing")) }
    }
}

fn broken(error: std::io::Error) -> String {
    format!("it is truncated, or no tar: {error}")
}

/// A tar, or a tar that gzip has compressed.
fn read(mut file: File) -> Result<Members, String> {
    let mut magic = [0; 2];
    // Whoever wrote it may have left it at its end.
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let short = file.read(&mut magic).map_err(broken)? < magic.len();
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let mut members = Members { documents: BTreeMap::new(), all: BTreeSet::new() };
    if short {
        return Err("it is empty".to_owned());
    }
    if magic == GZIP {
        // What is passed over is read, so that its end is known to be there.
        let mut archive = tar::Archive::new(Filled::new(MultiGzDecoder::new(BufReader::new(file))));
        for entry in archive.entries().map_err(broken)? {
            members.add(entry.map_err(broken)?)?;
        }
        return Ok(members);
    }
    let size = file.metadata().map_err(broken)?.len();
    let mut archive = tar::Archive::new(Filled::new(file));
    for entry in archive.entries_with_seek().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        if entry.raw_file_position().saturating_add(entry.size()) > size {
            return Err(format!("it is truncated: {} is not whole", String::from_utf8_lossy(&entry.path_bytes())));
        }
        members.add(entry)?;
    }
    Ok(members)
}

fn docker(members: &Members, manifest: &Value) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    for image in manifest.as_array().ok_or("manifest.json is not a list")? {
        for layer in image["Layers"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            members.require(layer)?;
        }
        let config = image["Config"].as_str().ok_or("manifest.json names no config")?;
        members.require(config)?;
        check_architecture(members.document(config).as_ref())?;
        names.extend(image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    }
    Ok(names)
}

fn oci(members: &Members, index: &Value) -> Result<BTreeSet<String>, String> {
    let mut names = BTreeSet::new();
    let listed = index["manifests"].as_array().ok_or("index.json lists no manifests")?;
    // Of an image for several platforms a node takes its own; what attests to others is passed over, too.
    let fitting: Vec<&Value> = listed.iter().filter(|it| fits(&it["platform"])).collect();
    if let (Some(other), true) = (listed.first(), fitting.is_empty()) {
        check_architecture(Some(&other["platform"]))?;
    }
    for entry in fitting {
        let manifest = blob(entry)?;
        members.require(&manifest)?;
        if let Some(manifest) = members.document(&manifest).filter(|it| it["layers"].is_array()) {
            for part in manifest["layers"].as_array().into_iter().flatten().chain([&manifest["config"]]) {
                members.require(&blob(part)?)?;
            }
            check_architecture(members.document(&blob(&manifest["config"])?).as_ref())?;
        }
        let annotation = |name: &str| entry["annotations"][name].as_str().map(str::to_owned);
        names
            .extend(annotation("io.containerd.image.name").or_else(|| annotation("org.opencontainers.image.ref.name")));
    }
    Ok(names)
}

fn fits(platform: &Value) -> bool {
    platform.is_null() || (platform["os"] == "linux" && platform["architecture"] == cache::architecture())
}

fn blob(descriptor: &Value) -> Result<String, String> {
    let digest = descriptor["digest"].as_str().and_then(|it| it.strip_prefix("sha256:"));
    digest.map(|it| format!("blobs/sha256/{it}")).ok_or_else(|| "it has a digest that is not SHA-256".to_owned())
}

fn check_architecture(config: Option<&Value>) -> Result<(), String> {
    let found = config.and_then(|it| it["architecture"].as_str()).unwrap_or(cache::architecture());
    if found == cache::architecture() {
        return Ok(());
    }
    Err(format!("its image is for {found}, this machine is {}", cache::architecture()))
}
