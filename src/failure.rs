//! What the user is told when something could not be done: one line of what happened to what, one of what to do,
//! and an exit code that scripts can rely on.

use std::fmt;

/// Exit codes; `--help` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Failure = 1,
    Usage = 2,
    NotFound = 3,
    Exists = 4,
    TimedOut = 5,
    /// The host lacks something: an engine, a kernel feature, a free port.
    HostUnable = 6,
    Permission = 7,
    Interrupted = 130,
}

/// Why a command ended without success.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) remedy: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), remedy: None }
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// Something that the operating system refused; a missing right is told apart.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Code::Permission,
            std::io::ErrorKind::StorageFull => Code::HostUnable,
            _ => Code::Failure,
        };
        let failure = Self::new(code, format!("{what}: {error}"));
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => failure.remedy("run it as root, or choose a place you may write"),
            std::io::ErrorKind::StorageFull => failure.remedy("free some space on that disk and try again"),
            _ => failure,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
