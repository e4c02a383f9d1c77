//! Quantities of resources: `100m`, `1.5Gi`, `12e6` (`k8s.io/apimachinery/pkg/api/resource`).
//!
//! A quantity is an exact decimal, never finer than nano, that remembers which family of suffixes it was written
//! with. Two quantities are equal when their values are; the canonical text is what is stored and served.

mod text;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// An exact amount and the family of suffixes in which it is written.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// The value is `mantissa * 10^exponent`.
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The text as parsed, where upstream writes it back unchanged.
    text: Option<Box<str>>,
}

/// A family of suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0, format: Format::DecimalSi, text: None };

    /// `mantissa * 10^exponent`; finer than nano is rounded up.
    pub fn new(mantissa: i128, exponent: i32, format: Format) -> Self {
        let mut quantity = Self { mantissa, exponent, format, text: None };
        if exponent < text::NANO {
            quantity.mantissa = quantity.rounded(text::NANO);
            quantity.exponent = text::NANO;
        }
        quantity
    }

    pub fn from_i64(value: i64, format: Format) -> Self {
        Self::new(i128::from(value), 0, format)
    }

    pub fn from_milli(value: i64, format: Format) -> Self {
        Self::new(i128::from(value), -3, format)
    }

    /// Reads the JSON form: text or a number.
    pub fn from_json(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    /// The same amount without memory of how it was written.
    pub fn canonical(mut self) -> Self {
        self.text = None;
        self
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// In whole units, rounded away from zero, saturating.
    pub fn value(&self) -> i64 {
        saturated(self.rounded(0))
    }

    /// In thousandths, rounded away from zero, saturating.
    pub fn milli_value(&self) -> i64 {
        saturated(self.rounded(-3))
    }

    /// The amount without what is finer than thousandths, rounded away from zero.
    pub fn in_thousandths(self) -> Self {
        match self.exponent < -3 {
            true => Self::new(self.rounded(-3), -3, self.format),
            false => self,
        }
    }

    /// In whole units, if that is exact.
    pub fn exact_i64(&self) -> Option<i64> {
        let value = i64::try_from(self.rounded(0)).ok()?;
        (*self == Self::from_i64(value, self.format)).then_some(value)
    }

    pub fn to_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// The sum, in the format of `self`, or of `other` if `self` is zero.
    ///
    /// Digits beyond the 38th are rounded up, and beyond what that holds the sum saturates.
    pub fn add(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        let (coarse, fine) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        let sum_at = |exponent| Some((coarse.at(exponent)?.checked_add(fine.rounded(exponent))?, exponent));
        let sum = (fine.exponent..=coarse.exponent).find_map(sum_at);
        let saturated = (coarse.mantissa.saturating_add(fine.rounded(coarse.exponent)), coarse.exponent);
        let (mantissa, exponent) = sum.unwrap_or(saturated);
        Self { mantissa, exponent, format, text: None }
    }

    /// The difference, with the rules of [`Quantity::add`].
    pub fn sub(&self, other: &Self) -> Self {
        self.add(&other.neg())
    }

    pub fn neg(&self) -> Self {
        Self { mantissa: self.mantissa.saturating_neg(), text: None, ..self.clone() }
    }

    /// The product, saturating.
    pub fn mul(&self, factor: i64) -> Self {
        Self { mantissa: self.mantissa.saturating_mul(i128::from(factor)), text: None, ..self.clone() }
    }

    /// The mantissa at an exponent not above its own; none when it has too many digits.
    fn at(&self, exponent: i32) -> Option<i128> {
        if self.mantissa == 0 {
            return Some(0);
        }
        let shift = u32::try_from(self.exponent.checked_sub(exponent)?).ok()?;
        10i128.checked_pow(shift)?.checked_mul(self.mantissa)
    }

    /// The mantissa at any exponent, rounded away from zero, saturating.
    fn rounded(&self, exponent: i32) -> i128 {
        if self.exponent >= exponent {
            let limit = if self.mantissa < 0 { i128::MIN } else { i128::MAX };
            return self.at(exponent).unwrap_or(limit);
        }
        let away = i128::from(self.signum());
        match 10i128.checked_pow(exponent.abs_diff(self.exponent)) {
            None => away,
            Some(unit) if self.mantissa % unit != 0 => self.mantissa / unit + away,
            Some(unit) => self.mantissa / unit,
        }
    }
}

fn saturated(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.signum().cmp(&other.signum());
        if signs != Ordering::Equal || self.is_zero() {
            return signs;
        }
        let low = self.exponent.min(other.exponent);
        match (self.at(low), other.at(low)) {
            (Some(a), Some(b)) => a.cmp(&b),
            // Only the one with the higher exponent can have too many digits there: it is farther from zero.
            (None, _) => self.signum().cmp(&0),
            (_, None) => 0.cmp(&self.signum()),
        }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        text::parse(text)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => text::write_canonical(self, f),
        }
    }
}

#[cfg(test)]
mod tests;
