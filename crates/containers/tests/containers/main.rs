//! Containers on a real kernel, as root: this binary is the harness, the shim, the server to be killed, and the
//! program in the containers' image.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test binary, which clippy does not see without the usual harness"
)]

mod cases;
mod payload;
mod world;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<&str> = arguments.iter().map(|it| it.to_str().unwrap_or_default()).collect();
    let code = match words[..] {
        [name, ..] if name.rsplit('/').next() == Some("payload") => payload::main(&words[1..]),
        [_, "shim", ..] => containers::shim_main(&arguments[2..]),
        [_, "server", directory] => cases::doomed_server(directory),
        [_, "bench", ..] => cases::bench(),
        _ => run(words.iter().skip(1).find(|it| !it.starts_with('-')).copied()),
    };
    std::process::exit(code);
}

/// Runs the cases whose names contain `filter`, one after another: they look at the whole machine afterwards.
fn run(filter: Option<&str>) -> i32 {
    if !rustix::process::geteuid().is_root() {
        #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
        let required = std::env::var("K3RS_TEST_REQUIRE").is_ok_and(|it| it.contains("root"));
        eprintln!("skipped: containers need root");
        return i32::from(required);
    }
    let mut failed = Vec::new();
    let chosen: Vec<_> = cases::ALL.iter().filter(|it| filter.is_none_or(|filter| it.0.contains(filter))).collect();
    for (name, case) in &chosen {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| world::with_world(*case)));
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        if result.is_err() {
            failed.push(*name);
        }
    }
    println!("{} passed; {} failed: {failed:?}", chosen.len() - failed.len(), failed.len());
    i32::from(!failed.is_empty())
}
