//! Bytes that users download, and the time that a node image takes.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::Bench;
use crate::clusters::Home;
use crate::figures::Outcome;
use crate::programs::check_interrupted;

/// The profile of published binaries; building it takes minutes.
const PROFILE: &str = "dist";

pub(super) fn binary(bench: &Bench) -> Result<Vec<Outcome>> {
    check_interrupted()?;
    // The user's own environment: cargo needs it.
    #[expect(clippy::disallowed_methods, reason = "what is measured is what cargo builds")]
    let status = std::process::Command::new("cargo")
        .args(["build", "--quiet", "--package", "k3rs-dev", "--bin", "k3rs-dev", "--profile", PROFILE])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .status()?;
    if !status.success() {
        return Err(anyhow!("cargo could not build the {PROFILE} profile"));
    }
    let built = bench.program.ancestors().nth(2).map(|it| it.join(PROFILE).join("k3rs-dev"));
    let built = built.filter(|it| it.is_file()).context("cargo built, but not beside the binary that is measured")?;
    Ok(vec![Outcome::new("binary", vec![megabytes(&built)?])])
}

pub(super) fn image(bench: &Bench) -> Result<Vec<Outcome>> {
    let (mut sizes, mut times) = (Vec::new(), Vec::new());
    for round in 0..bench.runs {
        // A home without a cache.
        let home = Home::new(&bench.program, &bench.directory)?;
        let archive = bench.directory.join(format!("image-{round}.tar"));
        let began = Instant::now();
        home.run(&["image", "build", "-o", &archive.display().to_string()])?;
        times.push(began.elapsed().as_secs_f64());
        sizes.push(megabytes(&archive)?);
    }
    let size = Outcome::new("image", sizes).note("of the release build, which is larger than the published one");
    Ok(vec![size, Outcome::new("image-build", times)])
}

fn megabytes(path: &Path) -> Result<f64> {
    let metadata = std::fs::metadata(path).with_context(|| format!("{}", path.display()))?;
    Ok(metadata.len() as f64 / 1e6)
}
