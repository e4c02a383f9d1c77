//! The programs that are measured, started as their users start them.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

/// Set by Ctrl-C: the step that is under way ends, the others are left out, and what was made is deleted.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Lets the first Ctrl-C or SIGTERM end the run in order.
pub(crate) fn heed_interrupts() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    });
    Ok(())
}

/// While this lives, this process and what it starts come before what else runs on the machine, as if they ran alone.
///
/// Where the kernel shares the processor out by sessions (sched(7), "autogroup"), a process's own priority counts only
/// within its session, so the session gets it, too.
pub(crate) struct Precedence {
    session: Option<String>,
}

const FIRST: i32 = -15;

impl Precedence {
    /// Without the right to it, figures are noisier, no more.
    pub(crate) fn take() -> Self {
        _ = rustix::process::setpriority_process(None, FIRST);
        let text = std::fs::read_to_string("/proc/self/autogroup").unwrap_or_default();
        let session = text.split_whitespace().last().map(str::to_owned);
        _ = set_session("self", &FIRST.to_string());
        Self { session }
    }

    /// The sessions of these processes come first, too, until they end.
    pub(crate) fn give(pids: &[i32]) {
        for pid in pids {
            _ = set_session(&pid.to_string(), &FIRST.to_string());
        }
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if let Some(before) = &self.session {
            _ = set_session("self", before);
        }
    }
}

fn set_session(process: &str, priority: &str) -> std::io::Result<()> {
    let path = format!("/proc/{process}/autogroup");
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(priority.as_bytes())
}

/// An error once the run is interrupted.
pub(crate) fn check_interrupted() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// A program with an environment of nothing but `PATH` and what is added.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "programs are measured as their users start them")]
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    command
}

/// Runs a program to its end; what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    check_interrupted()?;
    let name = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot start {}", name.display()))?;
    if !output.status.success() {
        let words: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
        let told = String::from_utf8_lossy(&output.stderr);
        let first = told.lines().next().unwrap_or("it says nothing");
        bail!("{} {} ended with {}: {first}", name.display(), words.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// What it says goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        check_interrupted()?;
        let name = command.get_program().to_owned();
        let log = std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command.stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self { child: child.with_context(|| format!("cannot start {}", name.display()))? })
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("the kernel's numbers fit")
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("process {} ended with {status}", self.child.id()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
