//! Where in an expression something is wrong, shown as cel-go shows it: clients see these texts in the errors of
//! CustomResourceDefinitions and policies.

use std::fmt;

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// In bytes from the start of the expression; none for what concerns all of it.
    pub at: Option<u32>,
    pub message: String,
}

impl Issue {
    pub(super) fn new(at: u32, message: impl Into<String>) -> Self {
        Self { at: Some(at), message: message.into() }
    }

    pub(super) fn whole(message: impl Into<String>) -> Self {
        Self { at: None, message: message.into() }
    }
}

/// Why an expression does not compile, with the lines concerned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CompileErrors {
    pub issues: Vec<Issue>,
    text: String,
}

/// The most issues that are told.
const MAX_ISSUES: usize = 100;

impl CompileErrors {
    pub(super) fn new(source: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.at);
        let more = issues.len().saturating_sub(MAX_ISSUES);
        issues.truncate(MAX_ISSUES);
        let shown: Vec<String> = issues.iter().map(|issue| Shown { source, issue }.to_string()).collect();
        let mut text = shown.join("\n");
        if more > 0 {
            text.push_str(&format!("\n{more} more errors were truncated"));
        }
        Self { issues, text }
    }
}

struct Shown<'s> {
    source: &'s str,
    issue: &'s Issue,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(at) = self.issue.at else {
            return write!(out, "ERROR: <input>:-1:0: {}", self.issue.message);
        };
        let before = self.source.get(..at as usize).unwrap_or(self.source);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[start..].chars().count());
        if self.source.is_empty() {
            // No line is there to be shown, nor a first column.
            return write!(out, "ERROR: <input>:1:0: {}", self.issue.message);
        }
        write!(out, "ERROR: <input>:{line}:{}: {}", column + 1, self.issue.message)?;
        let shown = self.source[start..].split('\n').next().unwrap_or_default().replace('\t', " ");
        let mut characters = shown.chars();
        let dots: String = characters.by_ref().take(column).map(|c| if c.is_ascii() { '.' } else { '．' }).collect();
        let mark = if characters.next().is_none_or(|c| c.is_ascii()) { '^' } else { '＾' };
        write!(out, "\n | {shown}\n | {dots}{mark}")
    }
}
