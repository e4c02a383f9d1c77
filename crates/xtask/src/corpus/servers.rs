//! The two servers that are compared: k3rs, and upstream's kube-apiserver with an etcd.
//!
//! Both run without controllers, so that nothing but the corpus writes, and share certificates.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::cases::Request;
use super::exchange::Client;
use crate::programs::{
    ADVERTISED, PATIENCE, Program, command, free_ports, kubeconfig, last_words, pause, tls_folder, wait_for,
};
use crate::tools;

/// Nothing but the corpus writes: priority and fairness would tell in flow schemas, at moments of its own, what it
/// makes of them.
const NOTHING_ELSE: [&str; 3] =
    ["--disable-scheduler", "--disable-controller-manager", "--kube-apiserver-arg=enable-priority-and-fairness=false"];
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) struct Pair {
    // In the order in which they are ended; the folder goes last.
    _upstream: Program,
    _etcd: Program,
    _ours: Program,
    ours: u16,
    upstream: u16,
    folder: tempfile::TempDir,
}

/// Builds `k3rs` as it stands in the tree, which puts it beside this program.
pub(crate) fn build_k3rs(root: &Path) -> Result<PathBuf> {
    let status = command("cargo")
        .args(["build", "--quiet", "--package", "k3rs", "--bin", "k3rs"])
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo build: {status}");
    Ok(std::env::current_exe()?.with_file_name("k3rs"))
}

impl Pair {
    pub(crate) fn start(root: &Path, k3rs: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [ours, upstream, etcd, peer] = free_ports()?;
        let program = Program::k3rs(k3rs, folder.path(), ours, &NOTHING_ELSE)?;
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
            self.await_ready(client).await?;
        }
        Ok(clients)
    }

    /// Waits until both are ready.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.clients().await.map(drop)
    }

    /// How to reach each as its administrator: ours, and upstream's, which knows the same certificates.
    pub(crate) fn kubeconfigs(&self) -> Result<[PathBuf; 2]> {
        let ours = kubeconfig(self.folder.path());
        let upstream = self.folder.path().join("kubeconfig-upstream");
        let text = std::fs::read_to_string(&ours)?;
        let text = text.replace(&format!(":{}", self.ours), &format!(":{}", self.upstream));
        File::create(&upstream)?.write_all(text.as_bytes())?;
        Ok([ours, upstream])
    }

    async fn await_ready(&self, client: &Client) -> Result<()> {
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
                let words = last_words(self.folder.path(), client.name);
                bail!("{} is not ready; its log ends with:\n{words}", client.name);
            }
            pause().await;
        }
        Ok(())
    }
}

fn start_etcd(root: &Path, folder: &Path, port: u16, peer: u16) -> Result<Program> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer}"));
    Program::start(
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
    Program::start(
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
            "--enable-priority-and-fairness=false".to_owned(),
            "--allow-privileged=true".to_owned(),
        ],
    )
}
