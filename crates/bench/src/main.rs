//! `cargo xtask bench`: the figures that k3rs is judged by, measured on this machine beside the peers that run on it,
//! against their gates.
//!
//! Everything that is measured is made for it by the release build of `k3rs-dev` as its users call it, and deleted
//! afterwards, also when a measurement fails.
//!
//! ```text
//! rows       the table's lines: gates and recorded peers        figures    samples, medians, gates kept or not
//! measure/   a file for each group of rows                      report     the table, and JSON
//! servers/   API servers to load, ours and upstream's           load       closed loops of requests
//! clusters   k3rs-dev as a user calls it                        http       our client, which reads bytes
//! clientgo   upstream's client, which reads objects
//! processes  memory, CPU, writes as the kernel counts them      programs   starting and ending others
//! image      what pods run (payload/)
//! ```

mod clientgo;
mod clusters;
mod figures;
mod http;
mod image;
mod load;
mod measure;
mod processes;
mod programs;
mod report;
mod rows;
mod servers;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::measure::Bench;

/// The word under which this binary is the shim of the containers that it measures.
const SHIM: &str = "shim";

/// Measure k3rs beside its peers; exits with 1 if a figure is over its gate
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Args {
    /// Measure only rows whose names begin so (may be repeated)
    #[arg(long, value_name = "ROW")]
    only: Vec<String>,
    /// How often each is measured
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How many seconds an idle cluster is watched
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    window: u64,
    /// How many seconds an API server with 20,000 pods is left alone before its memory is measured
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    settle: u64,
    /// Where upstream's kube-apiserver, etcd and client-go (load) are
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools"), value_name = "DIRECTORY")]
    peers: PathBuf,
    /// How the figures are printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|it| it == SHIM) {
        return ExitCode::from(u8::try_from(containers::shim_main(&arguments[2..])).unwrap_or(1));
    }
    match run(Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Talk goes to standard error, figures to standard output.
fn say(text: &str) {
    // There is nobody else to tell.
    _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether every figure keeps to its gate.
fn run(args: Args) -> Result<bool> {
    let unknown = |it: &&String| !rows::all().any(|row| row.id.starts_with(it.as_str()));
    if let Some(unknown) = args.only.iter().find(unknown) {
        let all: Vec<&str> = rows::all().map(|row| row.id).collect();
        bail!("no row begins with {unknown}: they are {}", all.join(", "));
    }
    if !rustix::process::geteuid().is_root() {
        bail!("measuring nodes needs root");
    }
    _ = rustls::crypto::ring::default_provider().install_default();
    programs::heed_interrupts()?;
    let _precedence = programs::Precedence::take();
    let own = std::env::current_exe()?;
    let beside = |name: &str| {
        let path = own.with_file_name(name);
        path.is_file().then_some(path).with_context(|| format!("{name} is not built: call this as cargo xtask bench"))
    };
    let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(own.parent().unwrap_or(&own))?;
    let bench = Bench {
        program: beside("k3rs-dev")?,
        payload: beside("bench-payload")?,
        peers: args.peers,
        directory: directory.path().to_owned(),
        runs: args.runs.max(1),
        window: Duration::from_secs(args.window.max(1)),
        settle: Duration::from_secs(args.settle),
        wanted: args.only,
    };
    let outcomes = measure::run(&bench);
    let text = match args.output {
        Output::Table => report::table(&outcomes),
        Output::Json => format!("{:#}\n", report::document(&outcomes)),
    };
    std::io::stdout().write_all(text.as_bytes())?;
    programs::check_interrupted()?;
    Ok(outcomes.iter().all(|it| it.kept() != Some(false)))
}
