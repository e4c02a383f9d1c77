//! Starting programs: the one place where it is done.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::mounts::{self, Attributes};
use crate::processes::Process;

/// A program to start. It inherits nothing: environment and standard streams are what is said here, and no signal is
/// blocked or ignored.
#[derive(Debug)]
pub struct Program {
    pub path: PathBuf,
    /// `argv[0]`; the path when absent.
    pub name: Option<OsString>,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    pub directory: Option<PathBuf>,
    /// `/dev/null` where absent.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Out of reach of the terminal's signals.
    pub own_group: bool,
}

impl Program {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            name: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            stdin: None,
            stdout: None,
            stderr: None,
            own_group: false,
        }
    }

    /// Starts it. The caller is its parent and must wait for it.
    pub fn start(self) -> io::Result<Process> {
        #[expect(clippy::disallowed_methods, reason = "this is the place that others are sent to")]
        let mut command = std::process::Command::new(&self.path);
        if let Some(name) = &self.name {
            command.arg0(name);
        }
        command.args(&self.arguments).env_clear().envs(self.environment);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let stream = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        command.stdin(stream(self.stdin)).stdout(stream(self.stdout)).stderr(stream(self.stderr));
        if self.own_group {
            command.process_group(0);
        }
        // SAFETY: `reset` makes system calls only, which a child of a process with threads may do before it execs.
        unsafe { command.pre_exec(crate::signals::reset) };
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // The child cannot have been reaped yet: that is up to its parent, who is just getting to know it.
        Process::open(pid)
    }
}

/// The running binary as a container may see it: on a readonly mount of its own, so that a container that gets
/// hold of `/proc/<pid>/exe` cannot overwrite what the node runs (CVE-2019-5736).
#[derive(Debug)]
pub struct OwnBinary {
    file: OwnedFd,
}

impl OwnBinary {
    /// Where the node forbids mounts the plain file is taken; it cannot be written while the server runs it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = mounts::clone_path(path, false)
            .and_then(|mount| {
                mounts::set_attributes(std::os::fd::AsFd::as_fd(&mount), false, Attributes::MOUNT_ATTR_RDONLY, None)?;
                Ok(mount)
            })
            .or_else(|_| {
                use rustix::fs::{Mode, OFlags};
                Ok::<_, io::Error>(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
            })?;
        Ok(Self { file })
    }

    /// A path to start it by, valid in this process while `self` lives.
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.file.as_raw_fd().to_string())
    }
}
