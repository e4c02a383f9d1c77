//! Functions over text. Positions count characters.

use super::{text, two};
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const STANDARD: &[Function] = &[
    Function {
        name: "contains",
        overloads: &["contains_string string.(string) -> bool"],
        run: |_, args| test(args, |text, part| text.contains(part)),
    },
    Function {
        name: "endsWith",
        overloads: &["ends_with_string string.(string) -> bool"],
        run: |_, args| test(args, |text, part| text.ends_with(part)),
    },
    Function {
        name: "startsWith",
        overloads: &["starts_with_string string.(string) -> bool"],
        run: |_, args| test(args, |text, part| text.starts_with(part)),
    },
];

pub(super) const EXTENSIONS: &[Function] = &[
    Function { name: "charAt", overloads: &["string_char_at_int string.(int) -> string"], run: char_at },
    Function {
        name: "indexOf",
        overloads: &[
            "string_index_of_string string.(string) -> int",
            "string_index_of_string_int string.(string, int) -> int",
        ],
        run: index_of,
    },
    Function {
        name: "lastIndexOf",
        overloads: &[
            "string_last_index_of_string string.(string) -> int",
            "string_last_index_of_string_int string.(string, int) -> int",
        ],
        run: last_index_of,
    },
    Function {
        name: "lowerAscii",
        overloads: &["string_lower_ascii string.() -> string"],
        run: |work, args| changed(work, args, str::to_ascii_lowercase),
    },
    Function {
        name: "upperAscii",
        overloads: &["string_upper_ascii string.() -> string"],
        run: |work, args| changed(work, args, str::to_ascii_uppercase),
    },
    Function {
        name: "trim",
        overloads: &["string_trim string.() -> string"],
        run: |work, args| changed(work, args, |text| text.trim().to_owned()),
    },
    Function {
        name: "replace",
        overloads: &[
            "string_replace_string_string string.(string, string) -> string",
            "string_replace_string_string_int string.(string, string, int) -> string",
        ],
        run: replace,
    },
    Function {
        name: "split",
        overloads: &[
            "string_split_string string.(string) -> list(string)",
            "string_split_string_int string.(string, int) -> list(string)",
        ],
        run: split,
    },
    Function {
        name: "substring",
        overloads: &[
            "string_substring_int string.(int) -> string",
            "string_substring_int_int string.(int, int) -> string",
        ],
        run: substring,
    },
    Function { name: "strings.quote", overloads: &["strings_quote (string) -> string"], run: quote },
    Function {
        name: "join",
        overloads: &["list_join list(string).() -> string", "list_join_string list(string).(string) -> string"],
        run: join,
    },
];

fn test<'a>(args: &[Value<'a>], holds: impl FnOnce(&str, &str) -> bool) -> Outcome<'a> {
    match two(args)? {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(holds(text, part))),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn changed<'a>(work: &mut Work, args: &[Value<'a>], change: impl FnOnce(&str) -> String) -> Outcome<'a> {
    let text = text(args)?;
    work.make_text(text.len())?;
    Ok(Value::text(change(text)))
}

fn out_of_range(index: i64) -> EvaluationError {
    EvaluationError::failed(format_args!("index out of range: {index}"))
}

/// The byte at which the character with this index starts; that behind the last is the end of the text.
fn byte_of(text: &str, index: i64) -> Result<usize, EvaluationError> {
    let at = usize::try_from(index).map_err(|_| out_of_range(index))?;
    let starts = text.char_indices().map(|(byte, _)| byte).chain(std::iter::once(text.len()));
    starts.into_iter().nth(at).ok_or_else(|| out_of_range(index))
}

fn char_at<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::Int(index)] = args else {
        return Err(EvaluationError::NoSuchOverload);
    };
    let found = text[byte_of(text, *index)?..].chars().next();
    Ok(Value::text(found.map(String::from).unwrap_or_default()))
}

/// Text, part and offset of the functions that look for a part.
fn search<'v>(args: &'v [Value<'_>]) -> Result<(&'v str, &'v str, Option<i64>), EvaluationError> {
    match args {
        [Value::String(text), Value::String(part)] => Ok((text, part, None)),
        [Value::String(text), Value::String(part), Value::Int(offset)] => Ok((text, part, Some(*offset))),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn index_of<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part, offset) = search(args)?;
    let offset = offset.unwrap_or(0);
    if part.is_empty() {
        return Ok(Value::Int(offset));
    }
    if offset < 0 {
        return Err(out_of_range(offset));
    }
    work.spend(text.len() as u64 / 16)?;
    let Ok(start) = byte_of(text, offset) else {
        return Ok(Value::Int(-1));
    };
    let found = text[start..].find(part);
    Ok(Value::Int(found.map_or(-1, |at| offset + text[start..start + at].chars().count() as i64)))
}

fn last_index_of<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, part, offset) = search(args)?;
    let length = text.chars().count() as i64;
    if part.is_empty() {
        return Ok(Value::Int(offset.unwrap_or(length)));
    }
    if offset.is_some_and(|offset| offset < 0) {
        return Err(out_of_range(offset.unwrap_or_default()));
    }
    if offset.is_some_and(|offset| offset >= length) {
        return Ok(Value::Int(-1));
    }
    work.spend(text.len() as u64 / 16)?;
    // A part found may start at the offset, and so reach beyond it.
    let end = match offset {
        Some(offset) => (byte_of(text, offset)? + part.len()).min(text.len()),
        None => text.len(),
    };
    let end = (end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    let starts_late = |at: &usize| offset.is_some_and(|offset| text[..*at].chars().count() as i64 > offset);
    let found = text[..end].rfind(part).filter(|at| !starts_late(at));
    Ok(Value::Int(found.map_or(-1, |at| text[..at].chars().count() as i64)))
}

fn replace<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, from, to, limit) = match args {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [Value::String(text), Value::String(from), Value::String(to), Value::Int(limit)] => (text, from, to, *limit),
        _ => return Err(EvaluationError::NoSuchOverload),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let count = text.matches(&**from).take(limit).count();
    work.make_text(text.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(Value::text(text.replacen(&**from, to, limit)))
}

fn split<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, separator, limit) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(limit)] => (text, separator, *limit),
        _ => return Err(EvaluationError::NoSuchOverload),
    };
    work.spend(text.len() as u64)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let parts: Vec<Value<'a>> = match (limit, separator.is_empty()) {
        (0, _) => Vec::new(),
        (_, false) => text.splitn(limit, &**separator).map(owned).collect(),
        (_, true) => characters(text, limit).map(owned).collect(),
    };
    Ok(Value::list(parts))
}

fn owned<'a>(part: &str) -> Value<'a> {
    Value::text(part.to_owned())
}

/// The characters of a text, the last with all that is left.
fn characters(text: &str, limit: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    let mut left = limit;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        left -= 1;
        let end = if left == 0 { rest.len() } else { first.len_utf8() };
        let part = &rest[..end];
        rest = &rest[end..];
        Some(part)
    })
}

fn substring<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, start, end) = match args {
        [Value::String(text), Value::Int(start)] => (text, *start, None),
        [Value::String(text), Value::Int(start), Value::Int(end)] => (text, *start, Some(*end)),
        _ => return Err(EvaluationError::NoSuchOverload),
    };
    if let Some(end) = end.filter(|end| start > *end) {
        let message = format!("invalid substring range. start: {start}, end: {end}");
        return Err(EvaluationError::failed(message));
    }
    let from = byte_of(text, start)?;
    let to = end.map_or(Ok(text.len()), |end| byte_of(text, end))?;
    work.make_text(to - from)?;
    Ok(Value::text(text[from..to].to_owned()))
}

fn quote<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(args)?;
    work.make_text(text.len() * 2)?;
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(Value::text(quoted))
}

fn join<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return Err(EvaluationError::NoSuchOverload),
    };
    let mut joined = String::new();
    for (at, item) in list.iter().enumerate() {
        let item = item?;
        let Value::String(part) = &item else {
            let message = format!("join: invalid input: {}", super::operators::shown(&item));
            return Err(EvaluationError::failed(message));
        };
        work.make_text(part.len() + separator.len())?;
        if at > 0 {
            joined.push_str(separator);
        }
        joined.push_str(part);
    }
    Ok(Value::text(joined))
}
