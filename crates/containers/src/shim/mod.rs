//! One process a pod, which outlives the server: it is in the sandbox's namespaces and so holds them, starts the
//! pod's containers, reaps them, writes their logs and reports how they ended.
//!
//! It is this same binary under another first word, with one thread and no runtime, so that it may fork and stays
//! small. It listens on a socket in the sandbox's state directory; a server that comes back connects to it and is
//! told what runs. What it must not forget, how a container ended, is a file before it is a message.
//!
//! ```text
//! server --- protocol (frames, descriptors) ---> shim --- fork into namespaces ---> container
//!    |                                            |  <-- report: user, terminal, error
//!    |                                            +--- pipes --> log file, attached clients
//!    +--- exec's streams: straight from the process to the server, the shim is not in between
//! ```

pub(crate) mod client;
mod io;
mod launch;
mod pod;
pub(crate) mod protocol;

use std::os::fd::{AsFd, OwnedFd};

use linux::processes;

/// What an exit from the shim means is in its log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{what}: {source}")]
    System { what: String, source: std::io::Error },
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// What was asked for cannot be done, in words for the user.
    #[error("{0}")]
    Refused(String),
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Says what failed, and with what.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::System { what: what(), source: source.into() })
    }
}

/// Runs a shim until its server sends it home. `arguments` are those after the word that named it.
///
/// Call it before the process has a second thread. Standard input is the socket to listen on, standard error the
/// shim's log. Returns the process's exit code.
pub fn shim_main(arguments: &[std::ffi::OsString]) -> i32 {
    // The sandbox's directory: people find the shim by it, the shim does not need it.
    if arguments.is_empty() {
        complain(&"a shim is started by the server, not by hand");
        return 64;
    }
    match start() {
        Ok(()) => 0,
        Err(error) => {
            complain(&error);
            1
        }
    }
}

fn start() -> Result<()> {
    let listener: OwnedFd = processes::take_stdin().context(|| "cannot take the listening socket".to_owned())?;
    linux::sockets::set_nonblocking(listener.as_fd()).context(|| "cannot set the socket up".to_owned())?;
    // A terminal's Ctrl-C is for the server; SIGHUP for nobody.
    rustix::process::setsid().context(|| "cannot leave the server's session".to_owned())?;
    processes::become_subreaper().context(|| "cannot become a subreaper".to_owned())?;
    pod::Pod::new(listener)?.run()
}

fn complain(error: &dyn std::fmt::Display) {
    use std::io::Write;
    // The log is all there is to tell, so failing to write it is told to nobody.
    _ = writeln!(std::io::stderr(), "{} {error}", jiff::Timestamp::now());
}
