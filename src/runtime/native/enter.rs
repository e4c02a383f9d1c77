//! The way into a native node for people: all of its namespaces but the file systems, so that the user's own shell and
//! tools are at hand. The node's files are below `$NODE_ROOT`.

use std::ffi::{CString, OsString};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use linux::mounts::{self, Propagation};
use linux::namespaces::{self, Namespaces};
use linux::processes::{self, Fork, Process};
use linux::spawn::Program;

use crate::runtime::Exec;

/// By which first word this binary is it.
pub(crate) const NAME: &str = "k3rs-enter";

/// This binary, about to enter the node whose PID 1 is `init`, with the caller's streams and environment.
pub(super) fn program(init: i32, exec: &Exec) -> io::Result<Program> {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| Ok::<_, io::Error>(Some(rustix::io::fcntl_dupfd_cloexec(fd, 3)?));
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let shell = environment.iter().find(|it| it.0 == "SHELL").map_or_else(|| "/bin/sh".into(), |it| it.1.clone());
    environment.push(("NODE_ROOT".into(), format!("/proc/{init}/root").into()));
    let command = if exec.command.is_empty() { vec![shell] } else { exec.command.iter().map(OsString::from).collect() };
    let mut program = Program::new("/proc/self/exe");
    program.name = Some(NAME.into());
    program.arguments = [OsString::from(init.to_string())].into_iter().chain(command).collect();
    program.environment = environment;
    program.stdin = copy(io::stdin().as_fd())?;
    program.stdout = copy(io::stdout().as_fd())?;
    program.stderr = copy(io::stderr().as_fd())?;
    Ok(program)
}

/// Enters and runs the program; its exit code is the result.
pub(crate) fn main(arguments: &[OsString]) -> i32 {
    match enter(arguments) {
        Ok(code) => code,
        Err(error) => {
            _ = writeln!(io::stderr(), "error: entering the node: {error}");
            1
        }
    }
}

fn enter(arguments: &[OsString]) -> io::Result<i32> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidInput, "this process is started by k3rs-dev, not by hand");
    let (init, command) = arguments.split_first().ok_or_else(malformed)?;
    let init: i32 = init.to_str().and_then(|it| it.parse().ok()).ok_or_else(malformed)?;
    // The files of the node must still be found when /proc is the node's.
    let root = rustix::fs::open(
        format!("/proc/{init}/root"),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )?;
    let kinds =
        Namespaces::NEWPID | Namespaces::NEWNET | Namespaces::NEWUTS | Namespaces::NEWIPC | Namespaces::NEWCGROUP;
    namespaces::enter_of(Process::open(init)?.handle.as_fd(), kinds)?;
    // Whoever enters a PID namespace stays outside; the children are inside.
    match processes::fork(Namespaces::NEWNS, None)? {
        Fork::Parent(child) => Ok(child.wait()?.code()),
        Fork::Child => {
            let error = match own_proc() {
                Ok(()) => exec(command, &root),
                Err(error) => error,
            };
            _ = writeln!(io::stderr(), "error: {}: {error}", command.first().unwrap_or(&OsString::new()).display());
            processes::exit_now(127)
        }
    }
}

/// /proc must tell of the node's processes.
fn own_proc() -> io::Result<()> {
    mounts::set_propagation(Path::new("/"), true, Propagation::Private)?;
    mounts::mount_at("proc", "proc", Path::new("/proc"), rustix::mount::MountFlags::empty(), "")
}

fn exec(command: &[OsString], root: &impl std::os::fd::AsRawFd) -> io::Error {
    let text = |it: &[u8]| CString::new(it).unwrap_or_default();
    let arguments: Vec<CString> = command.iter().map(|it| text(it.as_bytes())).collect();
    let mut environment: Vec<CString> = Vec::new();
    let mut path = OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in std::env::vars_os().filter(|it| it.0 != "NODE_ROOT") {
        if name == "PATH" {
            path.clone_from(&value);
        }
        environment.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
    }
    environment.push(text(format!("NODE_ROOT=/proc/self/fd/{}", root.as_raw_fd()).as_bytes()));
    let Some(program) = command.first() else { return io::ErrorKind::InvalidInput.into() };
    if program.as_bytes().contains(&b'/') {
        return processes::exec(&text(program.as_bytes()), &arguments, &environment);
    }
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for directory in std::env::split_paths(&path) {
        let tried = processes::exec(&text(directory.join(program).as_os_str().as_bytes()), &arguments, &environment);
        if tried.kind() != io::ErrorKind::NotFound {
            error = tried;
        }
    }
    error
}
