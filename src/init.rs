//! `k3rs init server|agent ...`: PID 1 of every node, whatever it runs in. It mounts what is missing, then keeps
//! `k3rs server|agent` running.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use linux::init::{Service, prepare_mounts, run};

/// Where a node image has this binary.
const PROGRAM: &str = "/bin/k3rs";
/// By which the node is told from others, in its Node's status too (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Its whole life; `service` are the words after `init`. Call it before the process has a second thread.
pub(crate) fn main(service: &[OsString]) -> i32 {
    let service = Service {
        path: PathBuf::from(PROGRAM),
        arguments: service.to_vec(),
        environment: std::env::vars_os().collect(),
    };
    let result: io::Result<i32> =
        prepare_mounts().and_then(|()| identify(Path::new(MACHINE_ID))).and_then(|()| run(&service));
    result.unwrap_or_else(|error| {
        // The node's log is all there is to tell.
        _ = writeln!(io::stderr(), "k3rs init: {error}");
        1
    })
}

/// Gives the node its machine ID at its first start.
fn identify(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    linux::files::replace(path, format!("{id}\n").as_bytes(), 0o444)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_its_identity() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("machine-id");
        identify(&path).unwrap();
        let id = std::fs::read_to_string(&path).unwrap();
        assert!(id.len() == 33 && id.trim_end().bytes().all(|it| it.is_ascii_hexdigit()), "{id}");
        identify(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), id);
    }
}
