//! The two servers that are compared: k3rs, and upstream's kube-apiserver with an etcd.
//!
//! Both run without controllers, so that nothing but the corpus writes, and share certificates.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cases::Request;
use super::exchange::Client;
use crate::tools;

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// Nothing listens there; both servers publish it as their own.
const ADVERTISED: &str = "192.0.2.1";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(super) struct Pair {
    // In the order in which they are ended; the folder goes last.
    _upstream: Program,
    _etcd: Program,
    _ours: Program,
    ours: u16,
    upstream: u16,
    folder: tempfile::TempDir,
}

/// A program that ends with this value.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds `k3rs` as it stands in the tree, which puts it beside this program.
pub(super) fn build_k3rs(root: &Path) -> Result<PathBuf> {
    let status = command("cargo")
        .args(["build", "--quiet", "--package", "k3rs", "--bin", "k3rs"])
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(std::env::current_exe()?.with_file_name("k3rs"))
}

impl Pair {
    pub(super) fn start(root: &Path, k3rs: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [ours, upstream, etcd, peer] = free_ports()?;
        let program = start_k3rs(k3rs, folder.path(), ours)?;
        let tls = tls_folder(folder.path());
        wait_for("k3rs", || tls.join("client-admin.crt").exists())?;
        let database = start_etcd(root, folder.path(), etcd, peer)?;
        let reference = start_upstream(root, folder.path(), upstream, etcd)?;
        Ok(Self { _upstream: reference, _etcd: database, _ours: program, ours, upstream, folder })
    }

    /// Clients of both, when both are ready.
    pub(super) async fn clients(&self) -> Result<(Client, Client)> {
        let tls = tls_folder(self.folder.path());
        let clients = (Client::new("k3rs", self.ours, &tls)?, Client::new("upstream", self.upstream, &tls)?);
        for client in [&clients.0, &clients.1] {
            self.ready(client).await?;
        }
        Ok(clients)
    }

    async fn ready(&self, client: &Client) -> Result<()> {
        let request = Request {
            method: "GET".to_owned(),
            path: "/readyz".to_owned(),
            headers: Vec::new(),
            payload: Vec::new(),
            body: serde_json::Value::Null,
        };
        let deadline = Instant::now() + PATIENCE;
        while !client.send(&request).await.is_ok_and(|answer| answer.code == 200) {
            if Instant::now() > deadline {
                bail!("{} is not ready; its log ends with:\n{}", client.name, self.log(client.name));
            }
            #[expect(clippy::disallowed_methods, reason = "a foreign program tells its readiness by /readyz alone")]
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

fn tls_folder(folder: &Path) -> PathBuf {
    folder.join("k3rs/server/tls")
}

fn start_k3rs(program: &Path, folder: &Path, port: u16) -> Result<Program> {
    // In place of the machine's own.
    let config = folder.join("config.yaml");
    std::fs::File::create(&config)?;
    start(
        "k3rs",
        program,
        folder,
        &[
            "server".to_owned(),
            format!("--config={}", config.display()),
            format!("--data-dir={}", folder.join("k3rs").display()),
            format!("--write-kubeconfig={}", folder.join("kubeconfig").display()),
            format!("--https-listen-port={port}"),
            format!("--advertise-address={ADVERTISED}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--service-cidr=10.43.0.0/16".to_owned(),
            "--disable-agent".to_owned(),
            "--disable-scheduler".to_owned(),
            "--disable-controller-manager".to_owned(),
        ],
    )
}

fn start_etcd(root: &Path, folder: &Path, port: u16, peer: u16) -> Result<Program> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    start(
        "etcd",
        &tools::path(root, "etcd"),
        folder,
        &[
            format!("--data-dir={}", folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--unsafe-no-fsync".to_owned(),
        ],
    )
}

fn start_upstream(root: &Path, folder: &Path, port: u16, etcd: u16) -> Result<Program> {
    let tls = tls_folder(folder);
    let file = |flag: &str, name: &str| format!("--{flag}={}", tls.join(name).display());
    start(
        "upstream",
        &tools::path(root, "kube-apiserver"),
        folder,
        &[
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            format!("--secure-port={port}"),
            format!("--advertise-address={ADVERTISED}"),
            format!("--cert-dir={}", folder.join("upstream").display()),
            format!("--service-account-issuer={ISSUER}"),
            format!("--api-audiences={ISSUER},k3s"),
            file("client-ca-file", "client-ca.crt"),
            file("tls-cert-file", "serving-kube-apiserver.crt"),
            file("tls-private-key-file", "serving-kube-apiserver.key"),
            file("service-account-key-file", "serving-kube-apiserver.crt"),
            file("service-account-signing-key-file", "serving-kube-apiserver.key"),
            "--bind-address=127.0.0.1".to_owned(),
            "--service-cluster-ip-range=10.43.0.0/16".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--anonymous-auth=false".to_owned(),
            // Its controller would write to flow schemas, at moments of its own.
            "--enable-priority-and-fairness=false".to_owned(),
            "--allow-privileged=true".to_owned(),
        ],
    )
}

fn start(name: &str, program: &Path, folder: &Path, arguments: &[String]) -> Result<Program> {
    let log = std::fs::File::create(folder.join(format!("{name}.log")))?;
    let child = command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    Ok(Program(child))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a chore of the project, not the product: whole servers, ours and upstream's"
)]
fn command(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    std::process::Command::new(program)
}

/// Ports that nobody listens on; all are held until the last is found, so they differ.
fn free_ports() -> Result<[u16; 4]> {
    let mut held = Vec::new();
    let mut ports = [0; 4];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        ensure!(Instant::now() < deadline, "{what} does not start");
        #[expect(clippy::disallowed_methods, reason = "a file that another program writes when it is ready")]
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
