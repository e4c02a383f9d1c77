//! Timestamps and durations: their parts, in any zone, and how schemas write them.

use std::fmt;

use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Time, Value};

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const DURATION: &str = "google.protobuf.Duration";
pub(super) const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// In nanoseconds.
const SECOND: i128 = 1_000_000_000;

/// The first and last seconds that timestamps have: of the years 1 and 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "getFullYear",
        overloads: &["timestamp_to_year timestamp.() -> int", "timestamp_to_year_with_tz timestamp.(string) -> int"],
        run: |_, args| part(args, |time| i64::from(time.year())),
    },
    Function {
        name: "getMonth",
        overloads: &["timestamp_to_month timestamp.() -> int", "timestamp_to_month_with_tz timestamp.(string) -> int"],
        run: |_, args| part(args, |time| i64::from(time.month()) - 1),
    },
    Function {
        name: "getDayOfYear",
        overloads: &[
            "timestamp_to_day_of_year timestamp.() -> int",
            "timestamp_to_day_of_year_with_tz timestamp.(string) -> int",
        ],
        run: |_, args| part(args, |time| i64::from(time.day_of_year()) - 1),
    },
    Function {
        name: "getDayOfMonth",
        overloads: &[
            "timestamp_to_day_of_month timestamp.() -> int",
            "timestamp_to_day_of_month_with_tz timestamp.(string) -> int",
        ],
        run: |_, args| part(args, |time| i64::from(time.day()) - 1),
    },
    Function {
        name: "getDate",
        overloads: &[
            "timestamp_to_day_of_month_1_based timestamp.() -> int",
            "timestamp_to_day_of_month_1_based_with_tz timestamp.(string) -> int",
        ],
        run: |_, args| part(args, |time| i64::from(time.day())),
    },
    Function {
        name: "getDayOfWeek",
        overloads: &[
            "timestamp_to_day_of_week timestamp.() -> int",
            "timestamp_to_day_of_week_with_tz timestamp.(string) -> int",
        ],
        run: |_, args| part(args, |time| i64::from(time.weekday().to_sunday_zero_offset())),
    },
    Function {
        name: "getHours",
        overloads: &[
            "timestamp_to_hours timestamp.() -> int",
            "timestamp_to_hours_with_tz timestamp.(string) -> int",
            "duration_to_hours duration.() -> int",
        ],
        run: |_, args| part_or_length(args, 3_600_000_000_000, |time| i64::from(time.hour())),
    },
    Function {
        name: "getMinutes",
        overloads: &[
            "timestamp_to_minutes timestamp.() -> int",
            "timestamp_to_minutes_with_tz timestamp.(string) -> int",
            "duration_to_minutes duration.() -> int",
        ],
        run: |_, args| part_or_length(args, 60_000_000_000, |time| i64::from(time.minute())),
    },
    Function {
        name: "getSeconds",
        overloads: &[
            "timestamp_to_seconds timestamp.() -> int",
            "timestamp_to_seconds_tz timestamp.(string) -> int",
            "duration_to_seconds duration.() -> int",
        ],
        run: |_, args| part_or_length(args, 1_000_000_000, |time| i64::from(time.second())),
    },
    Function {
        name: "getMilliseconds",
        overloads: &[
            "timestamp_to_milliseconds timestamp.() -> int",
            "timestamp_to_milliseconds_with_tz timestamp.(string) -> int",
            "duration_to_milliseconds duration.() -> int",
        ],
        run: |_, args| part_or_length(args, 1_000_000, |time| i64::from(time.subsec_nanosecond()) / 1_000_000),
    },
];

fn part_or_length<'a>(args: &[Value<'a>], unit: i64, pick: impl FnOnce(&DateTime) -> i64) -> Outcome<'a> {
    match args {
        [Value::Duration(nanos)] => Ok(Value::Int(nanos / unit)),
        _ => part(args, pick),
    }
}

/// A part of a moment, in UTC or the zone that the second argument names.
fn part<'a>(args: &[Value<'a>], pick: impl FnOnce(&DateTime) -> i64) -> Outcome<'a> {
    let (time, offset) = match args {
        [Value::Timestamp(time)] => (time, 0),
        [Value::Timestamp(time), Value::String(name)] => (time, offset_in(name, *time)?),
        _ => return Err(EvaluationError::NoSuchOverload),
    };
    Ok(Value::Int(pick(&time.civil(offset))))
}

/// The offset from UTC of a zone, by its name, or as `-08:00`, at that time.
fn offset_in(zone: &str, time: Time) -> Result<i32, EvaluationError> {
    let Some((hours, minutes)) = zone.split_once(':') else {
        if matches!(zone, "" | "UTC") {
            return Ok(0);
        }
        let unknown = |_| EvaluationError::failed(format_args!("unknown time zone {zone}"));
        let at = Timestamp::from_nanosecond(time.nanos).unwrap_or(Timestamp::MAX);
        return Ok(TimeZone::get(zone).map_err(unknown)?.to_offset(at).seconds());
    };
    let number = |text: &str| {
        let message = format!("strconv.Atoi: parsing {}: invalid syntax", crate::validation::quote(text));
        text.parse::<i32>().map_err(|_| EvaluationError::failed(message))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minutes = if zone.starts_with('-') { -minutes } else { minutes };
    let seconds = hours.checked_mul(3600).zip(minutes.checked_mul(60)).and_then(|(a, b)| a.checked_add(b));
    let within = seconds.filter(|seconds| seconds.abs() < 86_400);
    within.ok_or_else(|| EvaluationError::failed(format_args!("offset out of range: {zone}")))
}

/// The moment, if the language has it.
pub(in crate::cel) fn checked(time: Time) -> Result<Time, EvaluationError> {
    match SECONDS.contains(&time.second()) {
        true => Ok(time),
        false => Err(EvaluationError::failed("timestamp overflow")),
    }
}

pub(in crate::cel) fn at_second<'a>(second: i64) -> Outcome<'a> {
    checked(Time { nanos: i128::from(second) * SECOND, offset: 0 }).map(Value::Timestamp)
}

/// A moment some nanoseconds later.
pub(super) fn shifted<'a>(time: Time, nanos: i64) -> Outcome<'a> {
    checked(Time { nanos: time.nanos + i128::from(nanos), ..time }).map(Value::Timestamp)
}

/// Reads RFC 3339.
pub(in crate::cel) fn parse(text: &str) -> Option<Time> {
    let nanos = match text.strip_prefix("9999-") {
        // As of the year before, which is as long: there the reader's times have not ended yet.
        Some(rest) => crate::time::parse(&format!("9998-{rest}")).ok()?.as_nanosecond() + 365 * 86_400 * SECOND,
        None => crate::time::parse(text).ok()?.as_nanosecond(),
    };
    // What the reader lets through ends in Z or an offset of six characters.
    let offset = match text.strip_suffix('Z') {
        Some(_) => 0,
        None => {
            let written = text.get(text.len().checked_sub(6)?..)?;
            let minutes = written.get(1..3)?.parse::<i32>().ok()? * 60 + written.get(4..6)?.parse::<i32>().ok()?;
            if written.starts_with('-') { -minutes * 60 } else { minutes * 60 }
        }
    };
    Some(Time { nanos, offset })
}

impl Time {
    /// Whole seconds since 1970, towards the past.
    pub(in crate::cel) fn second(&self) -> i64 {
        self.nanos.div_euclid(SECOND) as i64
    }

    /// Date and time of day, at an offset from UTC in seconds.
    fn civil(&self, offset: i32) -> DateTime {
        let nanosecond = self.nanos.rem_euclid(SECOND) as i32;
        let since = SignedDuration::new(self.second().saturating_add(i64::from(offset)), nanosecond);
        let outside = if since.is_negative() { DateTime::MIN } else { DateTime::MAX };
        date(1970, 1, 1).at(0, 0, 0, 0).checked_add(since).unwrap_or(outside)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.civil(self.offset);
        write!(out, "{:04}-{:02}-{:02}", local.year(), local.month(), local.day())?;
        write!(out, "T{:02}:{:02}:{:02}", local.hour(), local.minute(), local.second())?;
        let nanos = local.subsec_nanosecond();
        if nanos != 0 {
            write!(out, ".{}", format!("{nanos:09}").trim_end_matches('0'))?;
        }
        if self.offset == 0 {
            return out.write_str("Z");
        }
        let minutes = self.offset.abs() / 60;
        write!(out, "{}{:02}:{:02}", if self.offset < 0 { '-' } else { '+' }, minutes / 60, minutes % 60)
    }
}

/// A duration as text: seconds, with no more digits than it has.
pub(in crate::cel) fn duration_text(nanos: i64) -> String {
    let (seconds, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    let sign = if nanos < 0 { "-" } else { "" };
    match rest {
        0 => format!("{sign}{seconds}s"),
        rest => format!("{sign}{seconds}.{}s", format!("{rest:09}").trim_end_matches('0')),
    }
}

/// `format: duration`: Go's text, or a number of longer units such as `3 days`.
pub(in crate::cel) fn schema_duration<'a>(text: &str) -> Outcome<'a> {
    let parsed: Result<crate::duration::Duration, _> = text.parse();
    if let Ok(length) = parsed {
        return Ok(Value::Duration(length.as_nanos()));
    }
    let wrong = || EvaluationError::failed(format_args!("Invalid duration {text}: unable to parse {text} as duration"));
    let mut total: i64 = 0;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: i64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = rest[end..].trim_start();
        let end = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit = schema_unit(&rest[..end]).ok_or_else(wrong)?;
        rest = rest[end..].trim_start_matches([' ', ',']);
        total = number.checked_mul(unit).and_then(|nanos| total.checked_add(nanos)).ok_or_else(wrong)?;
    }
    Ok(Value::Duration(total))
}

fn schema_unit(name: &str) -> Option<i64> {
    const SECOND: i64 = super::times::SECOND as i64;
    Some(match name {
        "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "micro" | "micros" | "microsecond" | "microseconds" => 1_000,
        "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SECOND,
        "h" | "hr" | "hour" | "hours" => 3_600 * SECOND,
        "d" | "day" | "days" => 86_400 * SECOND,
        "w" | "wk" | "week" | "weeks" => 7 * 86_400 * SECOND,
        _ => return None,
    })
}

/// `format: date`
pub(in crate::cel) fn schema_date<'a>(text: &str) -> Outcome<'a> {
    match crate::time::parse(&format!("{text}T00:00:00Z")) {
        Ok(at) if text.len() == 10 => Ok(Value::Timestamp(at.into())),
        _ => Err(EvaluationError::failed(format_args!("Invalid date formatted string {text}"))),
    }
}

/// `format: date-time`
pub(in crate::cel) fn schema_date_time<'a>(text: &str) -> Outcome<'a> {
    let wrong = || EvaluationError::failed(format_args!("Invalid date-time formatted string {text}"));
    parse(&text.to_ascii_uppercase()).map(Value::Timestamp).ok_or_else(wrong)
}
