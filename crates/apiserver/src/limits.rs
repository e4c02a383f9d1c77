//! The time that one request may take.

use std::time::Duration;

use api::status::Status;

use crate::request::{RequestInfo, query_value};

/// Upstream's `--request-timeout`: what a request gets that asks for no time, and the most that one may ask for.
pub(crate) const TIME: Duration = Duration::from_secs(60);

/// True for requests that last as long as their client wants: they have no deadline, and but for watches no place.
pub(crate) fn is_long_running(info: &RequestInfo) -> bool {
    let lasting = ["attach", "exec", "proxy", "log", "portforward"];
    info.verb == "watch" || info.resource.as_ref().is_some_and(|it| lasting.contains(&it.subresource.as_str()))
}

/// The time that a request may take: `?timeout=`, as Go writes durations, or what everybody gets.
pub(crate) fn allowed_time(query: &str) -> Result<Duration, Status> {
    let Some(asked) = query_value(query, "timeout").filter(|asked| !asked.is_empty()) else { return Ok(TIME) };
    let refused = || Status::bad_request(format!("invalid timeout specified in the request URL: {asked:?}"));
    let time = parse_duration(&asked).ok_or_else(refused)?;
    Ok(if time.is_zero() { TIME } else { time.min(TIME) })
}

/// `1m30s`, `1.5h`, `300ms`, `0`.
fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let unit = rest[number..].find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let unit = unit.map_or(rest.len(), |length| number + length);
        let factor = match &rest[number..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += rest[..number].parse::<f64>().ok()? * factor;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(seconds).ok())?
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn durations_are_gos() {
        let check = |text: &str, expected: Option<f64>| {
            assert_eq!(parse_duration(text).map(|it| it.as_secs_f64()), expected, "{text}");
        };
        check("34s", Some(34.0));
        check("1m30s", Some(90.0));
        check("1.5h", Some(5400.0));
        check("300ms", Some(0.3));
        check("0", Some(0.0));
        for wrong in ["", "5", "s", "-1s", "1d", "1s2", "1e400h"] {
            check(wrong, None);
        }
        assert_eq!(allowed_time("timeout=5s").unwrap(), Duration::from_secs(5));
        assert_eq!(allowed_time("timeout=5h&x=y").unwrap(), TIME);
        assert_eq!(allowed_time("timeout=0s").unwrap(), TIME);
        assert_eq!(allowed_time("timeout=soon").unwrap_err().code, 400);
    }

    #[test]
    fn watches_and_streams_last() {
        let lasts = |method, path, query| is_long_running(&RequestInfo::parse(&method, path, query).unwrap());
        assert!(lasts(Method::GET, "/api/v1/pods", "watch=true"));
        assert!(lasts(Method::POST, "/api/v1/namespaces/a/pods/p/exec", ""));
        assert!(lasts(Method::GET, "/api/v1/namespaces/a/pods/p/log", ""));
        assert!(!lasts(Method::GET, "/api/v1/namespaces/a/pods/p", ""));
    }
}
