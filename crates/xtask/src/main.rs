//! The project's own chores: `cargo xtask <verb>`.

#[cfg(test)]
mod house;
mod schema;

use std::path::Path;

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
}

fn main() -> anyhow::Result<()> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    match Args::parse().verb {
        Verb::Schema => schema::run(root),
    }
}
