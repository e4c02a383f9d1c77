//! The image that the benchmark's pods run: the payload and nothing else, as `docker save` writes it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

pub(crate) const NAME: &str = "example.com/bench-payload:1";
/// Where the payload is in it.
pub(crate) const PROGRAM: &str = "/payload";

/// Writes the archive.
pub(crate) fn write(payload: &Path, archive: &Path) -> Result<()> {
    let layer = layer(payload)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &layer);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let configuration = json!({
        "architecture": architecture, "os": "linux", "config": {"Entrypoint": [PROGRAM]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hex}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    let mut builder = tar::Builder::new(File::create(archive)?);
    add(&mut builder, "layer.tar", &layer, 0o644)?;
    add(&mut builder, "config.json", configuration.to_string().as_bytes(), 0o644)?;
    add(&mut builder, "manifest.json", manifest.to_string().as_bytes(), 0o644)?;
    Ok(builder.into_inner()?.flush()?)
}

fn layer(payload: &Path) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    add(&mut builder, PROGRAM.trim_start_matches('/'), &std::fs::read(payload)?, 0o755)?;
    Ok(builder.into_inner()?)
}

fn add(builder: &mut tar::Builder<impl std::io::Write>, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    Ok(builder.append_data(&mut header, path, content)?)
}
