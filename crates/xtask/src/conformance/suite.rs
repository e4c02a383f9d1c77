//! Runs the suite by ginkgo and reads what came of each test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::command;
use super::selection::{Selection, Test};
use crate::tools;

/// How the suite is run.
pub(super) struct Run<'a> {
    pub(super) root: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) kubeconfig: &'a Path,
    pub(super) procs: u32,
    pub(super) repeat: u32,
    pub(super) limit: &'a str,
}

/// What came of a test that was run.
pub(super) struct Outcome {
    /// Why it failed, where.
    pub(super) failure: Option<String>,
    pub(super) took: Duration,
    pub(super) output: String,
}

/// By name of the test.
pub(super) type Results = BTreeMap<String, Outcome>;

const PARALLEL: &str = "parallel";
const SERIAL: &str = "serial";

/// What came of the last run, by the reports that it left in `folder`.
pub(super) fn last(folder: &Path, selection: &Selection) -> Result<Results> {
    let mut results = Results::new();
    for name in [PARALLEL, SERIAL] {
        let report = folder.join(name).with_extension("json");
        if report.exists() {
            results.extend(read(&report)?);
        }
    }
    let wanted: BTreeSet<&str> = selection.wanted().map(|test| test.name.as_str()).collect();
    results.retain(|name, _| wanted.contains(name.as_str()));
    Ok(results)
}

/// Runs what is wanted: first what may run side by side, then the rest by itself.
pub(super) fn run(run: &Run<'_>, selection: &Selection) -> Result<Results> {
    let mut results = Results::new();
    let (alone, beside): (Vec<&Test>, Vec<&Test>) = selection.wanted().partition(|test| test.runs_alone());
    for (tests, procs, name) in [(beside, run.procs, PARALLEL), (alone, 1, SERIAL)] {
        let report = run.folder.join(name).with_extension("json");
        let _ = std::fs::remove_file(&report);
        if tests.is_empty() {
            continue;
        }
        ginkgo(run, &tests, procs, &report)?;
        // Beside tests, a report has the suite's own steps.
        let tests: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        results.extend(read(&report)?.into_iter().filter(|(name, _)| tests.contains(name.as_str())));
    }
    Ok(results)
}

/// Ginkgo's own exit code says no more than its report, which is asked for the rest.
fn ginkgo(run: &Run<'_>, tests: &[&Test], procs: u32, report: &Path) -> Result<()> {
    let focus: Vec<String> = tests.iter().map(|test| regex::escape(&test.name)).collect();
    let file = |path: &Path| path.display().to_string();
    let mut ginkgo = command(tools::path(run.root, "ginkgo"));
    ginkgo
        .args(["--randomize-all", "--no-color", "--succinct", "--silence-skips", "--timeout", run.limit])
        .args([format!("--procs={procs}"), format!("--repeat={}", run.repeat), format!("--focus={}", focus.join("|"))])
        .arg(format!("--output-dir={}", file(run.folder)))
        .arg(format!("--json-report={}", report.file_name().context("a report has a name")?.display()))
        .arg(tools::path(run.root, "e2e.test"))
        .args(["--", "--provider=skeleton", "--num-nodes=2", "--disable-log-dump", "--dump-logs-on-failure=true"])
        .args([
            format!("--kubeconfig={}", file(run.kubeconfig)),
            format!("--kubectl-path={}", file(&tools::path(run.root, "kubectl"))),
        ])
        .current_dir(run.folder);
    ginkgo.status().context("cannot run ginkgo")?;
    ensure!(report.exists(), "ginkgo wrote no report: {} tells why, above", report.display());
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_text: String,
    state: String,
    /// Nanoseconds.
    run_time: u64,
    failure: Option<Failure>,
    #[serde(default)]
    captured_ginkgo_writer_output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
    location: Location,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Location {
    file_name: String,
    line_number: u32,
}

fn read(report: &Path) -> Result<Results> {
    let suites: Vec<Suite> = serde_json::from_reader(std::io::BufReader::new(File::open(report)?))
        .with_context(|| format!("reading {}", report.display()))?;
    let specs = suites.into_iter().flat_map(|suite| suite.spec_reports.unwrap_or_default());
    Ok(specs.filter_map(Spec::outcome).collect())
}

impl Spec {
    /// None for what was left out, or is no test. What the end of the suite's time cut off was not run to its end either:
    /// a test that exceeds its own time has `timedout`.
    fn outcome(self) -> Option<(String, Outcome)> {
        if self.leaf_node_text.is_empty() || matches!(self.state.as_str(), "skipped" | "pending" | "interrupted") {
            return None;
        }
        let mut name = self.container_hierarchy_texts.unwrap_or_default();
        name.push(self.leaf_node_text);
        let failure = (self.state != "passed").then(|| match self.failure {
            Some(failure) => {
                let file = failure.location.file_name.rsplit("/kubernetes/").next().unwrap_or_default().to_owned();
                format!("{} ({file}:{})", failure.message.trim(), failure.location.line_number)
            }
            None => self.state,
        });
        let took = Duration::from_nanos(self.run_time);
        Some((name.join(" "), Outcome { failure, took, output: self.captured_ginkgo_writer_output }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_limit_cut_off_was_not_run() {
        let check = |state: &str, expected: Option<bool>| {
            let spec: Spec = serde_json::from_value(json!({
                "ContainerHierarchyTexts": ["[sig-node]"], "LeafNodeText": "works", "State": state, "RunTime": 7,
                "Failure": {"Message": "no", "Location": {"FileName": "/kubernetes/test/e2e/a.go", "LineNumber": 3}},
            }))
            .unwrap();
            let passed = spec.outcome().map(|(_, outcome)| outcome.failure.is_none());
            assert_eq!(passed, expected, "{state}");
        };
        check("passed", Some(true));
        check("failed", Some(false));
        check("timedout", Some(false));
        check("panicked", Some(false));
        check("interrupted", None);
        check("skipped", None);
    }
}
