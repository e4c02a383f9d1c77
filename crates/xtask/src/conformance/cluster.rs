//! What the suite is run against: a cluster that is there, one that is made for it, or a bare server with nodes that
//! nobody runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::nodes::FakeNodes;
use super::swap::Swap;
use super::{Args, command, finished, images};
use crate::programs::{self, Program};

/// The cluster that the run makes, and deletes.
const NAME: &str = "conformance";

pub(super) enum Cluster {
    Given(PathBuf),
    Made { program: PathBuf, kubeconfig: PathBuf, keep: bool },
    Bare(Bare),
}

/// Dropped in this order.
pub(super) struct Bare {
    _nodes: FakeNodes,
    pub(super) swap: Option<Swap>,
    server: Program,
    folder: tempfile::TempDir,
}

impl Cluster {
    pub(super) fn of(root: &Path, folder: &Path, args: &Args) -> Result<Self> {
        if let Some(kubeconfig) = &args.kubeconfig {
            return Ok(Self::Given(std::path::absolute(kubeconfig)?));
        }
        let program = match &args.k3rs_dev {
            Some(program) => std::path::absolute(program)?,
            None => build_k3rs_dev(root)?,
        };
        if args.fake_nodes || args.swap {
            Bare::start(root, &program, args.swap).map(Self::Bare)
        } else {
            Self::make(root, folder, program, args)
        }
    }

    /// Two nodes that hold the suite's images.
    fn make(root: &Path, folder: &Path, program: PathBuf, args: &Args) -> Result<Self> {
        let archives = images::build(root, &folder.join("images"))?;
        let kubeconfig = folder.join("kubeconfig");
        let cluster = Self::Made { program: program.clone(), kubeconfig: kubeconfig.clone(), keep: args.keep };
        let k3rs_dev = |words: &[&str]| {
            let mut command = command(&program);
            command.args(words).env("KUBECONFIG", &kubeconfig);
            finished(&mut command)
        };
        k3rs_dev(&["cluster", "create", NAME, "--agents", "1", "--runtime", &args.runtime])?;
        for archive in &archives {
            k3rs_dev(&["image", "import", "--cluster", NAME, &archive.display().to_string()])?;
        }
        Ok(cluster)
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Given(kubeconfig) | Self::Made { kubeconfig, .. } => kubeconfig.clone(),
            Self::Bare(bare) => programs::kubeconfig(bare.folder.path()),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Self::Made { program, kubeconfig, keep: false } = self {
            let mut delete = command(program);
            delete.args(["cluster", "delete", NAME]).env("KUBECONFIG", kubeconfig);
            // It says itself what it could not delete.
            let _ = finished(&mut delete);
        }
    }
}

impl Bare {
    fn start(root: &Path, program: &Path, swap: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let [port] = programs::free_ports()?;
        let without: &[&str] = if swap { &["--disable-controller-manager", "--disable-scheduler"] } else { &[] };
        let server = Program::k3rs(program, folder.path(), port, without)?;
        let kubeconfig = programs::kubeconfig(folder.path());
        programs::wait_for("k3rs", || kubeconfig.exists())
            .with_context(|| programs::last_words(folder.path(), "k3rs"))?;
        let nodes = FakeNodes::start(&kubeconfig).with_context(|| programs::last_words(folder.path(), "k3rs"))?;
        let swap = if swap { Some(Swap::start(root, folder.path())?) } else { None };
        Ok(Self { _nodes: nodes, swap, server, folder })
    }

    /// What the server holds in memory now, in KiB: all of it, and its share.
    pub(super) fn memory(&self) -> Option<(u64, u64)> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.server.id())).ok()?;
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        Some((field("Rss:")?, field("Pss:")?))
    }
}

/// Builds `k3rs-dev` as released: the suite waits for no debug build.
fn build_k3rs_dev(root: &Path) -> Result<PathBuf> {
    let mut build = command("cargo");
    finished(build.args(["build", "--release", "--bin", "k3rs-dev"]).current_dir(root))?;
    let own = std::env::current_exe()?;
    let profiles = own.ancestors().nth(2).context("this program is in cargo's target directory")?;
    Ok(profiles.join("release/k3rs-dev"))
}
