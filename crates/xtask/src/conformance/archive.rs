//! A directory as an image: one layer, in the archive form that `docker save` writes. The same directory makes the same
//! bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Result;
use ring::digest::{Context, SHA256};
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// Writes `root` as the image that has all these names; `config` is its configuration as OCI has it.
pub(super) fn write(path: &Path, root: &Path, names: &[String], config: &Value) -> Result<()> {
    let layer = path.with_extension("layer");
    let digest = write_layer(&layer, root)?;
    let configuration = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"]}]);
    let partial = path.with_extension("partial");
    let mut archive = tar::Builder::new(BufWriter::new(File::create(&partial)?));
    for (name, content) in [("manifest.json", manifest), ("config.json", configuration)] {
        let content = content.to_string();
        archive.append_data(&mut header(EntryType::Regular, content.len() as u64, 0o644), name, content.as_bytes())?;
    }
    let size = fs::metadata(&layer)?.len();
    archive.append_data(&mut header(EntryType::Regular, size, 0o644), "layer.tar", File::open(&layer)?)?;
    archive.into_inner()?.flush()?;
    fs::remove_file(&layer)?;
    fs::rename(partial, path)?;
    Ok(())
}

/// Writes the layer, gives its digest.
fn write_layer(path: &Path, root: &Path) -> Result<String> {
    let mut layer =
        tar::Builder::new(Digesting { file: BufWriter::new(File::create(path)?), hash: Context::new(&SHA256) });
    append(&mut layer, root, Path::new(""))?;
    let mut written = layer.into_inner()?;
    written.file.flush()?;
    let digest: String = written.hash.finish().as_ref().iter().map(|it| format!("{it:02x}")).collect();
    Ok(format!("sha256:{digest}"))
}

fn append<W: Write>(layer: &mut tar::Builder<W>, root: &Path, below: &Path) -> Result<()> {
    let mut names: Vec<_> =
        fs::read_dir(root.join(below))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let inside = below.join(name);
        let path = root.join(&inside);
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if metadata.is_symlink() {
            layer.append_link(&mut header(EntryType::Symlink, 0, 0o777), &inside, fs::read_link(&path)?)?;
        } else if metadata.is_dir() {
            layer.append_data(&mut header(EntryType::Directory, 0, mode), &inside, io::empty())?;
            append(layer, root, &inside)?;
        } else if metadata.is_file() {
            let mut header = header(EntryType::Regular, metadata.len(), mode);
            layer.append_data(&mut header, &inside, File::open(&path)?)?;
        }
    }
    Ok(())
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Hashes what is written on its way.
struct Digesting<W> {
    file: W,
    hash: Context,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
