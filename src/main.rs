//! `k3rs-dev`: clusters of k3rs nodes on one machine.
//!
//! One binary is the CLI, the host's side of a native node, and the way into one. Which it is, its first word says,
//! before a thread exists: what forks must be alone.

mod cluster;
mod commands;
mod failure;
#[path = "node-image/mod.rs"]
mod node_image;
mod runtime;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let first = arguments.first().and_then(|it| std::path::Path::new(it).file_name()).unwrap_or_default();
    let rest = arguments.get(1..).unwrap_or_default();
    let code = match first.to_str() {
        Some(runtime::native::host::NAME) => runtime::native::host::main(rest),
        Some(runtime::native::enter::NAME) => runtime::native::enter::main(rest),
        _ => commands::main(&arguments),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
