//! Debian's packages with everything they need, unpacked into a directory. Nothing is installed on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{command, finished};

/// Unpacks `packages` and what they depend on into `target`, by way of `downloads`.
///
/// apt is told that nothing is installed, so that it brings the whole closure. No maintainer script runs: what images
/// need beyond the packages' files, they state.
pub(super) fn unpack(packages: &[&str], downloads: &Path, target: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(downloads);
    fs::create_dir_all(downloads.join("partial"))?;
    fs::create_dir_all(target)?;
    let status = downloads.join("status");
    fs::File::create(&status)?;
    let mut apt = command("apt-get");
    apt.args(["install", "--download-only", "--yes", "--quiet=2", "--no-install-recommends"])
        .arg(format!("--option=Dir::State::status={}", status.display()))
        .arg(format!("--option=Dir::Cache::archives={}", downloads.display()))
        .args(packages);
    finished(&mut apt).with_context(|| format!("bringing {} from Debian", packages.join(", ")))?;
    let mut archives: Vec<_> =
        fs::read_dir(downloads)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    archives.retain(|path| path.extension().is_some_and(|it| it == "deb"));
    archives.sort();
    for archive in archives {
        finished(command("dpkg-deb").arg("--extract").arg(&archive).arg(target))?;
    }
    Ok(())
}
