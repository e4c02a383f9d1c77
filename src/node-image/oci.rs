//! A listing as an image archive, the same bytes for the same listing.
//!
//! One tar is both an OCI image layout (`index.json`) and what `docker save` writes (`manifest.json`), over the same
//! blobs, so that every engine takes it. The layer is not compressed: it is read on the machine that wrote it.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::rootfs::{Entry, Kind};
use crate::cluster::credentials::hex;

/// What a container made from the image runs when nothing else is said.
const ENTRYPOINT: [&str; 2] = ["/bin/k3rs", "init"];

/// The layer: the listing as a tar.
pub(crate) fn layer(entries: &[Entry], binary: &[u8]) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::with_capacity(binary.len() + (1 << 20)));
    for entry in entries {
        let mut header = header(entry.mode);
        match &entry.kind {
            Kind::Directory => directory(&mut tar, header, &entry.path)?,
            Kind::File(contents) => append(&mut tar, header, &entry.path, contents)?,
            Kind::Binary => append(&mut tar, header, &entry.path, binary)?,
            Kind::Link(to) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, &entry.path, to)?;
            }
        }
    }
    tar.into_inner()
}

/// Writes the archive of an image with this one layer.
pub(crate) fn write(out: impl Write, name: &str, architecture: &str, layer: &[u8]) -> io::Result<()> {
    let layer_digest = digest(layer);
    let config = bytes(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ENTRYPOINT, "Env": ["PATH=/bin"], "StopSignal": "SIGTERM"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created_by": "k3rs-dev image build"}],
    }))?;
    let config_digest = digest(&config);
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config.len()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer_digest, layer.len())],
    }))?;
    let manifest_digest = digest(&manifest);
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest_digest, manifest.len());
    entry["platform"] = json!({"architecture": architecture, "os": "linux"});
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    }))?;
    let docker =
        bytes(&json!([{"Config": blob(&config_digest), "RepoTags": [name], "Layers": [blob(&layer_digest)]}]))?;

    let mut tar = tar::Builder::new(out);
    append(&mut tar, header(0o644), "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    append(&mut tar, header(0o644), "index.json", &index)?;
    append(&mut tar, header(0o644), "manifest.json", &docker)?;
    directory(&mut tar, header(0o755), "blobs")?;
    directory(&mut tar, header(0o755), "blobs/sha256")?;
    for (digest, contents) in [(&config_digest, &config[..]), (&manifest_digest, &manifest), (&layer_digest, layer)] {
        append(&mut tar, header(0o644), &blob(digest), contents)?;
    }
    tar.into_inner()?.flush()
}

/// Owned by root and of no time, so that the bytes don't depend on who makes them, or when.
pub(crate) fn header(mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn directory<W: Write>(tar: &mut tar::Builder<W>, mut header: tar::Header, path: &str) -> io::Result<()> {
    header.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut header, format!("{path}/"), io::empty())
}

pub(crate) fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    mut header: tar::Header,
    path: &str,
    contents: &[u8],
) -> io::Result<()> {
    header.set_size(contents.len() as u64);
    tar.append_data(&mut header, path, contents)
}

fn bytes(document: &Value) -> io::Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(io::Error::other)
}

fn blob(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

fn descriptor(kind: &str, digest: &str, size: usize) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size})
}

/// SHA-256, as it stands in digests.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref())
}
