//! The tree of verbs. A command is its arguments and one call; it prints, others do.

mod cluster;
mod completion;
mod image;
mod kubeconfig;
mod node;
mod output;
mod session;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::failure::{Code, Failure, Result};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 exists or is in use, 5 timed out, \
    6 the host lacks something, 7 not permitted, 130 interrupted";

/// Kubernetes clusters of k3rs nodes on this machine
#[derive(Debug, Parser)]
#[command(name = "k3rs-dev", version = k3rs::VERSION, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    noun: Noun,
}

/// What every command may be told.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)
    #[arg(long, global = true, env = "KUBECONFIG", hide_env_values = true, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// Where clusters and images are kept
    #[arg(long, global = true, env = "K3RS_DEV_DATA", hide_env_values = true, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
    /// Only errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// No colours, no moving lines
    #[arg(long, global = true)]
    plain: bool,
    #[arg(long, global = true, env = "NO_COLOR", hide = true)]
    no_color: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Create, list, start, stop and delete clusters
    #[command(subcommand, alias = "clusters")]
    Cluster(cluster::Verb),
    /// List nodes, look around in them
    #[command(subcommand, alias = "nodes")]
    Node(node::Verb),
    /// Get at a cluster
    #[command(subcommand)]
    Kubeconfig(kubeconfig::Verb),
    /// Build node images, give images to clusters
    #[command(subcommand, alias = "images")]
    Image(image::Verb),
    /// Print a shell's completion script
    Completion(completion::Completion),
    /// Print the version
    Version(version::Version),
}

/// How a listing is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
    /// Bare names, one a line
    Name,
}

/// Runs the CLI; returns its exit code.
pub(crate) fn main(arguments: &[OsString]) -> i32 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors and go to standard output.
            let code = if error.use_stderr() { Code::Usage as i32 } else { 0 };
            _ = error.print();
            return code;
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(failure) => {
            output::complain(&failure);
            failure.code as i32
        }
    }
}

fn run(cli: Cli) -> Result<i32> {
    // One provider for all TLS; a second installation is refused and changes nothing.
    _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::io("starting", &error))?;
    let global = cli.global;
    let result = runtime.block_on(async {
        match cli.noun {
            Noun::Cluster(verb) => verb.run(&global).await.map(|()| 0),
            Noun::Node(verb) => verb.run(&global).await,
            Noun::Kubeconfig(verb) => verb.run(&global).map(|()| 0),
            Noun::Image(verb) => verb.run(&global).await.map(|()| 0),
            Noun::Completion(completion) => completion.run().map(|()| 0),
            Noun::Version(version) => version.run().map(|()| 0),
        }
    });
    // A read of standard input that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    result
}

/// `90s`, `5m`, `1h30m`; 0 is none.
fn duration(text: &str) -> std::result::Result<Duration, String> {
    let parsed = text.parse::<api::duration::Duration>().map_err(|_| ());
    parsed.and_then(|it| it.to_std().ok_or(())).map_err(|()| "a duration is written 90s, 5m or 1h30m".to_owned())
}
