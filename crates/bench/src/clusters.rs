//! Clusters as a user makes them, with `k3rs-dev`, in a home of the benchmark's own that leaves nothing behind.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::http::Access;
use crate::programs::{check_interrupted, command, run};

/// Deletes its clusters when it is dropped.
pub(crate) struct Home {
    program: PathBuf,
    directory: tempfile::TempDir,
}

/// How a cluster came to be.
pub(crate) struct Creation {
    /// From the start of the command to its end.
    pub(crate) took: Duration,
    /// What was said when, in order.
    pub(crate) phases: Vec<(String, Duration)>,
}

impl Home {
    pub(crate) fn new(program: &Path, directory: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("home-").tempdir_in(directory)?;
        Ok(Self { program: program.to_owned(), directory })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(&self.program);
        command
            .args(words)
            .arg("--plain")
            .env("HOME", self.directory.path())
            .env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("K3RS_DEV_DATA", self.data());
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        run(&mut self.command(words))
    }

    /// `cluster create`, timed by its caller's clock.
    pub(crate) fn create(&self, name: &str, words: &[&str]) -> Result<Creation> {
        check_interrupted()?;
        let (began, clock) = (Instant::now(), SystemTime::now());
        let mut command = self.command(&[&["cluster", "create", name, "--timeout", "60s"], words].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut phases = Vec::new();
        let mut last = String::new();
        for line in BufReader::new(child.stderr.take().context("its standard error is a pipe")?).lines() {
            let line = line?;
            // What the node image and the kubeconfig are called says nothing of time.
            if let Some((subject, what)) = line.split_once(": ") {
                let what = what.rsplit_once(" (").map_or(what, |it| it.0);
                phases.push((format!("{subject} {what}"), began.elapsed()));
            }
            if last.is_empty() || line.starts_with("error:") {
                last = line;
            }
        }
        let status = child.wait()?;
        let took = began.elapsed();
        if !status.success() {
            bail!("{last}");
        }
        phases.extend(self.logged(name, clock));
        phases.sort_by_key(|it| it.1);
        Ok(Creation { took, phases })
    }

    /// When the server's process spoke first and when its API was ready, by its log.
    fn logged(&self, name: &str, began: SystemTime) -> Vec<(String, Duration)> {
        let nodes = self.data().join("clusters").join(name).join("nodes");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(nodes).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(entry.path().join("log")).unwrap_or_default();
            let node = entry.file_name().to_string_lossy().into_owned();
            let line = text.lines().find(|line| line.contains("API server is ready"));
            let at = line.and_then(logged_at);
            if let Some(at) = at.and_then(|at| SystemTime::from(at).duration_since(began).ok()) {
                found.push((format!("{node} API ready"), at));
            }
        }
        found
    }

    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        self.run(&["cluster", "delete", name]).map(|_| ())
    }

    pub(crate) fn access(&self, name: &str) -> Result<Access> {
        let path = self.data().join("clusters").join(name).join("kubeconfig");
        Access::from_kubeconfig(&std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?)
    }

    /// The processes of a native cluster's nodes: each node's PID 1, and what holds it on the host's side.
    pub(crate) fn nodes(&self, name: &str) -> Result<BTreeMap<String, NodeProcesses>> {
        let nodes = self.data().join("clusters").join(name).join("nodes");
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(nodes)? {
            let entry = entry?;
            let record: Value = serde_json::from_slice(&std::fs::read(entry.path().join("run"))?)?;
            let pid = |of: &str| record[of]["pid"].as_i64().and_then(|it| i32::try_from(it).ok());
            let found_both = pid("init").zip(pid("host")).map(|(init, host)| NodeProcesses { init, host });
            let node = entry.file_name().to_string_lossy().into_owned();
            found.insert(node, found_both.ok_or_else(|| anyhow!("the record of a running node has no processes"))?);
        }
        Ok(found)
    }
}

/// When a line of a node's log was written; the time, its first word, may be coloured.
fn logged_at(line: &str) -> Option<jiff::Timestamp> {
    let word = line.split_whitespace().next()?;
    word.trim_start_matches("\u{1b}[2m").trim_end_matches("\u{1b}[0m").parse().ok()
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeProcesses {
    pub(crate) init: i32,
    pub(crate) host: i32,
}

impl Drop for Home {
    fn drop(&mut self) {
        // An interrupt has stopped the measuring, not this.
        let deleted =
            self.command(&["cluster", "delete", "--all", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !deleted.is_ok_and(|it| it.success()) {
            crate::say("clusters of the benchmark are left: k3rs-dev cluster delete --all, with its K3RS_DEV_DATA");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_colours() {
        let at = logged_at("2026-11-21T12:26:10.297989Z  INFO k3rs::server: API server is ready");
        assert_eq!(at, logged_at("\u{1b}[2m2026-11-21T12:26:10.297989Z\u{1b}[0m \u{1b}[32m INFO\u{1b}[0m ready"));
        assert!(at.is_some());
        assert_eq!(logged_at("  panicked at"), None);
    }
}
