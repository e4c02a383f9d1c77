//! The image that the benchmark's pods run: the payload and nothing else.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

pub(crate) const NAME: &str = "example.com/bench-payload:1";
/// Where the payload is in it.
pub(crate) const PROGRAM: &str = "/payload";

/// Writes an archive of it under this name; the payload runs with `words` where a pod says nothing else.
pub(crate) fn write(payload: &Path, archive: &Path, name: &str, words: &[&str]) -> Result<()> {
    let mut image = fixtures::Image::new(json!({"Entrypoint": [PROGRAM], "Cmd": words}));
    image.file(PROGRAM.trim_start_matches('/'), &std::fs::read(payload)?, 0o755)?;
    Ok(image.write(name, archive)?)
}
