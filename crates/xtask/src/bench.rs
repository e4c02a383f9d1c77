//! `cargo xtask bench`: builds what is measured and what measures, as released, and runs it.
//!
//! The load client is optimised, too: a slow one would measure itself.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

/// `arguments` are the benchmark's own.
pub(crate) fn run(root: &Path, arguments: &[OsString]) -> Result<ExitCode> {
    let mut build = command("cargo");
    build.args(["build", "--release", "--bins", "--package", "k3rs-dev", "--package", "bench"]).current_dir(root);
    if !build.status().context("starting cargo")?.success() {
        bail!("the release build failed");
    }
    // This program's profile has its directory beside that of the release; cargo knows both, but builds anew what
    // other packages chose other features of.
    let own = std::env::current_exe()?;
    let profiles = own.ancestors().nth(2).context("this program is in cargo's target directory")?;
    let ran = command(profiles.join("release/bench")).args(arguments).status().context("starting the benchmark")?;
    Ok(if ran.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a developer's chore runs other programs")]
    Command::new(program)
}
