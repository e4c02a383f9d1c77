//! PID 1 of a node: mounts what a node needs, starts the server or agent and starts it again when it dies, reaps
//! what falls to it, hands signals on.
//!
//! Two things can be asked of it. SIGTERM and SIGINT: the service ends at once, and with the node all that it runs, to go on
//! when the node starts again. SIGPWR, or SIGRTMIN+3, by which systemd halts containers: the machine goes down, so the
//! service, which gets SIGPWR, first ends what it runs in good order. SIGUSR2 takes that back.
//!
//! Shims fall to it when the server dies, so that pods outlive the server. It has one thread and keeps no state:
//! what must survive it is nothing, for the kernel ends the node's processes with it.

mod mounts;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use mounts::prepare_mounts;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::processes::{self, Exit, Process};
use crate::signals::SignalFd;
use crate::spawn::Program;

/// The program that a node is for.
#[derive(Clone, Debug)]
pub struct Service {
    pub path: PathBuf,
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
}

/// After this long a service counts as having worked, and its next death is the first again.
const HEALTHY: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Runs a service until it was told to end ([`Order`]) and has ended; returns its exit code.
///
/// Must be called before the process has a second thread. `stdout` and `stderr` are the service's too.
pub fn run(service: &Service) -> io::Result<i32> {
    processes::become_subreaper()?;
    let signals = SignalFd::all()?;
    let mut init = Init { service, state: State::Waiting { until: Instant::now() }, delay: FIRST_DELAY };
    loop {
        if let Some(code) = init.start_if_due()? {
            return Ok(code);
        }
        wait(&signals, init.deadline())?;
        while let Some(signal) = signals.next()? {
            if signal == libc::SIGCHLD {
                continue;
            }
            if let Some(code) = init.on_signal(signal)? {
                return Ok(code);
            }
        }
        // SIGCHLDs merge: whoever has ended is asked for at every turn.
        while let Some((pid, exit)) = processes::reap_any()? {
            if let Some(code) = init.on_exit(pid, exit) {
                return Ok(code);
            }
        }
    }
}

#[derive(Debug)]
struct Init<'a> {
    service: &'a Service,
    state: State,
    delay: Duration,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Running { process: Process, since: Instant, stopping: bool },
}

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    /// The node is to end, or no longer.
    ends: Option<bool>,
    to_service: i32,
}

impl Order {
    fn of(signal: i32) -> Self {
        let halts = signal == libc::SIGPWR || signal == libc::SIGRTMIN() + 3;
        let ends = match signal {
            libc::SIGTERM | libc::SIGINT => Some(true),
            libc::SIGUSR2 => Some(false),
            _ => halts.then_some(true),
        };
        Self { ends, to_service: if halts { libc::SIGPWR } else { signal } }
    }
}

impl Init<'_> {
    /// Starts the service when its time has come. A program that cannot be started at all ends the node.
    fn start_if_due(&mut self) -> io::Result<Option<i32>> {
        let State::Waiting { until } = self.state else { return Ok(None) };
        if Instant::now() < until {
            return Ok(None);
        }
        let mut program = Program::new(&self.service.path);
        program.arguments.clone_from(&self.service.arguments);
        program.environment.clone_from(&self.service.environment);
        program.stdout = Some(rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?);
        program.stderr = Some(rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3)?);
        let process = program.start()?;
        self.state = State::Running { process, since: Instant::now(), stopping: false };
        Ok(None)
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Running { .. } => None,
        }
    }

    fn on_signal(&mut self, signal: i32) -> io::Result<Option<i32>> {
        let order = Order::of(signal);
        match &mut self.state {
            State::Waiting { .. } if order.ends == Some(true) => Ok(Some(0)),
            State::Waiting { .. } => Ok(None),
            State::Running { process, stopping, .. } => {
                *stopping = order.ends.unwrap_or(*stopping);
                process.signal(order.to_service)?;
                Ok(None)
            }
        }
    }

    fn on_exit(&mut self, pid: i32, exit: Exit) -> Option<i32> {
        let State::Running { process, since, stopping } = &self.state else { return None };
        if process.pid != pid {
            return None;
        }
        if *stopping {
            return Some(exit.code());
        }
        if since.elapsed() >= HEALTHY {
            self.delay = FIRST_DELAY;
        }
        tracing::warn!(code = exit.code(), delay = ?self.delay, "the node's service ended, starting it again");
        self.state = State::Waiting { until: Instant::now() + self.delay };
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
        None
    }
}

/// Waits for a signal, at most until `deadline`.
fn wait(signals: &SignalFd, deadline: Option<Instant>) -> io::Result<()> {
    let timeout = deadline.map(|it| {
        let left = it.saturating_duration_since(Instant::now());
        Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
    });
    let mut fds = [PollFd::new(signals, PollFlags::IN)];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Does nothing but reap, for ever: the first process of a PID namespace that several programs share.
///
/// Runs in a fork that becomes no program. It keeps none of the descriptors that it inherited, and ends with its
/// parent.
pub fn reap_forever() -> ! {
    let reap = || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        let signals = SignalFd::new(&[libc::SIGCHLD])?;
        processes::close_all_but(std::os::fd::AsFd::as_fd(&signals))?;
        loop {
            wait(&signals, None)?;
            while signals.next()?.is_some() {}
            while processes::reap_any()?.is_some() {}
        }
    };
    let result: io::Result<std::convert::Infallible> = reap();
    processes::exit_now(i32::from(result.is_err()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_learns_whether_the_machine_goes_down() {
        let halts = Order { ends: Some(true), to_service: libc::SIGPWR };
        assert_eq!(Order::of(libc::SIGPWR), halts);
        assert_eq!(Order::of(libc::SIGRTMIN() + 3), halts);
        assert_eq!(Order::of(libc::SIGTERM), Order { ends: Some(true), to_service: libc::SIGTERM });
        assert_eq!(Order::of(libc::SIGUSR2), Order { ends: Some(false), to_service: libc::SIGUSR2 });
        assert_eq!(Order::of(libc::SIGHUP), Order { ends: None, to_service: libc::SIGHUP });
    }
}
