//! The project's own chores: `cargo xtask <verb>`.

mod bench;
mod clients;
mod conformance;
mod corpus;
mod faults;
mod fuzz;
#[cfg(test)]
mod house;
mod programs;
mod schema;
mod tools;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the schema table of the built-in kinds anew, from upstream's Go modules (needs Go)
    Schema,
    /// Build upstream's own programs at the pinned versions into target/tools (needs Go)
    Tools {
        /// Only these
        names: Vec<String>,
    },
    /// Send the requests of tests/corpus to k3rs and to upstream's kube-apiserver, compare the answers (needs Go)
    Corpus(corpus::Args),
    /// Ask both servers by kubectl and helm, as tests/clients says, and compare what they say (needs Go)
    Clients(clients::Args),
    /// Run upstream's end-to-end suite against a cluster of this tree (needs root, Go, Debian's apt)
    Conformance(conformance::Args),
    /// Give the parsers and rules of fuzz/ whatever they may be given (needs a C++ compiler)
    Fuzz(fuzz::Args),
    /// Kill a node's agent and shims while pods come and go, and look what was lost (needs root)
    Faults(faults::Args),
    /// Measure the release build beside its peers (needs root; --help says more)
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    match Args::parse().verb {
        Verb::Schema => schema::run(root)?,
        Verb::Tools { names } => tools::build(root, &names)?,
        Verb::Corpus(args) => return corpus::run(root, &args),
        Verb::Clients(args) => return clients::run(root, &args),
        Verb::Conformance(args) => return conformance::run(root, &args),
        Verb::Fuzz(args) => return fuzz::run(root, &args),
        Verb::Faults(args) => return faults::run(root, &args),
        Verb::Bench { arguments } => return bench::run(root, &arguments),
    }
    Ok(ExitCode::SUCCESS)
}
