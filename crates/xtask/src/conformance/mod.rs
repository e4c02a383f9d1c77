//! `cargo xtask conformance`: upstream's end-to-end suite, unchanged, against a cluster of this tree.
//!
//! ```text
//! images    what the suite's images are made of: Debian's packages, Go programs, files
//! debian    packages with all they need, unpacked without being installed
//! archive   a directory as an image that nodes import
//! selection which of the suite's tests are meant
//! cluster   what they are run against
//! nodes     nodes that nobody runs
//! swap      upstream's controllers and scheduler in place of ours
//! suite     ginkgo runs them, its report is read
//! report    the table, what changed, what was slow
//! ```
//!
//! The suite speaks its own default, protobuf, to an API server that authenticates and authorizes it as any client.
//! No test is renamed, retried, or left out: what is not asked for is counted as not run.

mod archive;
mod cluster;
mod debian;
mod images;
mod nodes;
mod report;
mod selection;
mod suite;
mod swap;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::programs::command;
use crate::tools;
use cluster::Cluster;
use selection::Selection;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Milestones (M1 to M8) and regular expressions of test names; none means the whole suite
    focus: Vec<String>,
    /// Of these only what passed at the last record, but for what upstream calls slow
    #[arg(long)]
    slice: bool,
    /// Where nodes run: native or docker
    #[arg(long, default_value = "native")]
    runtime: String,
    /// Test a cluster that is there, of which this is the kubeconfig, and leave it
    #[arg(long, value_name = "FILE", conflicts_with = "runtime")]
    kubeconfig: Option<PathBuf>,
    /// Test a bare server with two nodes that nobody runs: for M1 and M2, which ask for no running Pod
    #[arg(long, conflicts_with_all = ["runtime", "kubeconfig", "keep"])]
    fake_nodes: bool,
    /// As --fake-nodes, with upstream's kube-controller-manager and kube-scheduler in place of ours
    #[arg(long, conflicts_with_all = ["runtime", "kubeconfig", "keep", "record"])]
    swap: bool,
    /// Make clusters with this program instead of building one
    #[arg(long, value_name = "PROGRAM")]
    k3rs_dev: Option<PathBuf>,
    /// Tests that run at once, but for those that must run alone
    #[arg(long, default_value_t = 4)]
    procs: u32,
    /// Run them so often again, on the same cluster, until one fails; what is reported is the last round
    #[arg(long, default_value_t = 0)]
    repeat: u32,
    /// Stop after so long, as 10m or 2h
    #[arg(long, default_value = "4h")]
    limit: String,
    /// Leave the cluster for a look
    #[arg(long)]
    keep: bool,
    /// Run nothing: take the last run's reports again
    #[arg(long, conflicts_with_all = ["kubeconfig", "swap"])]
    last: bool,
    /// Write the table to docs/conformance.md and the passed tests to tests/conformance/passed.txt
    #[arg(long)]
    record: bool,
}

/// Runs the suite; the exit code says whether everything that was asked for passed.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let root = &root.canonicalize()?;
    // Two runs, one of either kind, may go on at once.
    let folder = root.join(if args.fake_nodes || args.swap { "target/conformance/bare" } else { "target/conformance" });
    std::fs::create_dir_all(&folder)?;
    let mut selection = Selection::read(root, &args.focus)?;
    if args.slice {
        selection.keep_slice(&report::recorded(root)?);
    }
    if args.last {
        return conclude(root, &folder, args, &selection, &suite::last(&folder, &selection)?);
    }
    tools::build(root, &["kubectl", "ginkgo", "e2e.test"].map(str::to_owned))?;
    let cluster = Cluster::of(root, &folder, args)?;
    let kubeconfig = cluster.kubeconfig();
    let run = suite::Run {
        root,
        folder: &folder,
        kubeconfig: &kubeconfig,
        procs: args.procs,
        repeat: args.repeat,
        limit: &args.limit,
    };
    let results = suite::run(&run, &selection)?;
    let code = conclude(root, &folder, args, &selection, &results)?;
    if let Cluster::Bare(bare) = &cluster {
        describe(bare, &folder)?;
    }
    Ok(code)
}

/// Says what came of the run, and keeps it if that was asked for.
fn conclude(root: &Path, folder: &Path, args: &Args, wanted: &Selection, results: &suite::Results) -> Result<ExitCode> {
    let report = report::Report::new(root, wanted, results)?;
    report.print(folder)?;
    if args.record {
        report.record(root)?;
    }
    Ok(if report.all_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn finished(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", command.get_program().display()))?;
    ensure!(status.success(), "{} ended with {status}", command.get_program().display());
    Ok(())
}

/// What a run leaves to be said about its server.
#[expect(clippy::print_stdout, reason = "the report is this command's output")]
fn describe(bare: &cluster::Bare, folder: &Path) -> Result<()> {
    if let Some((rss, pss)) = bare.memory() {
        println!("\nthe server holds {} MB now ({} MB are its share)", rss / 1024, pss / 1024);
    }
    if let Some(swap) = &bare.swap {
        println!("\nlogged as errors by\n{}", swap.errors(folder)?);
    }
    Ok(())
}
