//! `k3rs init server|agent ...`: PID 1 of every node, whatever it runs in. It mounts what is missing, then keeps
//! `k3rs server|agent` running.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;

use linux::init::{Service, prepare_mounts, run};

/// Where a node image has this binary.
const PROGRAM: &str = "/bin/k3rs";

/// Its whole life; `service` are the words after `init`. Call it before the process has a second thread.
pub(crate) fn main(service: &[OsString]) -> i32 {
    let service = Service {
        path: PathBuf::from(PROGRAM),
        arguments: service.to_vec(),
        environment: std::env::vars_os().collect(),
    };
    let result: io::Result<i32> = prepare_mounts().and_then(|()| run(&service));
    result.unwrap_or_else(|error| {
        // The node's log is all there is to tell.
        _ = writeln!(io::stderr(), "k3rs init: {error}");
        1
    })
}
