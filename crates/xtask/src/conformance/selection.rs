//! Which of the suite's tests are meant: by milestone, by pattern, or all.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use regex::Regex;

/// A conformance test, from `tests/conformance/milestones.tsv`.
pub(super) struct Test {
    pub(super) milestone: String,
    pub(super) name: String,
}

impl Test {
    /// The special interest group that owns it.
    pub(super) fn sig(&self) -> &str {
        self.name.strip_prefix("[sig-").and_then(|rest| rest.split(']').next()).unwrap_or("none")
    }

    /// Tests that upstream keeps from running beside others.
    pub(super) fn runs_alone(&self) -> bool {
        ["[Serial]", "[Slow]", "[Disruptive]"].iter().any(|label| self.name.contains(label))
    }
}

/// All tests, and those that are meant.
pub(super) struct Selection {
    pub(super) tests: Vec<Test>,
    wanted: Vec<bool>,
}

impl Selection {
    pub(super) fn read(root: &Path, focus: &[String]) -> Result<Self> {
        let path = root.join("tests/conformance/milestones.tsv");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, focus)
    }

    pub(super) fn parse(text: &str, focus: &[String]) -> Result<Self> {
        let tests = text.lines().filter(|line| !line.starts_with('#')).map(parse_line).collect::<Result<Vec<_>>>()?;
        let mut wanted = vec![focus.is_empty(); tests.len()];
        for term in focus {
            let pattern = Regex::new(term).with_context(|| format!("{term:?} is no milestone and no pattern"))?;
            let matches = |test: &Test| test.milestone == *term || pattern.is_match(&test.name);
            let mut found = false;
            for (test, wanted) in tests.iter().zip(&mut wanted) {
                *wanted |= matches(test);
                found |= matches(test);
            }
            ensure!(found, "{term:?} names no conformance test");
        }
        Ok(Self { tests, wanted })
    }

    /// Wants no longer what is not `recorded` as passed, or takes long.
    pub(super) fn keep_slice(&mut self, recorded: &BTreeSet<String>) {
        for (test, wanted) in self.tests.iter().zip(&mut self.wanted) {
            *wanted &= recorded.contains(&test.name) && !test.name.contains("[Slow]");
        }
    }

    pub(super) fn wanted(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().zip(&self.wanted).filter(|(_, wanted)| **wanted).map(|(test, _)| test)
    }
}

fn parse_line(line: &str) -> Result<Test> {
    let mut fields = line.split('\t');
    let mut field = || fields.next().with_context(|| format!("milestones.tsv has three fields a line: {line:?}"));
    let milestone = field()?.to_owned();
    field()?;
    Ok(Test { milestone, name: field()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "# facts\nM1\tno\t[sig-auth] A [Conformance]\nM2\tyes\t[sig-node] B [Serial] [Conformance]\n";

    fn names(focus: &[&str]) -> Vec<String> {
        let focus: Vec<String> = focus.iter().map(ToString::to_string).collect();
        Selection::parse(TESTS, &focus).unwrap().wanted().map(|test| test.name.clone()).collect()
    }

    #[test]
    fn a_milestone_or_a_pattern_selects() {
        assert_eq!(names(&[]).len(), 2);
        assert_eq!(names(&["M2"]), ["[sig-node] B [Serial] [Conformance]"]);
        assert_eq!(names(&["sig-auth.*A"]), ["[sig-auth] A [Conformance]"]);
        assert!(Selection::parse(TESTS, &["M9".to_owned()]).is_err());
    }

    #[test]
    fn a_slice_is_what_passed_and_is_not_slow() {
        let slow = "M1\tno\t[sig-auth] D [Slow] [Conformance]\n";
        let mut selection = Selection::parse(&format!("{TESTS}{slow}"), &["M1".to_owned()]).unwrap();
        selection.keep_slice(&selection.tests.iter().map(|test| test.name.clone()).collect());
        assert_eq!(selection.wanted().map(|test| test.sig()).collect::<Vec<_>>(), ["auth"]);
        selection.keep_slice(&BTreeSet::new());
        assert_eq!(selection.wanted().count(), 0);
    }

    #[test]
    fn labels_and_groups_are_read_from_the_name() {
        let selection = Selection::parse(TESTS, &[]).unwrap();
        assert_eq!(selection.tests[1].sig(), "node");
        assert!(selection.tests[1].runs_alone() && !selection.tests[0].runs_alone());
    }
}
