//! The time that one request may take.

use std::time::Duration;

use api::duration::Duration as GoDuration;
use api::status::Status;

use crate::request::{RequestInfo, query_value};

/// How long requests last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// What a request gets that asks for no time, and the most that one may ask for (`--request-timeout`).
    pub request: Duration,
    /// Watches end after a time between this and twice this, so that clients spread over servers anew
    /// (`--min-request-timeout`).
    pub watch: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { request: Duration::from_secs(60), watch: Duration::from_secs(1800) }
    }
}

/// True for requests that last as long as their client wants: they have no deadline, and but for watches no place.
pub(crate) fn is_long_running(info: &RequestInfo) -> bool {
    let lasting = ["attach", "exec", "proxy", "log", "portforward"];
    info.verb == "watch" || info.resource.as_ref().is_some_and(|it| lasting.contains(&it.subresource.as_str()))
}

/// The time that a request may take: `?timeout=`, as Go writes durations, or what everybody gets.
pub(crate) fn allowed_time(query: &str, most: Duration) -> Result<Duration, Status> {
    let Some(asked) = query_value(query, "timeout").filter(|asked| !asked.is_empty()) else { return Ok(most) };
    let refused = || Status::bad_request(format!("invalid timeout specified in the request URL: {asked:?}"));
    let time = asked.parse::<GoDuration>().ok().and_then(GoDuration::to_std).ok_or_else(refused)?;
    Ok(if time.is_zero() { most } else { time.min(most) })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn times_are_gos_durations() {
        const TIME: Duration = Duration::from_secs(60);
        for (query, expected) in [
            ("", TIME),
            ("timeout=5s", Duration::from_secs(5)),
            ("timeout=300ms", Duration::from_millis(300)),
            ("timeout=0.5m&x=y", Duration::from_secs(30)),
            ("timeout=5h&x=y", TIME),
            ("timeout=0s", TIME),
            ("timeout=0", TIME),
        ] {
            assert_eq!(allowed_time(query, TIME).unwrap(), expected, "{query}");
        }
        for wrong in ["5", "s", "-1s", "1d", "1s2", "1e400h", "soon", "9999999999999h"] {
            assert_eq!(allowed_time(&format!("timeout={wrong}"), TIME).unwrap_err().code, 400, "{wrong}");
        }
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
