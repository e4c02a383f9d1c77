//! From one type to another.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Call, Outcome};
use crate::cel::eval::{EvalError, Evaluator};
use crate::cel::value::Value;

pub(super) fn call<'a>(eval: &mut Evaluator<'_, 'a>, call: &Call<'_, 'a>) -> Outcome<'a> {
    let [value] = call.args else {
        return Ok(None);
    };
    if call.is_member {
        return Ok(None);
    }
    match (call.name, value) {
        ("bytes", Value::String(text)) => eval.charge_text(text.len())?,
        ("string", Value::Bytes(bytes)) => eval.charge_text(bytes.len())?,
        _ => {}
    }
    Ok(match call.name {
        "int" => int(value)?,
        "uint" => uint(value)?,
        "double" => double(value)?,
        "string" => string(value)?,
        "bool" => boolean(value)?,
        "bytes" => match value {
            Value::Bytes(_) => Some(value.clone()),
            Value::String(text) => Some(Value::Bytes(text.as_bytes().into())),
            _ => None,
        },
        "duration" => match value {
            Value::Duration(_) => Some(value.clone()),
            Value::String(text) => Some(Value::Duration(text.parse().map_err(|error| wrong(format!("{error}")))?)),
            _ => None,
        },
        "timestamp" => match value {
            Value::Timestamp(_) => Some(value.clone()),
            Value::Int(seconds) => {
                Some(Value::Timestamp(jiff::Timestamp::from_second(*seconds).map_err(|_| EvalError::Overflow)?))
            }
            Value::String(text) => {
                Some(Value::Timestamp(crate::time::parse(text).map_err(|error| wrong(format!("{error}")))?))
            }
            _ => None,
        },
        _ => None,
    })
}

fn wrong(message: String) -> EvalError {
    EvalError::Conversion(message)
}

fn unfit(from: &str, to: &str) -> EvalError {
    EvalError::Conversion(format!("type conversion error from '{from}' to '{to}'"))
}

fn int<'a>(value: &Value<'a>) -> Outcome<'a> {
    let whole = match value {
        Value::Int(value) => *value,
        Value::Uint(value) => i64::try_from(*value).map_err(|_| EvalError::Overflow)?,
        Value::Double(value)
            if value.is_finite() && *value > -9.223_372_036_854_775e18 && *value < 9.223_372_036_854_775e18 =>
        {
            *value as i64
        }
        Value::Double(_) => return Err(EvalError::Overflow),
        Value::String(text) => text.parse().map_err(|_| unfit("string", "int"))?,
        Value::Timestamp(time) => time.as_second(),
        Value::Duration(span) => span.as_nanos(),
        _ => return Ok(None),
    };
    Ok(Some(Value::Int(whole)))
}

fn uint<'a>(value: &Value<'a>) -> Outcome<'a> {
    let whole = match value {
        Value::Uint(value) => *value,
        Value::Int(value) => u64::try_from(*value).map_err(|_| EvalError::UnsignedOverflow)?,
        Value::Double(value) if *value >= 0.0 && *value < 1.844_674_407_370_955e19 => *value as u64,
        Value::Double(_) => return Err(EvalError::UnsignedOverflow),
        Value::String(text) => text.parse().map_err(|_| unfit("string", "uint"))?,
        _ => return Ok(None),
    };
    Ok(Some(Value::Uint(whole)))
}

fn double<'a>(value: &Value<'a>) -> Outcome<'a> {
    let number = match value {
        Value::Double(value) => *value,
        Value::Int(value) => *value as f64,
        Value::Uint(value) => *value as f64,
        Value::String(text) => text.parse().map_err(|_| unfit("string", "double"))?,
        _ => return Ok(None),
    };
    Ok(Some(Value::Double(number)))
}

fn boolean<'a>(value: &Value<'a>) -> Outcome<'a> {
    Ok(match value {
        Value::Bool(_) => Some(value.clone()),
        Value::String(text) => Some(Value::Bool(match text.as_ref() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(unfit("string", "bool")),
        })),
        _ => None,
    })
}

fn string<'a>(value: &Value<'a>) -> Outcome<'a> {
    let text = match value {
        Value::String(_) => return Ok(Some(value.clone())),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => {
                let shown = STANDARD.encode(&bytes[..bytes.len().min(32)]);
                return Err(wrong(format!("invalid UTF-8 in bytes, cannot convert to string: {shown}")));
            }
        },
        Value::Timestamp(time) => time.to_string(),
        Value::Duration(span) => format!("{}s", seconds(span.as_nanos())),
        _ => return Ok(None),
    };
    Ok(Some(Value::String(Cow::Owned(text))))
}

/// A span in seconds without trailing zeros, as protobuf's JSON has it.
fn seconds(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (whole, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    match part {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{}", format!("{part:09}").trim_end_matches('0')),
    }
}
