//! `cargo xtask faults`: what the tests do a few times to a node, done for as long as anybody likes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::programs::command;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often an agent or a shim is killed
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// Chance as in the run that said this number
    #[arg(long)]
    seed: Option<u64>,
}

/// Lets the storm of `tests/cluster/storm.rs` rage.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let mut test = command("cargo");
    test.args(["test", "--workspace", "--test", "cluster", "storm", "--", "--nocapture"])
        .current_dir(root)
        .env("K3RS_TEST_REQUIRE", "root busybox")
        .env("K3RS_TEST_KILLS", args.kills.to_string());
    if let Some(seed) = args.seed {
        test.env("K3RS_TEST_SEED", seed.to_string());
    }
    Ok(if test.status()?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
