//! Signatures as the libraries write them: `string_char_at_int string.(int) -> string`.
//!
//! A capital letter is a parameter; `net.` starts opaque types, `kubernetes.` those that cel-go holds for objects.

use super::{Overload, Run};
use crate::cel::types::Type;

const WELL_FORMED: &str = "signatures are constants of the libraries, and a test reads them all";

pub(super) fn parse(text: &'static str, run: Run) -> Overload {
    let (id, rest) = text.split_once(' ').expect(WELL_FORMED);
    let (args, result) = rest.split_once(" -> ").expect(WELL_FORMED);
    let (target, listed) = match args.strip_prefix('(') {
        Some(listed) => (None, listed),
        None => args.split_once(".(").map(|(target, listed)| (Some(target), listed)).expect(WELL_FORMED),
    };
    let listed = listed.strip_suffix(')').expect(WELL_FORMED);
    let args = target.into_iter().chain(split(listed)).map(read).collect();
    Overload { id, is_member: target.is_some(), args, result: read(result), run }
}

fn read(text: &str) -> Type {
    let Some((name, of)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
        return named(text);
    };
    let mut of = split(of).map(read);
    let mut next = || of.next().expect(WELL_FORMED);
    match name {
        "list" => Type::list(next()),
        "map" => Type::map(next(), next()),
        "optional" => Type::optional(next()),
        "type" => Type::of_type(next()),
        _ => named(text),
    }
}

pub(super) fn named(name: &str) -> Type {
    match name {
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        _ if name.len() == 1 => Type::Param(name.into()),
        _ if name.starts_with("net.") => Type::Opaque(name.into(), [].into()),
        _ => Type::object(name),
    }
}

/// What commas separate, outside of parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0;
    let is_between = move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    text.split(is_between).map(str::trim).filter(|part| !part.is_empty())
}
