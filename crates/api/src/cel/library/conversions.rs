//! Conversions between types.

use super::times;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "bool",
        overloads: &["bool_to_bool (bool) -> bool", "string_to_bool (string) -> bool"],
        run: to_bool,
    },
    Function {
        name: "bytes",
        overloads: &["bytes_to_bytes (bytes) -> bytes", "string_to_bytes (string) -> bytes"],
        run: to_bytes,
    },
    Function {
        name: "double",
        overloads: &[
            "double_to_double (double) -> double",
            "int64_to_double (int) -> double",
            "string_to_double (string) -> double",
            "uint64_to_double (uint) -> double",
        ],
        run: to_double,
    },
    Function {
        name: "duration",
        overloads: &[
            "duration_to_duration (duration) -> duration",
            "int64_to_duration (int) -> duration",
            "string_to_duration (string) -> duration",
        ],
        run: to_duration,
    },
    Function { name: "dyn", overloads: &["to_dyn (A) -> dyn"], run: to_dyn },
    Function {
        name: "int",
        overloads: &[
            "int64_to_int64 (int) -> int",
            "double_to_int64 (double) -> int",
            "duration_to_int64 (duration) -> int",
            "string_to_int64 (string) -> int",
            "timestamp_to_int64 (timestamp) -> int",
            "uint64_to_int64 (uint) -> int",
        ],
        run: to_int,
    },
    Function {
        name: "string",
        overloads: &[
            "string_to_string (string) -> string",
            "bool_to_string (bool) -> string",
            "bytes_to_string (bytes) -> string",
            "double_to_string (double) -> string",
            "duration_to_string (duration) -> string",
            "int64_to_string (int) -> string",
            "timestamp_to_string (timestamp) -> string",
            "uint64_to_string (uint) -> string",
        ],
        run: to_string,
    },
    Function {
        name: "timestamp",
        overloads: &[
            "timestamp_to_timestamp (timestamp) -> timestamp",
            "int64_to_timestamp (int) -> timestamp",
            "string_to_timestamp (string) -> timestamp",
        ],
        run: to_timestamp,
    },
    Function {
        name: "uint",
        overloads: &[
            "uint64_to_uint64 (uint) -> uint",
            "double_to_uint64 (double) -> uint",
            "int64_to_uint64 (int) -> uint",
            "string_to_uint64 (string) -> uint",
        ],
        run: to_uint,
    },
];

fn one<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v Value<'a>, EvaluationError> {
    args.first().ok_or(EvaluationError::NoSuchOverload)
}

fn wrong(value: &Value<'_>, to: &str) -> EvaluationError {
    EvaluationError::conversion(value.type_name(), to)
}

fn to_dyn<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    one(args).cloned()
}

fn to_bool<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match one(args)? {
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Value::Bool(false)),
            _ => Err(EvaluationError::conversion("string", "bool")),
        },
        other => Ok(other.clone()),
    }
}

fn to_bytes<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match one(args)? {
        Value::String(text) => Ok(Value::Bytes(text.as_bytes().into())),
        other => Ok(other.clone()),
    }
}

fn to_double<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let value = one(args)?;
    match value {
        Value::Int(number) => Ok(Value::Double(*number as f64)),
        Value::Uint(number) => Ok(Value::Double(*number as f64)),
        Value::String(text) => parse_double(text).map(Value::Double).ok_or_else(|| wrong(value, "double")),
        other => Ok(other.clone()),
    }
}

/// Reads a double as Go does: infinities and NaN by name, nothing blank about it, no overflow.
fn parse_double(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    let named = text.trim_start_matches(['+', '-']).starts_with(['i', 'I', 'n', 'N']);
    (number.is_finite() || named).then_some(number)
}

fn to_int<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let value = one(args)?;
    match value {
        Value::Double(number) => {
            // The bounds themselves are too large: doubles cannot tell them from what lies beyond.
            let is_within = *number > i64::MIN as f64 && *number < i64::MAX as f64;
            is_within.then_some(Value::Int(*number as i64)).ok_or_else(|| EvaluationError::failed("integer overflow"))
        }
        Value::Uint(number) => {
            i64::try_from(*number).map(Value::Int).map_err(|_| EvaluationError::failed("integer overflow"))
        }
        Value::Duration(nanos) => Ok(Value::Int(*nanos)),
        Value::Timestamp(time) => Ok(Value::Int(time.second())),
        Value::String(text) => text.parse().map(Value::Int).map_err(|_| wrong(value, "int")),
        other => Ok(other.clone()),
    }
}

fn to_uint<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let value = one(args)?;
    let overflow = || EvaluationError::failed("unsigned integer overflow");
    match value {
        Value::Double(number) => {
            let is_within = *number >= 0.0 && *number < u64::MAX as f64;
            is_within.then_some(Value::Uint(*number as u64)).ok_or_else(overflow)
        }
        Value::Int(number) => u64::try_from(*number).map(Value::Uint).map_err(|_| overflow()),
        Value::String(text) if !text.starts_with('+') => {
            text.parse().map(Value::Uint).map_err(|_| wrong(value, "uint"))
        }
        Value::String(_) => Err(wrong(value, "uint")),
        other => Ok(other.clone()),
    }
}

fn to_string<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    plain_text(one(args)?).map(Value::text)
}

/// The text that a value converts to.
pub(super) fn plain_text(value: &Value<'_>) -> Result<String, EvaluationError> {
    Ok(match value {
        Value::String(text) => text.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => double_text(*value),
        Value::Bytes(bytes) => String::from_utf8(bytes.to_vec())
            .map_err(|_| EvaluationError::failed("invalid UTF-8 in bytes, cannot convert to string"))?,
        Value::Duration(nanos) => times::duration_text(*nanos),
        Value::Timestamp(time) => time.to_string(),
        Value::Type(name) => name.to_string(),
        other => return Err(wrong(other, "string")),
    })
}

/// A double as Go's `%g` writes it: the fewest digits, with an exponent where it is below -4 or above 5.
pub(in crate::cel) fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    match (-4..6).contains(&exponent) {
        true => value.to_string(),
        false => format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs()),
    }
}

fn to_duration<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let value = one(args)?;
    match value {
        Value::Int(_) => Err(wrong(value, times::DURATION)),
        Value::String(text) => {
            let parsed: Result<crate::duration::Duration, _> = text.parse();
            parsed.map(|length| Value::Duration(length.as_nanos())).map_err(|_| wrong(value, times::DURATION))
        }
        other => Ok(other.clone()),
    }
}

fn to_timestamp<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let value = one(args)?;
    match value {
        Value::Int(seconds) => times::at_second(*seconds),
        Value::String(text) => {
            let time = times::parse(text).ok_or_else(|| wrong(value, times::TIMESTAMP))?;
            times::checked(time).map(Value::Timestamp)
        }
        other => Ok(other.clone()),
    }
}
