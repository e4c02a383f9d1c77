//! Regular expressions: RE2's, which `regex` shares but for details, in time linear in the text.

use regex::Regex;

use super::text;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const STANDARD: &[Function] = &[Function {
    name: "matches",
    overloads: &["matches (string, string) -> bool", "matches_string string.(string) -> bool"],
    run: matches,
}];

pub(super) const KUBERNETES: &[Function] = &[
    Function { name: "find", overloads: &["string_find_string string.(string) -> string"], run: find },
    Function {
        name: "findAll",
        overloads: &[
            "string_find_all_string string.(string) -> list(string)",
            "string_find_all_string_int string.(string, int) -> list(string)",
        ],
        run: find_all,
    },
];

/// The most bytes that a compiled expression may take.
const MAX_COMPILED: usize = 4 << 20;

/// Compiles an expression, or says why not, as Go's `regexp` begins to.
pub(in crate::cel) fn compile(pattern: &str) -> Result<Regex, String> {
    let compiled = regex::RegexBuilder::new(pattern).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
    compiled.map_err(|_| format!("error parsing regexp: invalid or unsupported syntax: `{pattern}`"))
}

fn pattern(args: &[Value<'_>]) -> Result<Regex, String> {
    match args.get(1) {
        Some(Value::String(pattern)) => compile(pattern),
        _ => Err("no such overload".to_owned()),
    }
}

fn matches<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    run("matches", &pattern(args).map_err(EvaluationError::failed)?, work, args)
}

fn find<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    run("find", &illegal(pattern(args))?, work, args)
}

fn find_all<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    run("findAll", &illegal(pattern(args))?, work, args)
}

fn illegal(compiled: Result<Regex, String>) -> Result<Regex, EvaluationError> {
    compiled.map_err(|error| EvaluationError::failed(format_args!("Illegal regex: {error}")))
}

/// The functions, with their expression compiled.
pub(in crate::cel) fn run<'a>(function: &str, pattern: &Regex, work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(args)?;
    work.spend(text.len() as u64 / 16)?;
    match function {
        "matches" => Ok(Value::Bool(pattern.is_match(text))),
        "find" => Ok(Value::text(pattern.find(text).map_or("", |found| found.as_str()).to_owned())),
        _ => {
            let limit = match args.get(2) {
                Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            let found = pattern.find_iter(text).take(limit);
            Ok(Value::list(found.map(|found| Value::text(found.as_str().to_owned())).collect()))
        }
    }
}
