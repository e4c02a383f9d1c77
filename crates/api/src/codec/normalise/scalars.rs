//! Values without parts: which JSON they take, and their canonical text.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::error::{DecodeError, Place};
use crate::duration::Duration;
use crate::quantity::{Quantity, QuantityError};
use crate::schema::Shape;
use crate::time;

/// Go's standard encoding: padding required, stray bits behind the last byte overlooked.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Checks a scalar that is not null and brings it to the text or number that upstream writes.
pub(super) fn canonical(shape: &Shape, value: &mut Value, place: &Place<'_>) -> Result<(), DecodeError> {
    let wrong = |value: &Value| Err(DecodeError::wrong_type(value, go_type(shape), place));
    match (shape, &mut *value) {
        (Shape::Bool, Value::Bool(_)) | (Shape::String | Shape::IntOrString, Value::String(_)) => Ok(()),
        (Shape::Int32 | Shape::IntOrString, Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            if fits { Ok(()) } else { Err(DecodeError::wrong_number(value, go_type(shape), place)) }
        }
        (Shape::Int64, Value::Number(number)) => {
            if number.is_i64() {
                Ok(())
            } else {
                Err(DecodeError::wrong_number(value, go_type(shape), place))
            }
        }
        (Shape::Double, Value::Number(number)) => {
            // Go writes a whole float without a point. Beyond 2^53 an integer might say more than the float holds.
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0);
            if let Some(whole) = whole {
                *value = Value::from(whole as i64);
            }
            Ok(())
        }
        (Shape::Bytes, Value::String(text)) => canonical_base64(text),
        (Shape::Quantity, Value::String(_) | Value::Number(_)) => {
            *value = Value::from(Quantity::from_json(value)?.to_string());
            Ok(())
        }
        (Shape::Quantity, _) => Err(QuantityError::Format.into()),
        (Shape::Time, Value::String(text)) => {
            *value = time::canonical(text)?.map_or(Value::Null, Value::from);
            Ok(())
        }
        (Shape::MicroTime, Value::String(text)) => {
            *value = time::canonical_micro(text)?.map_or(Value::Null, Value::from);
            Ok(())
        }
        (Shape::Duration, Value::String(text)) => {
            *value = Value::from(text.parse::<Duration>()?.to_string());
            Ok(())
        }
        (_, value) => wrong(value),
    }
}

fn canonical_base64(text: &mut String) -> Result<(), DecodeError> {
    // Go skips line breaks inside base64.
    if text.contains(['\r', '\n']) {
        text.retain(|c| c != '\r' && c != '\n');
    }
    let bytes = BASE64.decode(&*text).map_err(|error| {
        DecodeError::Base64(match error {
            base64::DecodeError::InvalidByte(at, b'=') => {
                // Padding in its place is right: wrong is what follows it.
                let padding = text.bytes().skip(at).take_while(|byte| *byte == b'=').count();
                if (at + padding).is_multiple_of(4) { at + padding } else { at }
            }
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
        })
    })?;
    *text = BASE64.encode(bytes);
    Ok(())
}

/// What Go's errors call the type that a JSON value of this shape is decoded into.
pub(super) fn go_type(shape: &Shape) -> &'static str {
    match shape {
        Shape::Bool => "bool",
        Shape::Int32 | Shape::IntOrString => "int32",
        Shape::Int64 => "int64",
        Shape::Double => "float64",
        Shape::Bytes => "[]uint8",
        Shape::Quantity => "resource.Quantity",
        // The decoders of times and durations read a string first.
        _ => "string",
    }
}

/// Rounds a canonical quantity.
pub(super) fn in_thousandths(value: &mut Value) {
    if let Ok(quantity) = Quantity::from_json(value) {
        *value = Value::from(quantity.in_thousandths().to_string());
    }
}
