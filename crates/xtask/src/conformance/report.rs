//! What came of a run: a table by special interest group, what changed since the last record, what was slow.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::command;
use super::selection::Selection;
use super::suite::{Outcome, Results};

const PASSED: &str = "tests/conformance/passed.txt";
const PAGE: &str = "docs/conformance.md";
const SLOWEST: usize = 10;

pub(super) struct Report<'a> {
    selection: &'a Selection,
    results: &'a Results,
    /// What the last record says passed.
    before: BTreeSet<String>,
}

/// The tests that passed at the last record.
pub(super) fn recorded(root: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(root.join(PASSED)).with_context(|| format!("cannot read {PASSED}"))?;
    Ok(text.lines().map(str::to_owned).collect())
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    not_run: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(root: &Path, selection: &'a Selection, results: &'a Results) -> Result<Self> {
        Ok(Self { selection, results, before: recorded(root)? })
    }

    pub(super) fn all_passed(&self) -> bool {
        self.selection.wanted().all(|test| self.passed(&test.name))
    }

    /// Prints what came of the run and writes what failed, with all that it said, below `folder`.
    #[expect(clippy::print_stdout, reason = "the report is this command's output")]
    pub(super) fn print(&self, folder: &Path) -> Result<()> {
        let path = folder.join("failures.txt");
        let mut failures = File::create(&path)?;
        for (name, outcome) in self.failed() {
            let reason = outcome.failure.as_deref().unwrap_or_default();
            std::io::Write::write_fmt(
                &mut failures,
                format_args!("=== {name}\n{reason}\n--- what it wrote\n{}\n\n", outcome.output),
            )?;
        }
        println!("{}\nall that failed tests wrote: {}", self.text(), path.display());
        Ok(())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, outcome) in self.failed() {
            let reason: Vec<&str> = outcome.failure.as_deref().unwrap_or_default().lines().take(3).collect();
            text += &format!("FAILED {name}\n    {}\n", reason.join("\n    "));
        }
        let state = |name: &str| self.results.get(name).map(|outcome| outcome.failure.is_none());
        text += &format!("\n{}\nSlowest:\n", self.table(state));
        for (name, outcome) in self.slowest() {
            text += &format!("{:>6.1} s  {name}\n", outcome.took.as_secs_f64());
        }
        let new = self.results.keys().filter(|it| self.passed(it) && !self.before.contains(*it));
        let lost = self.failed().map(|(name, _)| name).filter(|it| self.before.contains(*it));
        text + &list("Pass now", new) + &list("No longer pass", lost)
    }

    /// Keeps the table and the names of what passed; tests that were not run stay as they were.
    pub(super) fn record(&self, root: &Path) -> Result<()> {
        let before = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
        let failed_before: BTreeSet<&str> = before.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        let state = |name: &str| match self.results.get(name) {
            Some(outcome) => Some(outcome.failure.is_none()),
            None if self.before.contains(name) => Some(true),
            None => failed_before.contains(name).then_some(false),
        };
        let tests = || self.selection.tests.iter().map(|test| test.name.as_str());
        let list = |wanted: bool, prefix: &str| -> String {
            tests().filter(|it| state(it) == Some(wanted)).map(|it| format!("{prefix}{it}\n")).collect()
        };
        File::create(root.join(PASSED))?.write_all(list(true, "").as_bytes())?;
        let commit = command("git").args(["rev-parse", "--short", "HEAD"]).current_dir(root).output()?;
        let commit = String::from_utf8(commit.stdout)?;
        let mut page = format!(
            "# Conformance\n\nUpstream's suite of Kubernetes 1.36.3, unchanged, by `cargo xtask conformance --record`. The last run \
             was of commit {}; tests that\nit left out stand as they stood before.\n\n{}",
            commit.trim(),
            self.table(state),
        );
        let failed = list(false, "- ");
        if !failed.is_empty() {
            page += &format!("\nFailed:\n\n{failed}");
        }
        std::fs::create_dir_all(root.join("docs"))?;
        File::create(root.join(PAGE))?.write_all(page.as_bytes())?;
        Ok(())
    }

    fn passed(&self, name: &str) -> bool {
        self.results.get(name).is_some_and(|outcome| outcome.failure.is_none())
    }

    fn failed(&self) -> impl Iterator<Item = (&String, &Outcome)> {
        self.results.iter().filter(|(_, outcome)| outcome.failure.is_some())
    }

    fn slowest(&self) -> Vec<(&String, &Outcome)> {
        let mut all: Vec<_> = self.results.iter().collect();
        all.sort_by_key(|(_, outcome)| std::cmp::Reverse(outcome.took));
        all.truncate(SLOWEST);
        all
    }

    /// In Markdown. `state` says of a test whether it passed, if it was run.
    fn table(&self, state: impl Fn(&str) -> Option<bool>) -> String {
        let mut counts: BTreeMap<&str, Count> = BTreeMap::new();
        let mut total = Count::default();
        for test in &self.selection.tests {
            for count in [counts.entry(test.sig()).or_default(), &mut total] {
                match state(&test.name) {
                    Some(true) => count.passed += 1,
                    Some(false) => count.failed += 1,
                    None => count.not_run += 1,
                }
            }
        }
        let mut table = String::from("| SIG | passed | failed | not run |\n| --- | ---: | ---: | ---: |\n");
        for (sig, count) in counts.iter().map(|(sig, count)| (*sig, count)).chain([("all", &total)]) {
            table += &format!("| {sig} | {} | {} | {} |\n", count.passed, count.failed, count.not_run);
        }
        table
    }
}

fn list<'a>(title: &str, names: impl Iterator<Item = &'a String>) -> String {
    let lines: String = names.fold(String::new(), |text, name| text + "  " + name + "\n");
    if lines.is_empty() { lines } else { format!("\n{title}:\n{lines}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn outcome(failure: Option<&str>) -> Outcome {
        Outcome { failure: failure.map(str::to_owned), took: Duration::from_millis(1500), output: String::new() }
    }

    #[test]
    fn the_report_counts_by_group_and_tells_what_changed() {
        let tests = "M1\tno\t[sig-auth] A\nM1\tno\t[sig-auth] B\nM2\tno\t[sig-cli] C\n";
        let selection = Selection::parse(tests, &[]).unwrap();
        let results = Results::from([
            ("[sig-auth] A".to_owned(), outcome(None)),
            ("[sig-auth] B".to_owned(), outcome(Some("timed out (test/e2e/auth/b.go:7)"))),
        ]);
        let before = BTreeSet::from(["[sig-auth] B".to_owned()]);
        let report = Report { selection: &selection, results: &results, before };
        assert!(!report.all_passed());
        expect_test::expect![[r#"
            FAILED [sig-auth] B
                timed out (test/e2e/auth/b.go:7)

            | SIG | passed | failed | not run |
            | --- | ---: | ---: | ---: |
            | auth | 1 | 1 | 0 |
            | cli | 0 | 0 | 1 |
            | all | 1 | 1 | 1 |

            Slowest:
               1.5 s  [sig-auth] A
               1.5 s  [sig-auth] B

            Pass now:
              [sig-auth] A

            No longer pass:
              [sig-auth] B
        "#]]
        .assert_eq(&report.text());
    }
}
