//! Cron expressions: five fields, or a word such as `@daily`.

/// What a field may hold: the least and largest number, and names for them from the least on.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds { min: 1, max: 12, names: MONTHS },
    Bounds { min: 0, max: 6, names: DAYS },
];

/// Says what is wrong with an expression, as upstream's parser (`github.com/robfig/cron`) does.
pub(super) fn check(expression: &str) -> Result<(), String> {
    let zoned = expression.strip_prefix("TZ=").or_else(|| expression.strip_prefix("CRON_TZ="));
    let expression = zoned.map_or(expression, |rest| rest.split_once(' ').map_or("", |(_, rest)| rest.trim()));
    if let Some(word) = expression.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        return match known.contains(&word) || word.starts_with("every ") {
            true => Ok(()),
            false => Err(format!("unrecognized descriptor: @{word}")),
        };
    }
    let fields: Vec<&str> = expression.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let shown = fields.join(" ");
        return Err(format!("expected exactly 5 fields, found {}: [{shown}]", fields.len()));
    }
    fields.iter().zip(&FIELDS).try_for_each(|(field, bounds)| field.split(',').try_for_each(|part| range(part, bounds)))
}

/// `*`, `3`, `1-5`, `*/2`, `mon-fri/2`.
fn range(part: &str, bounds: &Bounds) -> Result<(), String> {
    let mut slashes = part.split('/');
    let (span, step) = (slashes.next().unwrap_or_default(), slashes.next());
    if slashes.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let mut hyphens = span.split('-');
    let (first, last) = (hyphens.next().unwrap_or_default(), hyphens.next());
    if hyphens.next().is_some() {
        return Err(format!("too many hyphens: {part}"));
    }
    let (start, mut end) = match (first, last) {
        ("*" | "?", _) => (bounds.min, bounds.max),
        (first, None) => (number(first, bounds)?, number(first, bounds)?),
        (first, Some(last)) => (number(first, bounds)?, number(last, bounds)?),
    };
    if let Some(step) = step {
        if number(step, bounds)? == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        if last.is_none() && !matches!(first, "*" | "?") {
            end = bounds.max;
        }
    }
    if start < bounds.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {part}", bounds.min));
    }
    if end > bounds.max {
        return Err(format!("end of range ({end}) above maximum ({}): {part}", bounds.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    Ok(())
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let named = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    if let Some(at) = named {
        return Ok(bounds.min + at as u32);
    }
    text.parse().map_err(|_| {
        let quoted = crate::validation::quote(text);
        format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_cron_reads_them() {
        for good in ["* * * * *", "*/5 0-6 1,15 jan-mar MON-FRI/2", "@daily", "@every 1h", "5/10 * ? * *", "0 0 * * 0"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let refused = |text: &str| check(text).unwrap_err();
        assert_eq!(refused("* * *"), "expected exactly 5 fields, found 3: [* * *]");
        assert_eq!(refused("60 * * * *"), "end of range (60) above maximum (59): 60");
        assert_eq!(refused("* * 0 * *"), "beginning of range (0) below minimum (1): 0");
        assert_eq!(refused("x * * * *"), "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(refused("@sometimes"), "unrecognized descriptor: @sometimes");
    }
}
