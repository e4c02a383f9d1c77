//! Text: the language's own functions, cel-go's strings extension, and Kubernetes's regular expressions.

use super::{Call, Outcome};
use crate::cel::eval::{EvalError, Evaluator, Result, no_overload};
use crate::cel::value::Value;

/// The most bytes that a compiled regular expression may take.
const MAX_REGEX_BYTES: usize = 1 << 20;

pub(super) fn call<'a>(eval: &mut Evaluator<'_, 'a>, call: &Call<'_, 'a>) -> Outcome<'a> {
    if let ("matches", [Value::String(text), Value::String(pattern)]) = (call.name, call.args) {
        return Ok(Some(Value::Bool(regex(eval, text, pattern)?.is_match(text))));
    }
    if !call.is_member {
        return Ok(None);
    }
    let [receiver, rest @ ..] = call.args else {
        return Ok(None);
    };
    match receiver {
        Value::String(text) => {
            match (call.name, rest) {
                ("size", _) => return Ok(None),
                ("startsWith" | "endsWith", [Value::String(part)]) => eval.charge_text(part.len())?,
                ("contains", [Value::String(part)]) => {
                    let tenths = |text: &str| (text.len() as u64).div_ceil(10);
                    eval.charge(tenths(text).saturating_mul(tenths(part)))?;
                }
                ("find" | "findAll", _) => {}
                _ => eval.charge_text(text.len())?,
            }
            of_text(eval, call.name, text, rest)
        }
        Value::List(list) if call.name == "join" => {
            let separator = match rest {
                [] => "",
                [Value::String(separator)] => separator,
                _ => return Ok(None),
            };
            let mut parts = Vec::with_capacity(list.len());
            for item in list.iter() {
                match item {
                    Value::String(text) => parts.push(text),
                    other => return Err(no_overload("join", &[other])),
                }
            }
            let length = parts.iter().map(|part| part.len() + separator.len()).sum();
            eval.charge_text(length)?;
            Ok(Some(Value::text(parts.join(separator))))
        }
        _ => Ok(None),
    }
}

fn of_text<'a>(eval: &mut Evaluator<'_, 'a>, name: &str, text: &str, rest: &[Value<'a>]) -> Outcome<'a> {
    Ok(Some(match (name, rest) {
        ("contains", [Value::String(part)]) => Value::Bool(text.contains(part.as_ref())),
        ("startsWith", [Value::String(part)]) => Value::Bool(text.starts_with(part.as_ref())),
        ("endsWith", [Value::String(part)]) => Value::Bool(text.ends_with(part.as_ref())),
        ("charAt", [Value::Int(at)]) => Value::text(substring(text, *at, at.saturating_add(1).min(length(text)))?),
        ("indexOf", [Value::String(part)]) => Value::Int(position(text, text.find(part.as_ref()))),
        ("indexOf", [Value::String(part), Value::Int(from)]) => {
            let start = byte_offset(text, *from)?;
            Value::Int(position(text, text[start..].find(part.as_ref()).map(|at| at + start)))
        }
        ("lastIndexOf", [Value::String(part)]) => Value::Int(position(text, text.rfind(part.as_ref()))),
        ("lastIndexOf", [Value::String(part), Value::Int(until)]) => {
            let end = (byte_offset(text, *until)? + part.len()).min(text.len());
            let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            Value::Int(position(text, text[..end].rfind(part.as_ref())))
        }
        ("lowerAscii", []) => Value::text(text.to_ascii_lowercase()),
        ("upperAscii", []) => Value::text(text.to_ascii_uppercase()),
        ("trim", []) => Value::text(text.trim().to_owned()),
        ("reverse", []) => Value::text(text.chars().rev().collect::<String>()),
        ("replace", [Value::String(old), Value::String(new)]) => replaced(eval, text, old, new, usize::MAX)?,
        ("replace", [Value::String(old), Value::String(new), Value::Int(count)]) => {
            replaced(eval, text, old, new, usize::try_from(*count).unwrap_or(usize::MAX))?
        }
        ("split", [Value::String(separator)]) => split(eval, text, separator, usize::MAX)?,
        ("split", [Value::String(separator), Value::Int(count)]) => {
            split(eval, text, separator, usize::try_from(*count).unwrap_or(usize::MAX))?
        }
        ("substring", [Value::Int(from)]) => Value::text(substring(text, *from, length(text))?),
        ("substring", [Value::Int(from), Value::Int(to)]) => Value::text(substring(text, *from, *to)?),
        ("find", [Value::String(pattern)]) => {
            let found = regex(eval, text, pattern)?.find(text).map(|found| found.as_str().to_owned());
            Value::text(found.unwrap_or_default())
        }
        ("findAll", [Value::String(pattern)]) => found(eval, text, pattern, usize::MAX)?,
        ("findAll", [Value::String(pattern), Value::Int(count)]) => {
            found(eval, text, pattern, usize::try_from(*count).unwrap_or(usize::MAX))?
        }
        _ => return Ok(None),
    }))
}

fn length(text: &str) -> i64 {
    text.chars().count() as i64
}

/// The index in characters of a byte offset; -1 for none.
fn position(text: &str, at: Option<usize>) -> i64 {
    at.map_or(-1, |at| length(&text[..at]))
}

fn byte_offset(text: &str, at: i64) -> Result<usize> {
    let wanted = usize::try_from(at).map_err(|_| EvalError::IndexOutOfRange(at))?;
    let offsets = text.char_indices().map(|(offset, _)| offset).chain([text.len()]);
    offsets.into_iter().nth(wanted).ok_or(EvalError::IndexOutOfRange(at))
}

fn substring(text: &str, from: i64, to: i64) -> Result<String> {
    let (start, end) = (byte_offset(text, from)?, byte_offset(text, to)?);
    match start <= end {
        true => Ok(text[start..end].to_owned()),
        false => Err(EvalError::Conversion(format!("invalid substring range. start: {from}, end: {to}"))),
    }
}

fn replaced<'a>(eval: &mut Evaluator<'_, 'a>, text: &str, old: &str, new: &str, count: usize) -> Result<Value<'a>> {
    let matches = text.matches(old).take(count).count();
    eval.charge_text(text.len().saturating_add(matches.saturating_mul(new.len())))?;
    Ok(Value::text(text.replacen(old, new, count)))
}

fn split<'a>(eval: &mut Evaluator<'_, 'a>, text: &str, separator: &str, count: usize) -> Result<Value<'a>> {
    if count == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let parts: Vec<Value<'a>> = match separator {
        "" => {
            let mut characters: Vec<String> = text.chars().map(String::from).collect();
            if characters.len() > count {
                let rest = characters.split_off(count - 1).concat();
                characters.push(rest);
            }
            characters.into_iter().map(Value::text).collect()
        }
        _ => text.splitn(count, separator).map(|part| Value::text(part.to_owned())).collect(),
    };
    eval.charge(parts.len() as u64)?;
    Ok(Value::list(parts))
}

fn found<'a>(eval: &mut Evaluator<'_, 'a>, text: &str, pattern: &str, count: usize) -> Result<Value<'a>> {
    let regex = regex(eval, text, pattern)?;
    let found: Vec<Value<'a>> =
        regex.find_iter(text).take(count).map(|found| Value::text(found.as_str().to_owned())).collect();
    eval.charge(found.len() as u64)?;
    Ok(Value::list(found))
}

/// Compiles a pattern, after charging for running it over the text.
fn regex(eval: &mut Evaluator<'_, '_>, text: &str, pattern: &str) -> Result<regex::Regex> {
    let cost = (1 + text.len() as u64).div_ceil(10).saturating_mul((pattern.len() as u64).div_ceil(4).max(1));
    eval.charge(cost)?;
    let built = regex::RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).build();
    built.map_err(|_| EvalError::Conversion(format!("error parsing regexp: `{pattern}`")))
}
