//! Times on the wire: `metav1.Time` (RFC 3339, UTC, whole seconds) and `metav1.MicroTime` (six digits).

use std::fmt;

use jiff::Timestamp;
use jiff::civil;

use crate::validation::quote;

/// Why a text is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TimeError {
    text: String,
    layout: &'static str,
    rest: String,
    /// Empty where nothing more was expected.
    expected: &'static str,
}

impl fmt::Display for TimeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, layout, rest, expected } = self;
        let (text, rest) = (quote(text), quote(rest));
        match *expected {
            "" => write!(out, "parsing time {text}: extra text: {rest}"),
            expected => write!(out, "parsing time {text} as \"{layout}\": cannot parse {rest} as \"{expected}\""),
        }
    }
}

const RFC3339: &str = "2006-01-02T15:04:05Z07:00";
const RFC3339_MICRO: &str = "2006-01-02T15:04:05.000000Z07:00";

/// Go's zero time, which JSON writes as null.
const ZERO_SECOND: i64 = -62_135_596_800;

/// Reads a `metav1.Time`: RFC 3339 with any offset and any number of fractional digits.
pub fn parse(text: &str) -> Result<Timestamp, TimeError> {
    Reader { text, rest: text, layout: RFC3339 }.read()
}

/// Reads a `metav1.MicroTime`: RFC 3339 with any offset and exactly six fractional digits.
pub fn parse_micro(text: &str) -> Result<Timestamp, TimeError> {
    Reader { text, rest: text, layout: RFC3339_MICRO }.read()
}

/// The form of `metav1.Time`: UTC, fraction cut off.
pub fn format(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The form of `metav1.MicroTime`: UTC, six digits, the rest cut off.
pub fn format_micro(time: Timestamp) -> String {
    let micros = time.subsec_nanosecond().rem_euclid(1_000_000_000) / 1_000;
    format!("{}.{micros:06}Z", time.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// The canonical form of a `metav1.Time`; none for the zero time, which is null.
pub fn canonical(text: &str) -> Result<Option<String>, TimeError> {
    let time = parse(text)?;
    Ok((!is_zero(time)).then(|| format(time)))
}

/// The canonical form of a `metav1.MicroTime`; none for the zero time, which is null.
pub fn canonical_micro(text: &str) -> Result<Option<String>, TimeError> {
    let time = parse_micro(text)?;
    Ok((!is_zero(time)).then(|| format_micro(time)))
}

fn is_zero(time: Timestamp) -> bool {
    time.as_second() == ZERO_SECOND && time.subsec_nanosecond() == 0
}

/// Reads a time from left to right, so that an error names what could not be read as what.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<Timestamp, TimeError> {
        let year = self.number(4, "2006", 0..=9999)?;
        self.literal("-")?;
        let month = self.number(2, "01", 1..=12)?;
        self.literal("-")?;
        let day = self.number(2, "02", 1..=31)?;
        self.literal("T")?;
        let hour = self.number(2, "15", 0..=23)?;
        self.literal(":")?;
        let minute = self.number(2, "04", 0..=59)?;
        self.literal(":")?;
        let second = self.number(2, "05", 0..=59)?;
        let nanos = self.fraction()?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(self.wrong(""));
        }
        // The ranges above fit these integers; what is left to refuse is a day that the month lacks.
        civil::DateTime::new(year as i16, month as i8, day as i8, hour as i8, minute as i8, second as i8, nanos)
            .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
            .and_then(|zoned| zoned.timestamp().checked_sub(jiff::SignedDuration::from_secs(offset)))
            .map_err(|_| self.wrong("02"))
    }

    fn wrong(&self, expected: &'static str) -> TimeError {
        TimeError { text: self.text.to_owned(), layout: self.layout, rest: self.rest.to_owned(), expected }
    }

    fn literal(&mut self, expected: &'static str) -> Result<(), TimeError> {
        self.rest = self.rest.strip_prefix(expected).ok_or_else(|| self.wrong(expected))?;
        Ok(())
    }

    fn number(
        &mut self,
        width: usize,
        expected: &'static str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<u32, TimeError> {
        let digits = self.rest.get(..width).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let number = digits.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        let number = number.ok_or_else(|| self.wrong(expected))?;
        self.rest = &self.rest[width..];
        Ok(number)
    }

    /// Nanoseconds. Go takes a comma for the dot.
    fn fraction(&mut self) -> Result<i32, TimeError> {
        let found = self.rest.strip_prefix(['.', ',']);
        let digits = found.map_or(0, |text| text.bytes().take_while(u8::is_ascii_digit).count());
        match (self.layout == RFC3339_MICRO, digits) {
            (true, 6) | (false, 1..) => {}
            (true, _) => return Err(self.wrong(".000000")),
            (false, 0) => return Ok(0),
        }
        let text = found.map_or("", |text| &text[..digits]);
        self.rest = &self.rest[1 + digits..];
        let nanos = text.bytes().chain(std::iter::repeat(b'0')).take(9);
        Ok(nanos.fold(0, |value, digit| value * 10 + i32::from(digit - b'0')))
    }

    /// Seconds east of UTC.
    fn offset(&mut self) -> Result<i64, TimeError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => return Err(self.wrong("Z07:00")),
        };
        let bytes = self.rest.as_bytes();
        let digits = [1, 2, 4, 5].iter().all(|at| bytes.get(*at).is_some_and(u8::is_ascii_digit));
        if !digits || bytes.get(3) != Some(&b':') {
            return Err(self.wrong("Z07:00"));
        }
        let two = |at: usize| i64::from(bytes[at] - b'0') * 10 + i64::from(bytes[at + 1] - b'0');
        let (hours, minutes) = (two(1), two(4));
        if hours > 24 || minutes > 60 {
            return Err(self.wrong("Z07:00"));
        }
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_canonical_utc_seconds() {
        let check = |text: &str, expected: &str| assert_eq!(canonical(text).unwrap().unwrap(), expected);
        check("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z");
        check("2026-01-02T03:04:05.999999999Z", "2026-01-02T03:04:05Z");
        check("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05Z");
        check("2024-02-29T23:59:59-01:30", "2024-03-01T01:29:59Z");
        check("0002-01-01T00:00:00Z", "0002-01-01T00:00:00Z");
        assert_eq!(canonical("0001-01-01T00:00:00Z"), Ok(None));
    }

    #[test]
    fn micro_times_have_six_digits() {
        assert_eq!(
            canonical_micro("2026-01-02T03:04:05.000120+01:00").unwrap().unwrap(),
            "2026-01-02T02:04:05.000120Z"
        );
        assert_eq!(canonical_micro("1960-01-02T03:04:05.250000Z").unwrap().unwrap(), "1960-01-02T03:04:05.250000Z");
        assert!(canonical_micro("2026-01-02T03:04:05Z").is_err());
        assert!(canonical_micro("2026-01-02T03:04:05.1234567Z").is_err());
    }

    #[test]
    fn bad_times_say_where() {
        let refused = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(
            refused("yesterday"),
            "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""
        );
        assert_eq!(
            refused("2026-01-02 03:04:05Z"),
            "parsing time \"2026-01-02 03:04:05Z\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \" 03:04:05Z\" as \"T\""
        );
        for text in
            ["2026-02-30T00:00:00Z", "2026-01-02T03:04:05", "2026-01-02T24:00:00Z", "2026-01-02T03:04:05Zx", "é"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
