//! Pseudo-terminals.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::Winsize;

/// Both ends of a new terminal.
#[derive(Debug)]
pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// A new terminal from the `devpts` that `ptmx` is of.
pub fn open_at(ptmx: OwnedFd) -> io::Result<Pty> {
    unlockpt(&ptmx)?;
    // The peer by ioctl and not by name: the name may mean another terminal here.
    let slave = ioctl_tiocgptpeer(&ptmx, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    Ok(Pty { master: ptmx, slave })
}

/// A new terminal from the caller's own `/dev/pts`.
pub fn open() -> io::Result<Pty> {
    open_at(openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?)
}

pub fn resize(master: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// Makes a terminal the controlling one of the calling process, which leads a session.
pub fn control(slave: &impl AsFd) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    let result = unsafe { libc::ioctl(slave.as_fd().as_raw_fd(), libc::TIOCSCTTY as _, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
