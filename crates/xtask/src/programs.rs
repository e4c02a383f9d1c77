//! Programs that run beside a chore: servers, ours and upstream's. Each writes a log and ends with its value.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long a program may take until it serves.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// The lines of a log that tell why its program failed.
const LAST_LINES: usize = 15;
/// Nothing listens there; a server without a node publishes it as its own address.
pub(crate) const ADVERTISED: &str = "192.0.2.1";

/// A program that ends with this value.
pub(crate) struct Program(Child);

impl Program {
    /// Its output goes to `folder/NAME.log`.
    pub(crate) fn start(name: &str, program: &Path, folder: &Path, arguments: &[String]) -> Result<Self> {
        let log = File::create(log_path(folder, name))?;
        let child = command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Self(child))
    }

    /// A k3rs server without a node, below `folder`, whose name in logs is `k3rs`. `program` is k3rs, or k3rs-dev which
    /// contains it.
    pub(crate) fn k3rs(program: &Path, folder: &Path, port: u16, more: &[&str]) -> Result<Self> {
        // In place of the machine's own.
        let config = folder.join("config.yaml");
        File::create(&config)?;
        let contained = program.file_name().is_some_and(|name| name == "k3rs-dev").then(|| "k3rs".to_owned());
        let own = [
            "server".to_owned(),
            format!("--config={}", config.display()),
            format!("--data-dir={}", folder.join("k3rs").display()),
            format!("--write-kubeconfig={}", kubeconfig(folder).display()),
            format!("--https-listen-port={port}"),
            format!("--advertise-address={ADVERTISED}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--service-cidr=10.43.0.0/16".to_owned(),
            "--disable-agent".to_owned(),
        ];
        let arguments: Vec<String> =
            contained.into_iter().chain(own).chain(more.iter().map(ToString::to_string)).collect();
        Self::start("k3rs", program, folder, &arguments)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the certificates of [`Program::k3rs`] are.
pub(crate) fn tls_folder(folder: &Path) -> PathBuf {
    folder.join("k3rs/server/tls")
}

/// Where [`Program::k3rs`] writes how to reach it as its administrator.
pub(crate) fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}

pub(crate) fn log_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// What a program said last.
pub(crate) fn last_words(folder: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(log_path(folder, name)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Ports that nobody listens on; all are held until the last is found, so they differ.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        ensure!(Instant::now() < deadline, "{what} does not start");
        #[expect(clippy::disallowed_methods, reason = "a file that another program writes when it is ready")]
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// For those who ask a server whether it is ready: between two questions.
pub(crate) async fn pause() {
    #[expect(clippy::disallowed_methods, reason = "a foreign program tells its readiness by /readyz alone")]
    tokio::time::sleep(PAUSE).await;
}

#[expect(clippy::disallowed_methods, reason = "a chore of the project, not the product, runs other programs")]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}
