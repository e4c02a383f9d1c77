//! A number or a text, mostly a percentage: `maxSurge: 1`, `maxSurge: 25%`, `targetPort: http`.

use serde_json::Value;

use crate::validation::quote;

/// `intstr.IntOrString`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntOrString {
    Int(i32),
    String(String),
}

/// Why a value is not what was asked of it, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntOrStringError {
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotAPercentage,
    #[error("invalid value for IntOrString: invalid value {}: strconv.Atoi: parsing {}: invalid syntax",
        quote(.0), quote(.0.trim_end_matches('%')))]
    NotANumber(String),
}

impl IntOrString {
    /// Reads the JSON form; none for anything but text and 32-bit integers.
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::String(text.clone())),
            Value::Number(number) => number.as_i64().and_then(|n| i32::try_from(n).ok()).map(Self::Int),
            _ => None,
        }
    }

    pub fn to_json(&self) -> Value {
        match self {
            Self::Int(number) => Value::from(*number),
            Self::String(text) => Value::from(text.as_str()),
        }
    }

    /// A number from text that is one, as flags and annotations carry it.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::String(text.to_owned()), Self::Int)
    }

    /// The number itself, or the percentage of `total`.
    pub fn scaled(&self, total: i64, round_up: bool) -> Result<i64, IntOrStringError> {
        let text = match self {
            Self::Int(number) => return Ok(i64::from(*number)),
            Self::String(text) => text,
        };
        let number = text.strip_suffix('%').ok_or(IntOrStringError::NotAPercentage)?;
        let percent: i64 = number.parse().map_err(|_| IntOrStringError::NotANumber(text.clone()))?;
        let product = i128::from(percent) * i128::from(total);
        let down = product.div_euclid(100);
        let scaled = if round_up && product.rem_euclid(100) != 0 { down + 1 } else { down };
        Ok(scaled.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    }
}

impl std::fmt::Display for IntOrString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int(number) => number.fmt(f),
            Self::String(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn percentages_scale() {
        let scaled = |text: &str, total, up| IntOrString::parse(text).scaled(total, up).unwrap();
        assert_eq!((scaled("25%", 10, true), scaled("25%", 10, false)), (3, 2));
        assert_eq!((scaled("100%", 7, true), scaled("0%", 7, true)), (7, 0));
        assert_eq!((scaled("-25%", 10, true), scaled("-25%", 10, false)), (-2, -3));
        assert_eq!(scaled("3", 10, true), 3);
        assert_eq!(scaled("9223372036854775807%", i64::MAX, true), i64::MAX);
    }

    #[test]
    fn what_is_no_percentage_is_refused() {
        let refused = |text: &str| IntOrString::parse(text).scaled(1, true).unwrap_err().to_string();
        assert_eq!(refused("http"), "invalid value for IntOrString: invalid type: string is not a percentage");
        assert_eq!(
            refused("x%"),
            "invalid value for IntOrString: invalid value \"x%\": strconv.Atoi: parsing \"x\": invalid syntax"
        );
    }

    #[test]
    fn json_is_kept_as_it_is() {
        for value in [json!(8080), json!("http"), json!("25%")] {
            assert_eq!(IntOrString::from_json(&value).unwrap().to_json(), value);
        }
        assert_eq!(IntOrString::from_json(&json!(1.5)), None);
        assert_eq!(IntOrString::from_json(&json!(5_000_000_000_i64)), None);
        assert_eq!(IntOrString::from_json(&json!(null)), None);
    }
}
