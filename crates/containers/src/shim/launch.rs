//! From a fork of the shim to a container's first process, or to one more in a running container.
//!
//! Everything here runs in the child and ends in another program, or in a report of what failed. Paths in the
//! container's root are untrusted until the root is pivoted into: each is walked by handle, each mount attached by
//! handle.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use linux::capabilities::{self, CapabilitySet};
use linux::mounts::{self, Attributes, Propagation};
use linux::namespaces::{self, Namespaces};
use linux::paths::Root;
use linux::processes;
use linux::pty::Pty;
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::protocol::{ContainerSpec, DeviceSpec, MountSource, MountSpec, Outgoing, ProcessSpec};
use super::{Context, Error, Result};
use crate::users::{self, User};

/// What the child tells the shim. The end of the file after `Ready` means that it has become its program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// With a terminal, its master comes along.
    Ready {
        user: User,
        descriptors: usize,
    },
    Failed(String),
}

/// Where the process's standard streams come from.
#[derive(Debug)]
pub(super) enum Stdio {
    Given([OwnedFd; 3]),
    /// A terminal of the container's own.
    Terminal,
}

/// Becomes the container's first process. Returns why not, after which the child has to end.
pub(super) fn container(
    spec: &ContainerSpec,
    entrances: &[OwnedFd],
    given: &[OwnedFd],
    stdio: Stdio,
    report: BorrowedFd<'_>,
) -> Error {
    let prepare = || {
        rustix::process::setsid().context(|| "cannot lead a session".to_owned())?;
        rustix::process::umask(Mode::empty());
        enter_cgroup(entrances)?;
        namespaces::unshare(Namespaces::NEWCGROUP).context(|| "cannot make a cgroup namespace".to_owned())?;
        let root = build_root(spec, given)?;
        let streams = match stdio {
            Stdio::Given(streams) => (streams, None),
            Stdio::Terminal => {
                let pty = open_terminal(&root)?;
                bind_console(&root, &pty)?;
                terminal_streams(pty)?
            }
        };
        let user = find_user(&root, spec)?;
        if !spec.process.directory.is_empty() {
            root.make_directories(Path::new(&spec.process.directory), 0o755)
                .context(|| format!("cannot make the working directory {}", spec.process.directory))?;
        }
        if spec.root.readonly {
            mounts::set_attributes(root.fd(), false, Attributes::MOUNT_ATTR_RDONLY, None)
                .context(|| "cannot make the root readonly".to_owned())?;
        }
        set_oom_score(spec.process.oom_score_adj)?;
        mounts::pivot(root.fd()).context(|| "cannot change the root".to_owned())?;
        Ok((streams, user))
    };
    match prepare() {
        Ok(((streams, master), user)) => become_program(&spec.process, &user, streams, master, report),
        Err(error) => error,
    }
}

/// Becomes one more process of a container whose first process is `target`. The PID namespace is that of the fork.
pub(super) fn exec(
    process: &ProcessSpec,
    user: &User,
    target: BorrowedFd<'_>,
    entrances: &[OwnedFd],
    stdio: Stdio,
    report: BorrowedFd<'_>,
) -> Error {
    let prepare = || {
        rustix::process::setsid().context(|| "cannot lead a session".to_owned())?;
        enter_cgroup(entrances)?;
        set_oom_score(process.oom_score_adj)?;
        // Nobody inside may look at this process while it is still our program (CVE-2019-5736).
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .context(|| "cannot hide from the container".to_owned())?;
        namespaces::enter_of(target, Namespaces::NEWNS | Namespaces::NEWCGROUP)
            .context(|| "cannot join the container".to_owned())?;
        let root = Root::open(Path::new("/")).context(|| "cannot open the root".to_owned())?;
        match stdio {
            Stdio::Given(streams) => Ok((streams, None)),
            Stdio::Terminal => terminal_streams(open_terminal(&root)?),
        }
    };
    match prepare() {
        Ok((streams, master)) => become_program(process, user, streams, master, report),
        Err(error) => error,
    }
}

fn enter_cgroup(entrances: &[OwnedFd]) -> Result<()> {
    for entrance in entrances {
        rustix::io::write(entrance, b"0").context(|| "cannot enter the cgroup".to_owned())?;
    }
    Ok(())
}

/// Lowering the score needs CAP_SYS_RESOURCE, which a nested node lacks: then it stays as it is.
fn set_oom_score(score: i32) -> Result<()> {
    let file = rustix::fs::open("/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "cannot open oom_score_adj".to_owned())?;
    match rustix::io::write(&file, score.to_string().as_bytes()) {
        Ok(_) | Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error).context(|| format!("cannot set oom_score_adj to {score}")),
    }
}

/// Mounts the root with all that is below it, in a mount namespace that shares nothing with the node's.
fn build_root(spec: &ContainerSpec, given: &[OwnedFd]) -> Result<Root> {
    mounts::set_propagation(Path::new("/"), true, Propagation::Private)
        .context(|| "cannot separate the mounts from the node's".to_owned())?;
    let lower: Vec<&Path> = spec.root.lower.iter().map(PathBuf::as_path).collect();
    let overlay = mounts::overlay(&lower, Some((&spec.root.upper, &spec.root.work)), Attributes::empty())
        .context(|| "cannot mount the root".to_owned())?;
    mounts::attach_at(overlay.as_fd(), &spec.root.mount_point)
        .context(|| format!("cannot attach the root at {}", spec.root.mount_point.display()))?;
    let root = Root::from_fd(overlay);
    for mount in &spec.mounts {
        add_mount(&root, mount, given).map_err(|error| at(&mount.target, "cannot mount", error))?;
    }
    for device in &spec.devices {
        add_device(&root, device).map_err(|error| at(&device.path, "cannot make the device", error))?;
    }
    add_device_links(&root)?;
    for path in &spec.readonly_paths {
        make_readonly(&root, Path::new(path)).map_err(|error| at(Path::new(path), "cannot make readonly", error))?;
    }
    for path in &spec.masked_paths {
        mask(&root, Path::new(path)).map_err(|error| at(Path::new(path), "cannot mask", error))?;
    }
    Ok(root)
}

fn at(path: &Path, what: &str, source: io::Error) -> Error {
    Error::System { what: format!("{what} {}", path.display()), source }
}

fn add_mount(root: &Root, mount: &MountSpec, given: &[OwnedFd]) -> io::Result<()> {
    let made;
    let source = match &mount.source {
        MountSource::Given(number) => given
            .get(*number)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the server sent too few mounts"))?,
        MountSource::New { kind, options, attributes } => {
            let options: Vec<(&str, Option<&str>)> =
                options.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            made = mounts::new_filesystem(kind, &options, Attributes::from_bits_retain(*attributes))?;
            &made
        }
    };
    let target = if is_directory(source.as_fd())? {
        root.make_directories(&mount.target, 0o755)?
    } else {
        root.make_file(&mount.target, 0o644)?
    };
    mounts::attach(source.as_fd(), target.as_fd())
}

fn is_directory(fd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) == FileType::Directory)
}

fn add_device(root: &Root, device: &DeviceSpec) -> io::Result<()> {
    let (parent, name) = root.parent(&device.path)?;
    let kind = if device.block { FileType::BlockDevice } else { FileType::CharacterDevice };
    let number = rustix::fs::makedev(device.major, device.minor);
    match rustix::fs::mknodat(&parent, name, kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        // A nested node may not make device files, but has some to share.
        Err(rustix::io::Errno::PERM) => {
            let source = mounts::clone_path(&device.host_path, false)?;
            mounts::attach(source.as_fd(), root.make_file(&device.path, 0o644)?.as_fd())
        }
        Err(error) => Err(error.into()),
    }
}

/// The links that programs expect in every `/dev`.
fn add_device_links(root: &Root) -> Result<()> {
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    let dev = root.make_directories(Path::new("dev"), 0o755).context(|| "cannot open /dev".to_owned())?;
    for (name, target) in links {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error).context(|| format!("cannot link /dev/{name}")),
        }
    }
    Ok(())
}

/// A path that the image or kernel does not have needs no protection.
fn existing(root: &Root, path: &Path) -> io::Result<Option<OwnedFd>> {
    match root.handle(path) {
        Ok(handle) => Ok(Some(handle)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn make_readonly(root: &Root, path: &Path) -> io::Result<()> {
    let Some(handle) = existing(root, path)? else { return Ok(()) };
    let copy = mounts::clone_handle(handle.as_fd(), true)?;
    mounts::set_attributes(copy.as_fd(), true, Attributes::MOUNT_ATTR_RDONLY, None)?;
    mounts::attach(copy.as_fd(), handle.as_fd())
}

/// Directories are covered by an empty readonly one, files by `/dev/null`: the node's, checked to be it.
fn mask(root: &Root, path: &Path) -> io::Result<()> {
    let Some(handle) = existing(root, path)? else { return Ok(()) };
    let cover = if is_directory(handle.as_fd())? {
        mounts::new_filesystem(
            "tmpfs",
            &[("nr_blocks", Some("1")), ("nr_inodes", Some("1"))],
            Attributes::MOUNT_ATTR_RDONLY,
        )?
    } else {
        let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if rustix::fs::fstat(&null)?.st_rdev != rustix::fs::makedev(1, 3) {
            return Err(io::Error::other("the node's /dev/null is another device"));
        }
        mounts::clone_handle(null.as_fd(), false)?
    };
    mounts::attach(cover.as_fd(), handle.as_fd())
}

/// A terminal of the container's own devpts, opened without following anything that the container may have put.
fn open_terminal(root: &Root) -> Result<Pty> {
    let open = || {
        let ptmx = root.open_file(Path::new("dev/pts/ptmx"), OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW, 0)?;
        if rustix::fs::fstat(&ptmx)?.st_rdev != rustix::fs::makedev(5, 2) {
            return Err(io::Error::other("/dev/pts/ptmx is another device"));
        }
        linux::pty::open_at(ptmx)
    };
    open().context(|| "cannot open a terminal".to_owned())
}

fn bind_console(root: &Root, pty: &Pty) -> Result<()> {
    let bind = || {
        let slave = mounts::clone_handle(pty.slave.as_fd(), false)?;
        mounts::attach(slave.as_fd(), root.make_file(Path::new("dev/console"), 0o600)?.as_fd())
    };
    bind().context(|| "cannot set /dev/console up".to_owned())
}

fn terminal_streams(pty: Pty) -> Result<([OwnedFd; 3], Option<OwnedFd>)> {
    let copy = || pty.slave.try_clone().context(|| "cannot share the terminal".to_owned());
    linux::pty::control(&pty.slave).context(|| "cannot control the terminal".to_owned())?;
    Ok(([copy()?, copy()?, pty.slave], Some(pty.master)))
}

fn find_user(root: &Root, spec: &ContainerSpec) -> Result<User> {
    // Larger files are no files of users.
    const LIMIT: u64 = 4 << 20;
    let read = |path: &str| match root.read(Path::new(path), LIMIT) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    };
    users::resolve(&read("etc/passwd"), &read("etc/group"), &spec.user)
        .map_err(|error| Error::Refused(error.to_string()))
}

/// The last steps, in the only order that works: what needs privileges first, then giving them up, the filter, exec.
fn become_program(
    process: &ProcessSpec,
    user: &User,
    streams: [OwnedFd; 3],
    master: Option<OwnedFd>,
    report: BorrowedFd<'_>,
) -> Error {
    let confine = || {
        tell(report, &Report::Ready { user: user.clone(), descriptors: master.iter().count() }, master)?;
        let directory = if process.directory.is_empty() { "/" } else { &process.directory };
        rustix::process::chdir(directory).context(|| format!("cannot change to the working directory {directory}"))?;
        let [stdin, stdout, stderr] = &streams;
        processes::set_stdio([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
            .context(|| "cannot set the standard streams up".to_owned())?;
        if process.terminal {
            // Programs that drop privileges open their terminal again.
            _ = rustix::fs::fchown(stdin, Some(rustix::fs::Uid::from_raw(user.uid)), None);
        }
        linux::signals::reset().context(|| "cannot reset signals".to_owned())?;
        processes::close_on_exec_from(3).context(|| "cannot mark descriptors".to_owned())?;
        raise_file_limit();
        // The node does without them; what others run is to decide for itself.
        _ = rustix::thread::disable_transparent_huge_pages(false);
        rustix::process::umask(Mode::from_raw_mode(0o022));
        give_up_privileges(process, user)
    };
    match confine() {
        Ok(()) => run(process, user),
        Err(error) => error,
    }
}

/// As many files as the node allows, for that is what containers are used to.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // A failure leaves the limit that the node itself works with.
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn give_up_privileges(process: &ProcessSpec, user: &User) -> Result<()> {
    let keep = CapabilitySet::from_bits_retain(process.capabilities).intersection(capabilities::bounding());
    let ambient = CapabilitySet::from_bits_retain(process.ambient).intersection(keep);
    let filter = process.seccomp.as_deref().map(decode_filter).transpose()?;
    let install = |filter: &[linux::seccomp::Instruction]| {
        linux::seccomp::install(filter).context(|| "cannot install the seccomp filter".to_owned())
    };
    capabilities::limit_bounding(keep).context(|| "cannot limit capabilities".to_owned())?;
    processes::set_user(user.uid, user.gid, &user.groups, true)
        .context(|| format!("cannot become user {}", user.uid))?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context(|| "cannot set no_new_privs".to_owned())?;
    } else if let Some(filter) = &filter {
        // Without no_new_privs it takes CAP_SYS_ADMIN, which is about to go: changing the user kept it permitted.
        let all = rustix::thread::capabilities(None).context(|| "cannot read capabilities".to_owned())?.permitted;
        capabilities::set(all, CapabilitySet::empty()).context(|| "cannot raise capabilities".to_owned())?;
        install(filter)?;
    }
    capabilities::set(keep, ambient).context(|| "cannot set capabilities".to_owned())?;
    rustix::thread::set_keep_capabilities(false).context(|| "cannot reset keep_caps".to_owned())?;
    // Changing the user cleared it. A container does not outlive its shim, which alone knows how to end it.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context(|| "cannot tie the process to its shim".to_owned())?;
    match filter {
        Some(filter) if process.no_new_privileges => install(&filter),
        _ => Ok(()),
    }
}

fn decode_filter(text: &str) -> Result<Vec<linux::seccomp::Instruction>> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|error| Error::Protocol(format!("the seccomp filter is not base64: {error}")))?;
    Ok(crate::seccomp::from_bytes(&bytes))
}

/// Tells the shim. The descriptor that goes along is closed here afterwards.
fn tell(report: BorrowedFd<'_>, message: &Report, descriptor: Option<OwnedFd>) -> Result<()> {
    let mut outgoing = Outgoing::default();
    outgoing
        .push(message, descriptor.into_iter().collect())
        .and_then(|()| outgoing.send(report))
        .context(|| "cannot report to the shim".to_owned())
}

/// Tells the shim what failed, and ends.
pub(super) fn fail(report: BorrowedFd<'_>, error: &Error) -> ! {
    // Without a shim there is nobody to tell.
    _ = tell(report, &Report::Failed(error.to_string()), None);
    processes::exit_now(128)
}

/// Finds the program as a shell would, and becomes it. The words are those that people search the web for.
fn run(process: &ProcessSpec, user: &User) -> Error {
    let refuse = |text: String| Error::Refused(text);
    let Some(name) = process.arguments.first() else { return refuse("no command specified".to_owned()) };
    let mut environment = process.environment.clone();
    if !environment.iter().any(|it| it.starts_with("HOME=")) {
        environment.push(format!("HOME={}", user.home));
    }
    let strings =
        |list: &[String]| list.iter().map(|it| CString::new(it.as_str())).collect::<std::result::Result<Vec<_>, _>>();
    let (Ok(arguments), Ok(variables)) = (strings(&process.arguments), strings(&environment)) else {
        return refuse("a command or variable contains a NUL byte".to_owned());
    };
    let path = environment.iter().rev().find_map(|it| it.strip_prefix("PATH=")).unwrap_or_default();
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        path.split(':').map(|it| format!("{}/{name}", if it.is_empty() { "." } else { it })).collect()
    };
    let mut denied = false;
    for candidate in candidates {
        let Ok(program) = CString::new(candidate.as_str()) else { continue };
        let error = processes::exec(&program, &arguments, &variables);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !name.contains('/') => {}
            Some(libc::EACCES) if !name.contains('/') => denied = true,
            Some(libc::ENOENT) => return refuse(format!("exec: \"{name}\": stat {name}: no such file or directory")),
            Some(libc::EACCES) => return refuse(format!("exec: \"{name}\": permission denied")),
            Some(libc::ENOEXEC) => return refuse(format!("exec {candidate}: exec format error")),
            _ => return refuse(format!("exec {candidate}: {error}")),
        }
    }
    refuse(if denied {
        format!("exec: \"{name}\": permission denied")
    } else {
        format!("exec: \"{name}\": executable file not found in $PATH")
    })
}
