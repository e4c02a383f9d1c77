//! Semantic versions (semver.org 2.0.0), as the Go package blang/semver reads them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::text;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::validation::quote;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "semver",
        overloads: &[
            "string_to_semver (string) -> kubernetes.Semver",
            "string_bool_to_semver (string, bool) -> kubernetes.Semver",
        ],
        run: |_, args| read(args).map(|version| Value::Semver(Arc::new(version))),
    },
    Function {
        name: "isSemver",
        overloads: &["is_semver_string (string) -> bool", "is_semver_string_bool (string, bool) -> bool"],
        run: |_, args| Ok(Value::Bool(read(args).is_ok())),
    },
    Function {
        name: "isGreaterThan",
        overloads: &["semver_is_greater_than kubernetes.Semver.(kubernetes.Semver) -> bool"],
        run: |_, args| Ok(Value::Bool(compare(args)?.is_gt())),
    },
    Function {
        name: "isLessThan",
        overloads: &["semver_is_less_than kubernetes.Semver.(kubernetes.Semver) -> bool"],
        run: |_, args| Ok(Value::Bool(compare(args)?.is_lt())),
    },
    Function {
        name: "compareTo",
        overloads: &["semver_compare_to kubernetes.Semver.(kubernetes.Semver) -> int"],
        run: |_, args| Ok(Value::Int(compare(args)? as i64)),
    },
    Function {
        name: "major",
        overloads: &["semver_major kubernetes.Semver.() -> int"],
        run: |_, args| number(args, 0),
    },
    Function {
        name: "minor",
        overloads: &["semver_minor kubernetes.Semver.() -> int"],
        run: |_, args| number(args, 1),
    },
    Function {
        name: "patch",
        overloads: &["semver_patch kubernetes.Semver.() -> int"],
        run: |_, args| number(args, 2),
    },
];

/// A version. What was built from does not count when versions are compared.
#[derive(Clone, Debug)]
pub struct Semver {
    /// Major, minor, patch.
    numbers: [u64; 3],
    prerelease: Vec<Identifier>,
    build: Vec<String>,
}

/// A part of a prerelease. Numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        // A prerelease comes before what it leads to.
        let stage = self.prerelease.is_empty().cmp(&other.prerelease.is_empty());
        self.numbers.cmp(&other.numbers).then(stage).then_with(|| self.prerelease.cmp(&other.prerelease))
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Semver {}

impl fmt::Display for Semver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(out, "{major}.{minor}.{patch}")?;
        for (at, identifier) in self.prerelease.iter().enumerate() {
            out.write_str(if at == 0 { "-" } else { "." })?;
            match identifier {
                Identifier::Number(number) => write!(out, "{number}")?,
                Identifier::Word(word) => out.write_str(word)?,
            }
        }
        match self.build.is_empty() {
            true => Ok(()),
            false => write!(out, "+{}", self.build.join(".")),
        }
    }
}

fn read(args: &[Value<'_>]) -> Result<Semver, EvaluationError> {
    let text = text(args)?;
    let parsed = match args.get(1) {
        Some(Value::Bool(true)) => normalised(text).and_then(|text| parse(&text)),
        _ => parse(text),
    };
    parsed.map_err(EvaluationError::failed)
}

fn first<'v>(args: &'v [Value<'_>]) -> Result<&'v Semver, EvaluationError> {
    match args.first() {
        Some(Value::Semver(version)) => Ok(version),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvaluationError> {
    let Some(other) = args.get(1..) else {
        return Err(EvaluationError::NoSuchOverload);
    };
    Ok(first(args)?.cmp(first(other)?))
}

fn number<'a>(args: &[Value<'a>], at: usize) -> Outcome<'a> {
    Ok(Value::Int(first(args)?.numbers[at] as i64))
}

/// The text without a leading `v`, without leading zeros, and with all three numbers.
fn normalised(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

fn without_zeros(part: &str) -> String {
    if part.len() < 2 {
        return part.to_owned();
    }
    let trimmed = part.trim_start_matches('0');
    match trimmed.starts_with(|c: char| c.is_ascii_digit()) {
        true => trimmed.to_owned(),
        false => format!("0{trimmed}"),
    }
}

fn parse(text: &str) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let [major, minor, rest] = parts[..] else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let major = whole(major, "major", "Major")?;
    let minor = whole(minor, "minor", "Minor")?;
    let (rest, build) = rest.split_once('+').map_or((rest, None), |(rest, build)| (rest, Some(build)));
    let (patch, prerelease) = rest.split_once('-').map_or((rest, None), |(patch, stage)| (patch, Some(stage)));
    let patch = whole(patch, "patch", "Patch")?;
    let prerelease = prerelease.map(|text| text.split('.').map(identifier).collect::<Result<_, _>>());
    let build = build.map(|text| text.split('.').map(build_part).collect::<Result<_, _>>());
    Ok(Semver {
        numbers: [major, minor, patch],
        prerelease: prerelease.transpose()?.unwrap_or_default(),
        build: build.transpose()?.unwrap_or_default(),
    })
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn whole(text: &str, name: &str, capital: &str) -> Result<u64, String> {
    if !is_number(text) {
        return Err(format!("Invalid character(s) found in {name} number {}", quote(text)));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{capital} number must not contain leading zeroes {}", quote(text)));
    }
    text.parse().map_err(|_| {
        let reason = if text.is_empty() { "invalid syntax" } else { "value out of range" };
        format!("strconv.ParseUint: parsing {}: {reason}", quote(text))
    })
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn identifier(text: &str) -> Result<Identifier, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if is_number(text) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {}", quote(text)));
        }
        let out_of_range = |_| format!("strconv.ParseUint: parsing {}: value out of range", quote(text));
        return text.parse().map(Identifier::Number).map_err(out_of_range);
    }
    match is_word(text) {
        true => Ok(Identifier::Word(text.to_owned())),
        false => Err(format!("Invalid character(s) found in prerelease {}", quote(text))),
    }
}

fn build_part(text: &str) -> Result<String, String> {
    match (text.is_empty(), is_word(text)) {
        (true, _) => Err("Build meta data is empty".to_owned()),
        (_, false) => Err(format!("Invalid character(s) found in build meta data {}", quote(text))),
        _ => Ok(text.to_owned()),
    }
}
