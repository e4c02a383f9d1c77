//! The formats of texts that are checked; what is not named here says nothing about a text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::duration::Duration;
use crate::time;

/// Whether a format means something for values of this type. Others are warned of, and say nothing.
pub fn is_known(ty: &str, format: &str) -> bool {
    const TEXTS: [&str; 26] = [
        "bsonobjectid",
        "uri",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "cidr",
        "mac",
        "uuid",
        "uuid3",
        "uuid4",
        "uuid5",
        "isbn",
        "isbn10",
        "isbn13",
        "creditcard",
        "ssn",
        "hexcolor",
        "rgbcolor",
        "byte",
        "password",
        "date",
        "duration",
        "datetime",
        "k8sshortname",
        "k8slongname",
    ];
    match ty {
        "" | "string" => TEXTS.contains(&format.replace('-', "").as_str()),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether `text` has this format.
pub(super) fn holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => time::parse(text).is_ok(),
        "date" => text.len() == 10 && time::parse(&format!("{text}T00:00:00Z")).is_ok(),
        "duration" => text.parse::<Duration>().is_ok() || is_long_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "hostname" => is_hostname(text),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "uri" => text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)) || text.starts_with('/'),
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && is_hostname(host)),
        "byte" => !text.is_empty() && BASE64_STANDARD.decode(text).is_ok(),
        "hexcolor" => is_hex_color(text),
        "bsonobjectid" => text.len() == 24 && is_hex(text),
        _ => true,
    }
}

/// `3 days`, `22 ns`: Scala's durations, which upstream's parser takes as well.
fn is_long_duration(text: &str) -> bool {
    const UNITS: [&str; 7] = ["nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day"];
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let short = ["ns", "us", "\u{b5}s", "ms", "s", "m", "h", "d", "w", "week", "weeks"].contains(&unit);
    number.parse::<f64>().is_ok() && (short || UNITS.contains(&unit.strip_suffix('s').unwrap_or(unit)))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.bytes().all(|byte| byte.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn is_mac(text: &str) -> bool {
    let groups = |sign: char, width: usize| {
        let parts: Vec<&str> = text.split(sign).collect();
        let bytes = parts.len() * width / 2;
        parts.iter().all(|part| part.len() == width && is_hex(part)) && matches!(bytes, 6 | 8 | 20)
    };
    groups(':', 2) || groups('-', 2) || groups('.', 4)
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 255 && text.split('.').all(label)
}

/// Dashes may be left out.
fn is_uuid(text: &str, version: Option<char>) -> bool {
    let mut rest = text;
    for width in [8, 4, 4, 4, 12] {
        let Some((part, after)) = rest.split_at_checked(width) else { return false };
        if !is_hex(part) {
            return false;
        }
        rest = after.strip_prefix('-').unwrap_or(after);
    }
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let (kind, variant) = (digits.chars().nth(12), digits.chars().nth(16));
    let variant_fits = version == Some('3') || variant.is_some_and(|c| "89abAB".contains(c));
    rest.is_empty() && !text.ends_with('-') && version.is_none_or(|version| kind == Some(version) && variant_fits)
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn is_hex_color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or(text);
    matches!(digits.len(), 3 | 6) && is_hex(digits)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(holds(format, text), "{format}: {text}");
        }
        for text in bad {
            assert!(!holds(format, text), "{format}: {text}");
        }
    }

    #[test]
    fn texts_have_the_formats_that_upstream_finds_in_them() {
        check("date-time", &["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5+01:00"], &["2026-01-02", "now"]);
        check("date", &["2026-02-28"], &["2026-02-30", "2026-2-3"]);
        check("duration", &["1h30m", "22 ns", "3 days"], &["1 parsec", "", "h"]);
        check("ipv4", &["10.0.0.1"], &["10.0.0", "::1"]);
        check("ipv6", &["::1"], &["10.0.0.1"]);
        check("cidr", &["10.0.0.0/8", "fd00::/64"], &["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8"]);
        check("mac", &["00:1b:44:11:3a:b7", "001b.4411.3ab7"], &["00:1b:44:11:3a", "00:1b:44:11:3a:zz"]);
        check("hostname", &["a.example.com", "localhost"], &["-a.com", "a..b", ""]);
        check("uuid", &["123e4567-e89b-12d3-a456-426614174000", "123e4567e89b12d3a456426614174000"], &["123e4567"]);
        check("uuid4", &["123e4567-e89b-42d3-a456-426614174000"], &["123e4567-e89b-12d3-a456-426614174000"]);
        check("uri", &["https://example.com/x", "/x"], &["example"]);
        check("email", &["a@example.com"], &["example.com", "@example.com"]);
        check("byte", &["aGk="], &["hi!", ""]);
        check("hexcolor", &["#fff", "00ff00"], &["#ff", "#ggg"]);
        check("anything-else", &["x", ""], &[]);
    }
}
