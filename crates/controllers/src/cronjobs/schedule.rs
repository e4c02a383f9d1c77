//! Cron expressions, as upstream's parser reads them (`robfig/cron` v3, standard parser).
//!
//! Five fields: minute, hour, day of month, month, day of week; names of months and days; `*`, `?`, lists, ranges, steps;
//! `@daily` and its like, `@every 1h30m`. When both day fields are restricted, either matches (Vixie's rule). A time
//! that a change of the clocks skips is not run; one that comes twice is run once.

use std::time::Duration;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// How many years ahead a time is looked for: `0 0 29 2 *` comes every four, rarely eight.
const HORIZON: i16 = 9;

/// When a CronJob is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Fields {
        minutes: u64,
        hours: u64,
        days: u64,
        months: u64,
        weekdays: u64,
        /// Either day field is `*` or `?`: both must match then.
        both_days: bool,
    },
    Every(Duration),
}

/// Why a schedule cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {why}")]
pub(super) struct ScheduleError {
    text: String,
    why: &'static str,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let fail = |why| ScheduleError { text: text.to_owned(), why };
        let expanded = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if let Some(every) = expanded.strip_prefix("@every ") {
            let every = every.trim().parse::<api::duration::Duration>().ok().and_then(api::duration::Duration::to_std);
            let every = every.ok_or_else(|| fail("not a duration"))?;
            // Whole seconds, at least one, as upstream rounds.
            return Ok(Self::Every(Duration::from_secs(every.as_secs().max(1))));
        }
        let fields: Vec<&str> = expanded.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(fail("expected exactly 5 fields"));
        };
        let is_star = |field: &str| field.split(',').any(|part| part.starts_with('*') || part.starts_with('?'));
        Ok(Self::Fields {
            minutes: field(minutes, 0, 59, &[]).map_err(fail)?,
            hours: field(hours, 0, 23, &[]).map_err(fail)?,
            days: field(days, 1, 31, &[]).map_err(fail)?,
            months: field(months, 1, 12, &MONTHS).map_err(fail)?,
            weekdays: field(weekdays, 0, 6, &WEEKDAYS).map_err(fail)?,
            both_days: is_star(days) || is_star(weekdays),
        })
    }

    /// The first time after `after`.
    pub(super) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let Self::Fields { minutes, hours, months, .. } = self else {
            let Self::Every(every) = self else { return None };
            let second = Timestamp::from_second(after.as_second()).ok()?;
            return second.checked_add(*every).ok();
        };
        let start = after.to_zoned(zone.clone());
        let mut date = start.date();
        let last = date.year() + HORIZON;
        let set = |bits: &u64, value: i8| bits & (1u64 << value) != 0;
        while date.year() < last {
            if !set(months, date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
                continue;
            }
            if self.is_day(date.day(), date.weekday()) {
                for hour in (0..24).filter(|hour| set(hours, *hour)) {
                    for minute in (0..60).filter(|minute| set(minutes, *minute)) {
                        let wanted = date.at(hour, minute, 0, 0);
                        let found: Zoned = wanted.to_zoned(zone.clone()).ok()?;
                        if found.datetime() == wanted && found.timestamp() > after {
                            return Some(found.timestamp());
                        }
                    }
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn is_day(&self, day: i8, weekday: Weekday) -> bool {
        let Self::Fields { days, weekdays, both_days, .. } = self else { return false };
        let by_day = days & (1u64 << day) != 0;
        let by_weekday = weekdays & (1u64 << weekday.to_sunday_zero_offset()) != 0;
        if *both_days { by_day && by_weekday } else { by_day || by_weekday }
    }
}

fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, &'static str> {
    text.split(',').try_fold(0, |bits, part| Ok(bits | range(part, low, high, names)?))
}

fn range(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, &'static str> {
    let (range, step) = text.split_once('/').map_or((text, None), |(range, step)| (range, Some(step)));
    let (first, mut last) = match range {
        "*" | "?" => (low, high),
        _ => match range.split_once('-') {
            Some((first, last)) => (number(first, low, names)?, number(last, low, names)?),
            None => {
                let one = number(range, low, names)?;
                (one, one)
            }
        },
    };
    let step = match step {
        None => 1,
        Some(step) => {
            // `5/15` is from 5 to the end.
            if !range.contains('-') {
                last = high;
            }
            step.parse().map_err(|_| "step is not a number")?
        }
    };
    if step == 0 {
        return Err("step must be positive");
    }
    if first < low || last > high || first > last {
        return Err("value out of range");
    }
    Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1u64 << value))
}

fn number(text: &str, low: u32, names: &[&str]) -> Result<u32, &'static str> {
    let lower = text.to_ascii_lowercase();
    match names.iter().position(|name| *name == lower) {
        Some(at) => Ok(low + u32::try_from(at).unwrap_or_default()),
        None => text.parse().map_err(|_| "not a number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: &str, after: &str, expected: &[&str]) {
        let schedule = Schedule::parse(schedule).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        for wanted in expected {
            at = schedule.next(at, &TimeZone::UTC).unwrap();
            assert_eq!(at.to_string(), *wanted, "{schedule:?} after {after}");
        }
    }

    #[test]
    fn the_next_times_are_found() {
        check("*/15 * * * *", "2026-01-01T00:07:30Z", &["2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"]);
        check("0 9-17/4 * * mon-fri", "2026-01-02T13:00:00Z", &["2026-01-02T17:00:00Z", "2026-01-05T09:00:00Z"]);
        check("0 0 29 2 *", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]);
        // Both day fields: either matches.
        check(
            "0 0 13 * 5",
            "2026-01-01T00:00:00Z",
            &["2026-01-02T00:00:00Z", "2026-01-09T00:00:00Z", "2026-01-13T00:00:00Z"],
        );
        check("@hourly", "2026-12-31T23:30:00Z", &["2027-01-01T00:00:00Z"]);
        check("@every 90s", "2026-01-01T00:00:00.5Z", &["2026-01-01T00:01:30Z"]);
    }

    #[test]
    fn malformed_schedules_are_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* * 0 * *",
            "*/0 * * * *",
            "5-1 * * * *",
            "x * * * *",
            "@every x",
            "* * * * 7",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(Schedule::parse("0 0 31 2 *").unwrap().next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }
}
