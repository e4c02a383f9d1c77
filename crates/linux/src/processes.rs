//! Processes by handle: forking into namespaces, waiting, signalling without racing a reused number.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::namespaces::Namespaces;

/// A process with a handle that stays right when its number is used again.
#[derive(Debug)]
pub struct Process {
    /// Its number in the caller's PID namespace.
    pub pid: i32,
    /// Readable once the process has ended.
    pub handle: OwnedFd,
}

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    Child,
    Parent(Process),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The code as shells and Kubernetes tell it: 128 + n for signal n.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// libc's constant does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into new namespaces, and on cgroup v2 directly into a cgroup.
///
/// Only a single-threaded process may do this: the child would find other threads' locks held for ever.
pub fn fork(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    if !single_threaded()? {
        return Err(io::Error::other("a process with threads cannot fork: spawn a program instead"));
    }
    let mut handle: libc::c_int = -1;
    let mut flags = u64::from(namespaces.bits()) | libc::CLONE_PIDFD as u64;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // SAFETY: all zeroes is valid for this plain structure.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.pidfd = (&raw mut handle) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = cgroup.map_or(0, |it| it.as_raw_fd().cast_unsigned().into());
    // SAFETY: without CLONE_VM and a stack of its own the child has a copy of everything, as after fork(2); there
    // is one thread, so no lock of the allocator or of std is held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(Fork::Child),
        pid if pid > 0 => {
            // SAFETY: the kernel has just put a new descriptor there, which nobody else knows.
            let handle = unsafe { OwnedFd::from_raw_fd(handle) };
            Ok(Fork::Parent(Process { pid: i32::try_from(pid).expect("a pid is an i32"), handle }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// True when the calling process has one thread.
pub fn single_threaded() -> io::Result<bool> {
    // One link each for the directory, its `.`, and every thread.
    Ok(rustix::fs::stat("/proc/self/task")?.st_nlink == 3)
}

impl Process {
    /// A handle on a running process.
    pub fn open(pid: i32) -> io::Result<Self> {
        let raw = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self { pid, handle: rustix::process::pidfd_open(raw, PidfdFlags::empty())? })
    }

    /// Sends a signal; 0 only asks whether the process is there. One that has ended is success.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        signal(self.handle.as_fd(), number)
    }

    /// How it ended, or `None` while it runs. Only its parent may ask, and is told once.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        wait_with(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::NOHANG).map(|it| it.map(|it| it.1))
    }

    /// Waits for it to end. Only its parent may.
    pub fn wait(&self) -> io::Result<Exit> {
        loop {
            if let Some((_, exit)) = wait_with(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::empty())? {
                return Ok(exit);
            }
        }
    }

    /// True once it has ended, reaped or not. Anybody may ask.
    pub fn ended(&self) -> io::Result<bool> {
        self.poll(Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    /// Blocks until it has ended. Anybody may.
    pub fn until_ended(&self) -> io::Result<()> {
        while !self.poll(None)? {}
        Ok(())
    }

    fn poll(&self, timeout: Option<&rustix::event::Timespec>) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, poll};
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        Ok(rustix::io::retry_on_intr(|| poll(&mut fds, timeout))? > 0)
    }
}

impl Process {
    /// Resolves once it has ended, reaped or not. Anybody may wait.
    pub async fn when_ended(&self) -> io::Result<()> {
        let handle = self.handle.try_clone()?;
        // SAFETY: an `OwnedFd` is the same open descriptor until it is dropped, which `AsyncFd` does last.
        let handle = unsafe { tokio::io::unix::AsyncFd::register(handle) }.map_err(io::Error::from)?;
        handle.readable().await.map(|_| ())
    }
}

/// Sends a signal to the process that a pidfd is of. One that has ended is success.
pub fn signal(process: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let (info, flags) = (std::ptr::null::<libc::siginfo_t>(), 0);
    // SAFETY: a null siginfo is allowed; the call touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, info, flags) };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// Reaps one child that has ended: its number and how; `None` when there is none at the moment.
pub fn reap_any() -> io::Result<Option<(i32, Exit)>> {
    match wait_with(WaitId::All, WaitIdOptions::NOHANG) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        done => done,
    }
}

fn wait_with(id: WaitId<'_>, options: WaitIdOptions) -> io::Result<Option<(i32, Exit)>> {
    let (kind, number) = match &id {
        WaitId::PidFd(fd) => (libc::P_PIDFD, fd.as_raw_fd().cast_unsigned()),
        _ => (libc::P_ALL, 0),
    };
    // SAFETY: all zeroes is valid for this plain structure.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        let flags = (options | WaitIdOptions::EXITED).bits().cast_signed();
        // SAFETY: `info` is a valid place for the answer.
        let result = unsafe { libc::waitid(kind, number, &raw mut info, flags) };
        if result == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: waitid filled `info` for SIGCHLD, or left it zeroed, for which these fields are zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit = if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
    Ok(Some((pid, exit)))
}

/// Becomes another program. Returns only the reason why not.
pub fn exec(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|it| it.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with null and point to strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Ends the process at once: no destructors, no exit handlers. What a forked child does.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit never returns and runs no code of ours.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on when the process becomes another program.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    const CLOEXEC: libc::c_uint = 4;
    // SAFETY: only sets a flag on descriptors, closes none.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOEXEC) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes `from` descriptors 0, 1 and 2.
pub fn set_stdio(from: [BorrowedFd<'_>; 3]) -> io::Result<()> {
    // Copies above the three first, for a source may be one of them.
    let mut copies = Vec::with_capacity(3);
    for fd in from {
        copies.push(rustix::io::fcntl_dupfd_cloexec(fd, 3)?);
    }
    for (number, copy) in copies.iter().enumerate() {
        // SAFETY: dup2 onto 0, 1 and 2, which no `OwnedFd` of this process owns.
        let result = unsafe { libc::dup2(copy.as_raw_fd(), i32::try_from(number).expect("below three")) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Takes descriptor 0 as one's own; afterwards `/dev/null` is there.
pub fn take_stdin() -> io::Result<OwnedFd> {
    let taken = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    // SAFETY: dup2 onto 0, which no `OwnedFd` of this process owns.
    if unsafe { libc::dup2(null.as_raw_fd(), 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(taken)
}

/// User, group and supplementary groups of the calling thread, for good. Capabilities survive when `keep`.
pub fn set_user(uid: u32, gid: u32, groups: &[u32], keep: bool) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    rustix::thread::set_keep_capabilities(keep)?;
    let groups: Vec<Gid> = groups.iter().map(|it| Gid::from_raw(*it)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let gid = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(uid);
    Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
}

/// Children whose parents end become children of the calling process.
pub fn become_subreaper() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Pid::from_raw(1))?)
}

/// Closes every descriptor but one, in a fork that never returns to the code that owned them.
pub(crate) fn close_all_but(keep: BorrowedFd<'_>) -> io::Result<()> {
    let keep = keep.as_raw_fd().cast_unsigned();
    for (first, last) in [(0, keep.checked_sub(1)), (keep + 1, Some(u32::MAX))] {
        let Some(last) = last else { continue };
        // SAFETY: the caller runs in a fork of its own that uses no other descriptor from here on.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
