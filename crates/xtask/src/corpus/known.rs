//! The differences that are meant: `tests/corpus/known.txt`, a line each: `CASE POINTER # REASON`.
//!
//! `*` in a case or a pointer stands for any text.

use std::cell::Cell;
use std::path::Path;

use anyhow::{Context, Result};

pub(super) struct Known {
    lines: Vec<Line>,
}

struct Line {
    text: String,
    case: String,
    pointer: String,
    used: Cell<bool>,
}

impl Known {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Self { lines: lines.map(Line::parse).collect::<Result<_>>()? })
    }

    /// True where `case` may differ at `pointer`.
    pub(super) fn permits(&self, case: &str, pointer: &str) -> bool {
        let mut found = false;
        for line in self.lines.iter().filter(|line| matches(&line.case, case) && matches(&line.pointer, pointer)) {
            line.used.set(true);
            found = true;
        }
        found
    }

    /// Lines that nothing needed.
    pub(super) fn unused(&self) -> Vec<&str> {
        self.lines.iter().filter(|line| !line.used.get()).map(|line| line.text.as_str()).collect()
    }
}

impl Line {
    fn parse(line: &str) -> Result<Self> {
        let wrong = || format!("known.txt: {line:?} is not CASE POINTER # REASON");
        let (place, reason) = line.split_once(" # ").with_context(wrong)?;
        anyhow::ensure!(!reason.trim().is_empty(), "known.txt: {line:?} gives no reason");
        // Cases are words with spaces, pointers are not.
        let (case, pointer) = place.trim().rsplit_once(' ').with_context(wrong)?;
        Ok(Self {
            text: line.to_owned(),
            case: case.trim().to_owned(),
            pointer: pointer.to_owned(),
            used: Cell::new(false),
        })
    }
}

/// True when `text` is `pattern`, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            // Every place where the rest of the pattern could begin.
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(tail, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_permits_what_it_names() {
        let known = Known::parse("# comment\npods/a case /metadata/* # theirs is random\n*/list */x # why\n").unwrap();
        assert!(known.permits("pods/a case", "/metadata/name"));
        assert!(!known.permits("pods/a case", "/spec"));
        assert_eq!(known.unused().len(), 1);
        assert!(known.permits("nodes/list", "/items/0/x"));
        assert!(!known.permits("nodes/list all", "/items/0/x"));
        assert!(known.unused().is_empty());
    }

    #[test]
    fn a_line_without_a_reason_is_refused() {
        assert!(Known::parse("pods/a /metadata\n").is_err());
        assert!(Known::parse("pods/a /metadata #  \n").is_err());
    }
}
