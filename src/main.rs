//! `k3rs-dev`: clusters of k3rs nodes on one machine.
//!
//! One binary is the CLI, PID 1 of a node and the shim of a pod (as `k3rs`), the host's side of a native node, and the
//! way into one. Which it is, its first words say, before a thread exists: what forks must be alone.

mod cluster;
mod commands;
mod failure;
mod init;
#[path = "node-image/mod.rs"]
mod node_image;
mod runtime;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let first = arguments.first().and_then(|it| std::path::Path::new(it).file_name()).unwrap_or_default();
    let rest = arguments.get(1..).unwrap_or_default();
    if let Some(code) = k3rs::cli::early(&arguments) {
        return ExitCode::from(u8::try_from(code).unwrap_or(1));
    }
    let code = match first.to_str() {
        Some(runtime::native::host::NAME) => runtime::native::host::main(rest),
        Some(runtime::native::enter::NAME) => runtime::native::enter::main(rest),
        Some("k3rs") => k3rs(&arguments, rest),
        Some("crictl") => k3rs::cli::main(arguments.clone()),
        _ if rest.first().is_some_and(|it| it == "k3rs") => k3rs(rest, &rest[1..]),
        _ => commands::main(&arguments),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// What a node's program is asked to be.
fn k3rs(arguments: &[OsString], words: &[OsString]) -> i32 {
    match words.split_first().map(|(first, rest)| (first.to_str(), rest)) {
        Some((Some("init"), rest)) => init::main(rest),
        _ => k3rs::cli::early(arguments).unwrap_or_else(|| k3rs::cli::main(arguments.to_vec())),
    }
}
