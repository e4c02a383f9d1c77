//! `cargo xtask conformance`: upstream's end-to-end suite, unchanged, against a cluster of this tree.
//!
//! ```text
//! images    what the suite's images are made of: Debian's packages, Go programs, files
//! debian    packages with all they need, unpacked without being installed
//! archive   a directory as an image that nodes import
//! selection which of the suite's tests are meant
//! suite     ginkgo runs them, its report is read
//! report    the table, what changed, what was slow
//! ```
//!
//! The suite speaks its own default, protobuf, to an API server that authenticates and authorizes it as any client.
//! No test is renamed, retried, or left out: what is not asked for is counted as not run.

mod archive;
mod debian;
mod images;
mod report;
mod selection;
mod suite;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::tools;
use selection::Selection;

/// The cluster that the run makes, and deletes.
const CLUSTER: &str = "conformance";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Milestones (M1 to M8) and regular expressions of test names; none means the whole suite
    focus: Vec<String>,
    /// Where nodes run: native or docker
    #[arg(long, default_value = "native")]
    runtime: String,
    /// Test a cluster that is there, of which this is the kubeconfig, and leave it
    #[arg(long, value_name = "FILE", conflicts_with = "runtime")]
    kubeconfig: Option<PathBuf>,
    /// Make clusters with this program instead of building one
    #[arg(long, value_name = "PROGRAM")]
    k3rs_dev: Option<PathBuf>,
    /// Tests that run at once, but for those that must run alone
    #[arg(long, default_value_t = 4)]
    procs: u32,
    /// Stop after so long, as 10m or 2h
    #[arg(long, default_value = "4h")]
    limit: String,
    /// Leave the cluster for a look
    #[arg(long)]
    keep: bool,
    /// Write the table to docs/conformance.md and the passed tests to tests/conformance/passed.txt
    #[arg(long)]
    record: bool,
}

/// Runs the suite; the exit code says whether everything that was asked for passed.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let root = &root.canonicalize()?;
    let folder = root.join("target/conformance");
    std::fs::create_dir_all(&folder)?;
    let selection = Selection::read(root, &args.focus)?;
    tools::build(root, &["kubectl", "ginkgo", "e2e.test"].map(str::to_owned))?;
    let cluster = match &args.kubeconfig {
        Some(kubeconfig) => Cluster::Given(std::path::absolute(kubeconfig)?),
        None => Cluster::create(root, &folder, args)?,
    };
    let run =
        suite::Run { root, folder: &folder, kubeconfig: cluster.kubeconfig(), procs: args.procs, limit: &args.limit };
    let results = suite::run(&run, &selection)?;
    let report = report::Report::new(root, &selection, &results)?;
    report.print(&folder)?;
    if args.record {
        report.record(root)?;
    }
    Ok(if report.all_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the suite is run against.
enum Cluster {
    Given(PathBuf),
    Made { program: PathBuf, kubeconfig: PathBuf, keep: bool },
}

impl Cluster {
    /// Two nodes that hold the suite's images.
    fn create(root: &Path, folder: &Path, args: &Args) -> Result<Self> {
        let archives = images::build(root, &folder.join("images"))?;
        let program = match &args.k3rs_dev {
            Some(program) => std::path::absolute(program)?,
            None => build_k3rs_dev(root)?,
        };
        let kubeconfig = folder.join("kubeconfig");
        let cluster = Self::Made { program: program.clone(), kubeconfig: kubeconfig.clone(), keep: args.keep };
        let k3rs_dev = |words: &[&str]| {
            let mut command = command(&program);
            command.args(words).env("KUBECONFIG", &kubeconfig);
            finished(&mut command)
        };
        k3rs_dev(&["cluster", "create", CLUSTER, "--agents", "1", "--runtime", &args.runtime])?;
        for archive in &archives {
            k3rs_dev(&["image", "import", "--cluster", CLUSTER, &archive.display().to_string()])?;
        }
        Ok(cluster)
    }

    fn kubeconfig(&self) -> &Path {
        match self {
            Self::Given(kubeconfig) | Self::Made { kubeconfig, .. } => kubeconfig,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Self::Made { program, kubeconfig, keep: false } = self {
            let mut delete = command(program);
            delete.args(["cluster", "delete", CLUSTER]).env("KUBECONFIG", kubeconfig);
            // It says itself what it could not delete.
            let _ = finished(&mut delete);
        }
    }
}

/// Builds `k3rs-dev` as released: the suite waits for no debug build.
fn build_k3rs_dev(root: &Path) -> Result<PathBuf> {
    let mut build = command("cargo");
    finished(build.args(["build", "--release", "--bin", "k3rs-dev"]).current_dir(root))?;
    let own = std::env::current_exe()?;
    let profiles = own.ancestors().nth(2).context("this program is in cargo's target directory")?;
    Ok(profiles.join("release/k3rs-dev"))
}

fn finished(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(status.success(), "{} ended with {status}", command.get_program().display());
    Ok(())
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a developer's chore runs other programs")]
    Command::new(program)
}
