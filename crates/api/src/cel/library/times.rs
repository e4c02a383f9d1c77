//! The parts of timestamps and durations.

use jiff::tz::{Offset, TimeZone};

use super::{Call, Outcome};
use crate::cel::eval::{EvalError, Evaluator, Result};
use crate::cel::value::Value;

pub(super) fn call<'a>(_: &mut Evaluator<'_, 'a>, call: &Call<'_, 'a>) -> Outcome<'a> {
    match call.args {
        [Value::Duration(span)] => Ok(of_span(call.name, span.as_nanos()).map(Value::Int)),
        [Value::Timestamp(time)] => Ok(of_time(call.name, *time, TimeZone::UTC).map(Value::Int)),
        [Value::Timestamp(time), Value::String(zone)] => {
            Ok(of_time(call.name, *time, time_zone(zone)?).map(Value::Int))
        }
        _ => Ok(None),
    }
}

fn of_span(name: &str, nanos: i64) -> Option<i64> {
    Some(match name {
        "getHours" => nanos / 3_600_000_000_000,
        "getMinutes" => nanos / 60_000_000_000,
        "getSeconds" => nanos / 1_000_000_000,
        "getMilliseconds" => nanos / 1_000_000,
        _ => return None,
    })
}

/// Months, days of the month and of the year count from 0; Sunday is 0.
fn of_time(name: &str, time: jiff::Timestamp, zone: TimeZone) -> Option<i64> {
    let time = time.to_zoned(zone);
    Some(match name {
        "getFullYear" => i64::from(time.year()),
        "getMonth" => i64::from(time.month()) - 1,
        "getDate" => i64::from(time.day()),
        "getDayOfMonth" => i64::from(time.day()) - 1,
        "getDayOfWeek" => i64::from(time.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(time.day_of_year()) - 1,
        "getHours" => i64::from(time.hour()),
        "getMinutes" => i64::from(time.minute()),
        "getSeconds" => i64::from(time.second()),
        "getMilliseconds" => i64::from(time.millisecond()),
        _ => return None,
    })
}

/// `UTC` or an offset such as `-08:00`. There is no table of named zones in a static binary.
fn time_zone(text: &str) -> Result<TimeZone> {
    if text.is_empty() || text == "UTC" {
        return Ok(TimeZone::UTC);
    }
    let wrong = || EvalError::Conversion(format!("unknown time zone {text}"));
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let number =
        |text: &str, limit: i32| text.parse::<i32>().ok().filter(|n| (0..=limit).contains(n)).ok_or_else(wrong);
    let seconds = sign * (number(hours, 24)? * 3600 + number(minutes, 59)? * 60);
    Offset::from_seconds(seconds).map(TimeZone::fixed).map_err(|_| wrong())
}
