//! Signals as readable descriptors, and a clean slate for programs.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A descriptor that is readable when one of its signals is pending. The signals are blocked meanwhile.
#[derive(Debug)]
pub struct SignalFd {
    fd: OwnedFd,
}

impl SignalFd {
    /// For the calling thread, which should be the only one.
    pub fn new(signals: &[i32]) -> io::Result<Self> {
        Self::of(&set(signals))
    }

    /// For every signal that can be caught.
    pub fn all() -> io::Result<Self> {
        // SAFETY: all zeroes is a valid signal set, which sigfillset then writes.
        let signals = unsafe {
            let mut signals: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut signals);
            signals
        };
        Self::of(&signals)
    }

    fn of(signals: &libc::sigset_t) -> io::Result<Self> {
        // SAFETY: `signals` is a valid set; the old mask is not asked for.
        let fd = unsafe {
            if libc::sigprocmask(libc::SIG_BLOCK, signals, std::ptr::null_mut()) < 0 {
                return Err(io::Error::last_os_error());
            }
            libc::signalfd(-1, signals, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, which nobody else knows.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The next pending signal, if there is one.
    pub fn next(&self) -> io::Result<Option<i32>> {
        // SAFETY: all zeroes is valid for this plain structure.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` has room for the `size` bytes asked for.
        let length = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size) };
        if length == size.cast_signed() {
            return Ok(Some(info.ssi_signo.cast_signed()));
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error => Err(error),
        }
    }
}

impl std::os::fd::AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: all zeroes is a valid signal set; sigaddset refuses numbers that are none.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in signals {
            libc::sigaddset(&raw mut set, *number);
        }
        set
    }
}

/// Every signal unblocked and with its default effect: what a program expects that is about to be exec'ed.
pub fn reset() -> io::Result<()> {
    for number in 1..=64 {
        if number == libc::SIGKILL || number == libc::SIGSTOP {
            continue;
        }
        // The two numbers that the C library keeps for itself are refused; they stay default.
        // SAFETY: SIG_DFL is a valid disposition for every signal.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let empty = set(&[]);
    // SAFETY: `empty` is a valid set; the old mask is not asked for.
    let result = unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
