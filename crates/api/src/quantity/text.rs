//! The text of quantities: parsing, and the canonical form.

use std::fmt;

use super::{Format, Quantity, QuantityError};

/// The finest exponent that is kept.
pub(super) const NANO: i32 = -9;

/// Digits that surely fit an i64; upstream keeps the text of such quantities if it is canonical enough.
const SMALL_DIGITS: usize = 18;

/// Exponents beyond this are refused: no resource has them, and arithmetic on them is only good for burning time.
const MAX_EXPONENT: i32 = 1_000;

const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// A text cut into its parts.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros; at least `0`.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// What a suffix multiplies with.
enum Scale {
    Decimal {
        exponent: i32,
        format: Format,
    },
    /// `1024^power`
    Binary {
        power: u32,
    },
}

pub(super) fn parse(text: &str) -> Result<Quantity, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let parts = split(text)?;
    match scale(parts.suffix)? {
        Scale::Decimal { exponent, format } => decimal(text, &parts, exponent, format),
        Scale::Binary { power } => binary(text, &parts, power),
    }
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, rest) = take(rest.trim_start_matches('0'), |c| c.is_ascii_digit());
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => take(rest, |c| c.is_ascii_digit()),
        None => ("", rest),
    };
    let (_, rest) = take(suffix, |c| "eEinumkKMGTP".contains(c));
    let (_, rest) = take(rest.strip_prefix(['-', '+']).unwrap_or(rest), |c| c.is_ascii_digit());
    if !rest.is_empty() {
        return Err(QuantityError::Format);
    }
    Ok(Parts { negative, whole: if whole.is_empty() { "0" } else { whole }, fraction, suffix })
}

fn take(text: &str, while_: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !while_(c)).unwrap_or(text.len()))
}

fn scale(suffix: &str) -> Result<Scale, QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
        return Ok(Scale::Decimal { exponent: *exponent, format: Format::DecimalSi });
    }
    if let Some(at) = BINARY.iter().position(|known| *known == suffix) {
        return Ok(Scale::Binary { power: at as u32 + 1 });
    }
    let exponent = suffix.strip_prefix(['e', 'E']).and_then(|text| text.parse::<i32>().ok());
    match exponent {
        Some(exponent) if exponent <= MAX_EXPONENT => {
            Ok(Scale::Decimal { exponent: exponent.max(-MAX_EXPONENT), format: Format::DecimalExponent })
        }
        _ => Err(QuantityError::Suffix),
    }
}

fn decimal(text: &str, parts: &Parts<'_>, exponent: i32, format: Format) -> Result<Quantity, QuantityError> {
    let digits = format!("{}{}", parts.whole, parts.fraction);
    let exponent = exponent.saturating_sub(i32::try_from(parts.fraction.len()).map_err(|_| QuantityError::Numeric)?);
    let kept = digits.len() <= SMALL_DIGITS
        && exponent >= NANO
        && exponent % 3 == 0
        && !digits.ends_with("000")
        && !digits.starts_with('0');

    // Digits finer than nano are cut off, and make the last that is kept one greater.
    let cut = usize::try_from(NANO.saturating_sub(exponent)).unwrap_or(0);
    let (digits, lost) = digits.split_at(digits.len().saturating_sub(cut));
    let significant = digits.trim_end_matches('0');
    let exponent = exponent.max(NANO).saturating_add((digits.len() - significant.len()) as i32);
    let mut mantissa = integer(significant)?;
    let mut quantity = Quantity { mantissa, exponent, format, text: None };
    if lost.bytes().any(|digit| digit != b'0') {
        mantissa = quantity.rounded(NANO).checked_add(1).ok_or(QuantityError::Numeric)?;
        quantity = Quantity { mantissa, exponent: NANO, format, text: None };
    }
    if parts.negative {
        quantity.mantissa = -quantity.mantissa;
    }
    if quantity.mantissa == 0 {
        quantity.exponent = 0;
    }
    quantity.text = kept.then(|| text.into());
    Ok(quantity)
}

fn binary(text: &str, parts: &Parts<'_>, power: u32) -> Result<Quantity, QuantityError> {
    let unit = 1i128 << (10 * power);
    let small = parts.fraction.is_empty() && parts.whole.len() + 3 * power as usize <= 14;
    // More digits than i64::MAX has are capped below in any case.
    let whole = match parts.whole.len() {
        0..=19 => integer(parts.whole)? * unit,
        _ => i128::MAX,
    };
    let limit = i128::from(i64::MAX);
    let mut quantity = if whole > limit {
        Quantity::new(limit, 0, Format::BinarySi)
    } else {
        let nano = fraction_nano(parts.fraction, unit)?;
        Quantity::new((whole * 1_000_000_000 + nano).min(limit * 1_000_000_000), NANO, Format::BinarySi)
    };
    if quantity.mantissa > 0 && quantity < Quantity::from_i64(1, Format::BinarySi) {
        quantity.format = Format::DecimalSi;
    }
    if parts.negative {
        quantity.mantissa = -quantity.mantissa;
    }
    let kept = small && integer(parts.whole)? & 7 != 0;
    quantity.text = kept.then(|| text.into());
    Ok(quantity)
}

/// `0.fraction * unit` in billionths, rounded up.
fn fraction_nano(fraction: &str, unit: i128) -> Result<i128, QuantityError> {
    let fraction = fraction.trim_end_matches('0');
    let (digits, rest) = fraction.split_at(fraction.len().min(18));
    let unit_of_digits = 10i128.pow(18 - digits.len() as u32);
    let scaled = integer(digits)? * unit_of_digits + i128::from(!rest.is_empty());
    Ok((scaled * unit + 999_999_999) / 1_000_000_000)
}

fn integer(digits: &str) -> Result<i128, QuantityError> {
    match digits {
        "" => Ok(0),
        _ => digits.parse().map_err(|_| QuantityError::Numeric),
    }
}

pub(super) fn write_canonical(quantity: &Quantity, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if quantity.is_zero() {
        return f.write_str("0");
    }
    if quantity.format == Format::BinarySi
        && let Some(value) = whole_value(quantity)
        && value.unsigned_abs() >= 1024
    {
        return write_binary(value, f);
    }
    write_decimal(quantity, f)
}

/// The amount in whole units, if it is one.
fn whole_value(quantity: &Quantity) -> Option<i128> {
    let value = quantity.rounded(0);
    (Quantity::new(value, 0, quantity.format) == *quantity).then_some(value)
}

fn write_binary(mut value: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut power = 0;
    while value % 1024 == 0 && power < BINARY.len() {
        value /= 1024;
        power += 1;
    }
    write!(f, "{value}{}", power.checked_sub(1).map_or("", |at| BINARY[at]))
}

fn write_decimal(quantity: &Quantity, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut mantissa, mut exponent) = (quantity.mantissa, quantity.exponent);
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    let largest = if quantity.format == Format::DecimalExponent { i32::MAX } else { 18 };
    // Zeros are appended as text, since the mantissa may have no room for them.
    let suffix = (exponent - exponent.rem_euclid(3)).min(largest);
    let zeros = (exponent - suffix) as usize;
    write!(f, "{mantissa}{:0<zeros$}", "")?;
    match quantity.format {
        Format::DecimalExponent if suffix == 0 => Ok(()),
        Format::DecimalExponent => write!(f, "e{suffix}"),
        _ => f.write_str(DECIMAL.iter().find(|(_, known)| *known == suffix).map_or("", |(text, _)| text)),
    }
}
