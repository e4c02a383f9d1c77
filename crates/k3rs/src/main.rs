//! The slim `k3rs` binary for production hosts.

fn main() {
    std::process::exit(k3rs::cli::main(std::env::args_os().collect()));
}
