//! `cargo xtask fuzz`: builds the targets of `fuzz/` for coverage and runs them one after the other.
//!
//! A stable compiler can count edges; only sanitizers need another one, and safe code has little for them to find. What a
//! run finds out grows in `target/fuzz/corpus`, what fails it is kept in `target/fuzz/artifacts`; the seeds in the tree
//! are what every run begins with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these targets
    targets: Vec<String>,
    /// How long each of them runs
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

/// Counters at every edge, and what comparisons compare: what libFuzzer is guided by.
const COVERAGE: [&str; 6] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// What one input may cost: none is longer than the last number.
const LIMITS: [&str; 3] = ["-timeout=60", "-rss_limit_mb=1024", "-max_len=16384"];

/// Runs the targets; fails when one of them did.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let root = root.canonicalize()?;
    let known = targets(&root)?;
    for name in &args.targets {
        ensure!(known.contains(name), "no target {name}: there are {}", known.join(", "));
    }
    let output = root.join("target/fuzz");
    build(&root, &output)?;
    let mut failed = Vec::new();
    for name in known.iter().filter(|name| args.targets.is_empty() || args.targets.contains(name)) {
        if !fuzz(&root, &output, name, args.minutes)? {
            failed.push(name.as_str());
        }
    }
    ensure!(failed.is_empty(), "failed: {}; the inputs are in target/fuzz/artifacts", failed.join(", "));
    Ok(ExitCode::SUCCESS)
}

fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/targets")).context("reading fuzz/targets")? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn build(root: &Path, output: &Path) -> Result<()> {
    let status = command("cargo")
        .args(["build", "--release", "--bins", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"])
        .arg(output)
        .current_dir(root)
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .status()
        .context("starting cargo")?;
    ensure!(status.success(), "the targets could not be built (libFuzzer needs a C++ compiler)");
    Ok(())
}

fn fuzz(root: &Path, output: &Path, name: &str, minutes: u64) -> Result<bool> {
    let made = |folder: &str| -> Result<PathBuf> {
        let path = output.join(folder).join(name);
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(path)
    };
    let (corpus, artifacts) = (made("corpus")?, made("artifacts")?);
    let program = output.join(host_folder(output)?).join("release").join(name);
    let ran = command(&program)
        .args([&corpus, &root.join("fuzz/seeds").join(name)])
        .arg(format!("-max_total_time={}", minutes * 60))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(LIMITS)
        .arg("-print_final_stats=1")
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    Ok(ran.success())
}

/// Cargo names its folder for the target, which the configuration says is the host's.
fn host_folder(output: &Path) -> Result<String> {
    for entry in fs::read_dir(output)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.contains("-linux-") && entry.path().join("release").is_dir() {
            return Ok(name);
        }
    }
    anyhow::bail!("cargo left nothing in {}", output.display())
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a developer's chore runs other programs")]
    Command::new(program)
}
