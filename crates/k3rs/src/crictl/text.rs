//! Tables, durations and sizes as Go's programs write them. Pure.

/// Of a column, and between two.
const WIDTH: usize = 20;
const GAP: usize = 3;
/// Of an id that is cut.
const ID: usize = 13;

/// Rows of as many cells each, the first one being the columns' names.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|it| it.chars().count() + GAP).max().unwrap_or(0))
        .map(|width| width.max(WIDTH))
        .collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            text.push_str(cell);
            // Nothing stands behind the last one.
            if at + 1 < row.len() {
                let width = widths.get(at).copied().unwrap_or(WIDTH);
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        text.push('\n');
    }
    text
}

pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// The beginning of an id, or of a digest without its kind.
pub(super) fn short(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(ID).collect()
}

/// How long ago a time in nanoseconds since 1970 was.
pub(super) fn ago(then: i64, now: i64) -> String {
    let seconds = now.saturating_sub(then).max(0) / 1_000_000_000;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let told = match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (_, 0, _) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (_, _, ..=1) => "About an hour".to_owned(),
        (_, _, 2..48) => format!("{hours} hours"),
        (_, _, 48..336) => format!("{} days", hours / 24),
        (_, _, 336..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    };
    format!("{told} ago")
}

/// Bytes with `digits` digits of precision, in thousands.
#[expect(clippy::cast_precision_loss, reason = "few digits are shown")]
pub(super) fn size(bytes: u64, digits: usize) -> String {
    let (mut value, mut units) = (bytes as f64, ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter());
    let mut unit = units.next().unwrap_or_default();
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        value /= 1000.0;
        unit = next;
    }
    format!("{}{unit}", significant(value, digits))
}

/// Go's `%.Ng` of what is neither tiny nor huge.
fn significant(value: f64, digits: usize) -> String {
    let whole = match value {
        ..1.0 => 1,
        ..10.0 => 1,
        ..100.0 => 2,
        ..1000.0 => 3,
        _ => 4,
    };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_laid_out_as_gos() {
        let rows = [row(["POD ID", "NAME", "STATE"]), row(["0123456789abc", "a-name-longer-than-a-column", "Ready"])];
        let expected = "POD ID              NAME                          STATE\n\
                        0123456789abc       a-name-longer-than-a-column   Ready\n";
        assert_eq!(table(&rows), expected);
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789abc");
    }

    #[test]
    fn times_are_told_roughly() {
        let check =
            |seconds: i64, expected: &str| assert_eq!(ago(0, seconds * 1_000_000_000), format!("{expected} ago"));
        check(0, "Less than a second");
        check(1, "1 second");
        check(59, "59 seconds");
        check(119, "About a minute");
        check(120, "2 minutes");
        check(3599, "59 minutes");
        check(3600, "About an hour");
        check(5400, "2 hours");
        check(47 * 3600, "47 hours");
        check(48 * 3600, "2 days");
        check(14 * 86400, "2 weeks");
        check(60 * 86400, "2 months");
        check(730 * 86400, "2 years");
    }

    #[test]
    fn sizes_have_a_few_digits() {
        let check = |bytes: u64, expected: &str| assert_eq!(size(bytes, 3), expected);
        check(0, "0B");
        check(999, "999B");
        check(1000, "1kB");
        check(1_980_000, "1.98MB");
        check(1_984_512, "1.98MB");
        check(212_000_000, "212MB");
        check(2_500_000_000, "2.5GB");
        assert_eq!(size(495_616, 4), "495.6kB");
    }
}
