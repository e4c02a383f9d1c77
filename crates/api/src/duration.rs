//! Go's duration text: `1h30m`, `1.5s`, `100ms`, as flags and `metav1.Duration` write it (`time.ParseDuration`).

use std::fmt;
use std::str::FromStr;

use crate::validation::quote;

/// A signed length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration {
    nanos: i64,
}

/// Why a text is not a duration, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("time: invalid duration {}", quote(.0))]
    Invalid(String),
    #[error("time: missing unit in duration {}", quote(.0))]
    MissingUnit(String),
    #[error("time: unknown unit {} in duration {}", quote(.unit), quote(.text))]
    UnknownUnit { unit: String, text: String },
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    // The micro sign and the Greek letter.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Duration {
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    pub const fn from_secs(seconds: i64) -> Self {
        Self { nanos: seconds.saturating_mul(1_000_000_000) }
    }

    pub const fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// The same span for timers; none when negative.
    pub fn to_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.nanos).ok().map(std::time::Duration::from_nanos)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        const LIMIT: u64 = 1 << 63;
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0u64;
        while !rest.is_empty() {
            let (nanos, after) = one_unit(rest, text)?;
            total = total.checked_add(nanos).filter(|total| *total <= LIMIT).ok_or_else(invalid)?;
            rest = after;
        }
        let nanos = match negative {
            true => 0i64.checked_sub_unsigned(total),
            false => i64::try_from(total).ok(),
        };
        nanos.map(Self::from_nanos).ok_or_else(invalid)
    }
}

/// Reads one number with its unit off the front of `rest`, and returns its nanoseconds and what follows.
fn one_unit<'a>(rest: &'a str, text: &str) -> Result<(u64, &'a str), DurationError> {
    const LIMIT: u64 = 1 << 63;
    let invalid = || DurationError::Invalid(text.to_owned());
    let (whole, after) = digits(rest);
    let (fraction, after) = match after.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", after),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(invalid());
    }
    let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
    let (name, after) = after.split_at(end);
    if name.is_empty() {
        return Err(DurationError::MissingUnit(text.to_owned()));
    }
    let unit = UNITS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, unit)| *unit)
        .ok_or_else(|| DurationError::UnknownUnit { unit: name.to_owned(), text: text.to_owned() })?;
    let whole = match whole {
        "" => 0,
        _ => whole.parse::<u64>().map_err(|_| invalid())?,
    };
    let nanos = whole.checked_mul(unit).filter(|nanos| *nanos <= LIMIT).ok_or_else(invalid)?;
    let nanos = nanos + fraction_nanos(fraction, unit);
    if nanos > LIMIT {
        return Err(invalid());
    }
    Ok((nanos, after))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The nanoseconds in `0.fraction` units, rounded down; digits beyond what an i64 holds are ignored, as Go does.
fn fraction_nanos(fraction: &str, unit: u64) -> u64 {
    let (mut value, mut scale) = (0u64, 1f64);
    for digit in fraction.bytes() {
        if value > (1 << 63) / 10 {
            break;
        }
        value = value * 10 + u64::from(digit - b'0');
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => return f.write_str("0s"),
            1..1_000 => return write!(f, "{nanos}ns"),
            1_000..1_000_000 => return write!(f, "{}\u{b5}s", decimal(nanos, 1_000)),
            1_000_000..1_000_000_000 => return write!(f, "{}ms", decimal(nanos, 1_000_000)),
            _ => {}
        }
        let minutes = nanos / 60_000_000_000;
        let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
        match (minutes / 60, minutes % 60) {
            (0, 0) => write!(f, "{seconds}s"),
            (0, minutes) => write!(f, "{minutes}m{seconds}s"),
            (hours, minutes) => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

/// `value / unit` without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let part = format!("{part:0width$}");
    format!("{whole}.{}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        let duration: Duration = text.parse().unwrap();
        assert_eq!(duration.to_string(), canonical);
        assert_eq!(canonical.parse(), Ok(duration));
    }

    #[test]
    fn durations_have_gos_canonical_form() {
        check("0", "0s");
        check("90m", "1h30m0s");
        check("1.5h", "1h30m0s");
        check("100ms", "100ms");
        check("1500ms", "1.5s");
        check("-1.5h", "-1h30m0s");
        check("1us", "1\u{b5}s");
        check("+5s", "5s");
        check("1h1ns", "1h0m0.000000001s");
        check(".5s", "500ms");
        check("1.s", "1s");
        check("39h9m14.425s", "39h9m14.425s");
        check("-9223372036854775808ns", "-2562047h47m16.854775808s");
        check("0.3333333333333333333h", "20m0s");
    }

    #[test]
    fn bad_durations_are_refused_in_gos_words() {
        let refused = |text: &str| text.parse::<Duration>().unwrap_err().to_string();
        assert_eq!(refused(""), "time: invalid duration \"\"");
        assert_eq!(refused("-"), "time: invalid duration \"-\"");
        assert_eq!(refused("3"), "time: missing unit in duration \"3\"");
        assert_eq!(refused("3x"), "time: unknown unit \"x\" in duration \"3x\"");
        assert_eq!(refused("."), "time: invalid duration \".\"");
        assert_eq!(refused("9223372036854775808ns"), "time: invalid duration \"9223372036854775808ns\"");
        assert_eq!(refused("3000000h"), "time: invalid duration \"3000000h\"");
    }
}
