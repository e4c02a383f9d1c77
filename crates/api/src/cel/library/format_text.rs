//! `string.format`: a text with clauses, and the check of a constant one against its arguments' types.

use super::conversions::plain_text;
use super::times;
use crate::cel::declarations::Function;
use crate::cel::types::Type;
use crate::cel::value::{EvaluationError, List, Map, Value};
use crate::cel::work::{MAX_SIZE, Work};
use crate::validation::quote;

pub(super) const FUNCTIONS: &[Function] =
    &[Function { name: "format", overloads: &["string_format string.(list(dyn)) -> string"], run: format }];

/// The digits behind the point where none are asked for.
const PRECISION: usize = 6;

/// The most digits behind the point.
const MAX_PRECISION: usize = 1_000;

/// What stands in a format.
enum Part<'t> {
    Text(&'t str),
    Clause { letter: char, precision: usize },
}

/// Splits a format; ends with the error, if there is one, as nothing behind it is read.
fn parts(format: &str) -> impl Iterator<Item = Result<Part<'_>, String>> {
    let mut rest = format;
    std::iter::from_fn(move || {
        let end = rest.find('%').unwrap_or(rest.len());
        if end > 0 {
            let text = &rest[..end];
            rest = &rest[end..];
            return Some(Ok(Part::Text(text)));
        }
        let clause = rest.strip_prefix('%')?;
        if let Some(after) = clause.strip_prefix('%') {
            rest = after;
            return Some(Ok(Part::Text("%")));
        }
        let (read, part) = read_clause(clause);
        rest = if part.is_err() { "" } else { &clause[read..] };
        Some(part)
    })
}

/// Reads a clause behind its percent sign.
fn read_clause(text: &str) -> (usize, Result<Part<'_>, String>) {
    if text.is_empty() {
        return (0, Err("unexpected end of string".to_owned()));
    }
    let wrong = |what: String| (0, Err(format!("could not parse formatting clause: {what}")));
    let mut read = 0;
    let mut precision = PRECISION;
    if let Some(digits) = text.strip_prefix('.') {
        let length = digits.find(|c: char| !c.is_ascii_digit());
        let Some(length) = length else {
            return wrong("error while parsing precision: could not find end of precision specifier".to_owned());
        };
        let Ok(number) = digits[..length].parse::<usize>() else {
            let parsed = quote(&digits[..length]);
            let message = format!("strconv.Atoi: parsing {parsed}: invalid syntax");
            return wrong(format!(
                "error while parsing precision: error while converting precision to integer: {message}"
            ));
        };
        precision = number.min(MAX_PRECISION);
        read = 1 + length;
    }
    match text[read..].chars().next() {
        Some(letter @ ('s' | 'd' | 'f' | 'e' | 'b' | 'x' | 'X' | 'o')) => {
            (read + 1, Ok(Part::Clause { letter, precision }))
        }
        Some(other) => wrong(format!("unrecognized formatting clause \"{other}\"")),
        None => wrong("error while parsing precision: could not find end of precision specifier".to_owned()),
    }
}

fn format<'a>(work: &mut Work, args: &[Value<'a>]) -> Result<Value<'a>, EvaluationError> {
    let [Value::String(format), Value::List(values)] = args else {
        return Err(EvaluationError::NoSuchOverload);
    };
    let mut text = String::new();
    let mut next = 0;
    for part in parts(format) {
        match part {
            Ok(Part::Text(part)) => text.push_str(part),
            part => {
                let out_of_range = || EvaluationError::failed(format_args!("index {next} out of range"));
                let value = values.get(next).ok_or_else(out_of_range)??;
                let Part::Clause { letter, precision } = part.map_err(EvaluationError::failed)? else {
                    continue;
                };
                let before = text.len();
                clause(letter, precision, &value, &mut text)?;
                work.spend((text.len() - before) as u64)?;
                next += 1;
            }
        }
    }
    work.make_text(text.len())?;
    Ok(Value::text(text))
}

/// Who may be formatted how, as messages say it.
fn wrong_type(letter: char, name: &str) -> String {
    let rule = match letter {
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        'o' => "octal clause can only be used on integers",
        _ => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, \
             and timestamps"
        }
    };
    format!("error during formatting: {rule}, was given {name}")
}

fn clause(letter: char, precision: usize, value: &Value<'_>, into: &mut String) -> Result<(), EvaluationError> {
    let wrong = || EvaluationError::failed(wrong_type(letter, value.type_name()));
    let text = match (letter, value) {
        ('s', value) => return as_text(value, into),
        ('d', Value::Int(number)) => number.to_string(),
        ('d', Value::Uint(number)) => number.to_string(),
        ('f', value) => fixed(double(value).ok_or_else(wrong)?, precision),
        ('e', value) => scientific(double(value).ok_or_else(wrong)?),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', Value::Int(number)) => signed(*number, |number| format!("{number:b}")),
        ('b', Value::Uint(number)) => format!("{number:b}"),
        ('o', Value::Int(number)) => signed(*number, |number| format!("{number:o}")),
        ('o', Value::Uint(number)) => format!("{number:o}"),
        ('x' | 'X', Value::Int(number)) => signed(*number, |number| format!("{number:x}")),
        ('x' | 'X', Value::Uint(number)) => format!("{number:x}"),
        ('x' | 'X', Value::String(text)) => hex(text.as_bytes()),
        ('x' | 'X', Value::Bytes(bytes)) => hex(bytes),
        _ => return Err(wrong()),
    };
    into.push_str(&if letter == 'X' { text.to_ascii_uppercase() } else { text });
    Ok(())
}

fn signed(number: i64, write: impl FnOnce(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", write(number.unsigned_abs()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A double, or one of the doubles that only text can say.
fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn not_finite(number: f64) -> Option<String> {
    match number {
        _ if number.is_nan() => Some("NaN".to_owned()),
        f64::INFINITY => Some("∞".to_owned()),
        f64::NEG_INFINITY => Some("-∞".to_owned()),
        _ => None,
    }
}

/// As American English writes numbers: `1,234.500000`.
fn fixed(number: f64, precision: usize) -> String {
    not_finite(number).unwrap_or_else(|| {
        let text = format!("{number:.precision$}");
        let (sign, digits) = text.strip_prefix('-').map_or(("", &*text), |digits| ("-", digits));
        let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
        let mut grouped = String::new();
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        format!("{sign}{grouped}{fraction}")
    })
}

/// As American English writes powers: `1.052033×10⁰³`. Upstream takes the precision for a width, so it has no effect.
fn scientific(number: f64) -> String {
    not_finite(number).unwrap_or_else(|| {
        let text = format!("{number:.PRECISION$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(("", exponent), |exponent| ("⁻", exponent));
        let raised = |digit: char| "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().nth(digit.to_digit(10).unwrap_or_default() as usize);
        let power: String = format!("{exponent:0>2}").chars().filter_map(raised).collect();
        format!("{digits}×10{sign}{power}")
    })
}

fn as_text(value: &Value<'_>, into: &mut String) -> Result<(), EvaluationError> {
    match value {
        Value::List(list) => list_text(list, into),
        Value::Map(map) => map_text(map, into),
        Value::Null => {
            into.push_str("null");
            Ok(())
        }
        Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::Bool(_)
        | Value::String(_)
        | Value::Bytes(_)
        | Value::Timestamp(_)
        | Value::Duration(_)
        | Value::Type(_) => {
            into.push_str(&plain_text(value)?);
            Ok(())
        }
        other => Err(EvaluationError::failed(wrong_type('s', other.type_name()))),
    }
}

/// A value within a list or map, as the language writes it.
fn nested_text(value: &Value<'_>, into: &mut String) -> Result<(), EvaluationError> {
    if into.len() > MAX_SIZE {
        return Err(EvaluationError::CostExceeded);
    }
    let text = match value {
        Value::String(text) => quote(text),
        Value::Bytes(_) => format!("b{}", quote(&plain_text(value)?)),
        Value::Double(number) if number.is_nan() => "\"NaN\"".to_owned(),
        Value::Double(f64::INFINITY) => "\"+Inf\"".to_owned(),
        Value::Double(f64::NEG_INFINITY) => "\"-Inf\"".to_owned(),
        Value::Double(number) => format!("{number:.PRECISION$}"),
        Value::Timestamp(time) => format!("timestamp({})", quote(&time.to_string())),
        Value::Duration(nanos) => format!("duration({})", quote(&times::duration_text(*nanos))),
        other => return as_text(other, into),
    };
    into.push_str(&text);
    Ok(())
}

fn list_text(list: &List<'_>, into: &mut String) -> Result<(), EvaluationError> {
    into.push('[');
    for (at, item) in list.iter().enumerate() {
        into.push_str(if at > 0 { ", " } else { "" });
        nested_text(&item?, into)?;
    }
    into.push(']');
    Ok(())
}

fn map_text(map: &Map<'_>, into: &mut String) -> Result<(), EvaluationError> {
    let mut entries = Vec::with_capacity(map.len());
    for entry in map.iter() {
        let (key, value) = entry?;
        let (mut name, mut text) = (String::new(), String::new());
        nested_text(&key.to_value(), &mut name)?;
        nested_text(&value, &mut text)?;
        entries.push((name, text));
    }
    entries.sort();
    let shown: Vec<String> = entries.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    into.push('{');
    into.push_str(&shown.join(", "));
    into.push('}');
    Ok(())
}

/// What is wrong with a constant format for arguments of these types, and with which argument; none for the format.
pub(in crate::cel) fn check(format: &str, types: &[&Type]) -> Result<(), (Option<usize>, String)> {
    let mut next = 0;
    for part in parts(format) {
        if let Ok(Part::Text(_)) = part {
            continue;
        }
        if matches!(&part, Err(message) if message == "unexpected end of string") {
            return Err((None, "unexpected end of string".to_owned()));
        }
        let ty = types.get(next).ok_or_else(|| (None, format!("index {next} out of range")))?;
        if let Part::Clause { letter, .. } = part.map_err(|message| (None, message))?
            && !takes(letter, ty)
        {
            return Err((Some(next), wrong_type(letter, ty.runtime_name())));
        }
        next += 1;
    }
    match types.len() > next {
        true => {
            let message =
                format!("too many arguments supplied to string.format (expected {next}, got {})", types.len());
            Err((None, message))
        }
        false => Ok(()),
    }
}

fn takes(letter: char, ty: &Type) -> bool {
    match (letter, ty) {
        (_, Type::Dyn | Type::Any) => true,
        ('d' | 'o', ty) => matches!(ty, Type::Int | Type::Uint),
        ('f' | 'e', ty) => matches!(ty, Type::Double | Type::String),
        ('b', ty) => matches!(ty, Type::Int | Type::Uint | Type::Bool),
        ('x' | 'X', ty) => matches!(ty, Type::Int | Type::Uint | Type::String | Type::Bytes),
        (_, ty) => !matches!(ty, Type::Opaque(..) | Type::Object(_) | Type::Error | Type::Param(_)),
    }
}
