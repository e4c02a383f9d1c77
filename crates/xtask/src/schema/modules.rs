//! Go modules on disk, by the `go` command: the one place that runs it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    #[serde(default)]
    dir: PathBuf,
    #[serde(default)]
    error: String,
}

/// The directory of `module` at `version` in Go's module cache, fetched if it is not there.
pub(crate) fn download(module: &str, version: &str) -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a chore of the project, not the product: Go's own module client")]
    let output = std::process::Command::new("go")
        .args(["mod", "download", "-json"])
        .arg(format!("{module}@{version}"))
        // Outside any module of the caller's.
        .current_dir(std::env::temp_dir())
        .output()
        .context("cannot run go: install Go 1.26 or newer")?;
    let download: Download = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("go mod download {module}: {}", String::from_utf8_lossy(&output.stderr)))?;
    ensure!(download.error.is_empty(), "go mod download {module}@{version}: {}", download.error);
    Ok(download.dir)
}

/// What the Go program in `dir` writes when asked for `what`.
pub(super) fn run_program(dir: &Path, what: &str) -> Result<Vec<u8>> {
    #[expect(clippy::disallowed_methods, reason = "a chore of the project, not the product: upstream's own codecs")]
    let output = std::process::Command::new("go")
        .args(["run", ".", what])
        .current_dir(dir)
        .output()
        .context("cannot run go: install Go 1.26 or newer to make the golden objects anew")?;
    ensure!(output.status.success(), "go run in {}: {}", dir.display(), String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}
