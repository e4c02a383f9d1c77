//! The wall clock, as timestamps in objects and tokens need it.

use jiff::Timestamp;

/// Seconds since 1970.
pub fn unix_seconds() -> i64 {
    Timestamp::now().as_second()
}

/// `metav1.Time`: RFC 3339 in UTC and whole seconds.
pub fn now() -> String {
    seconds_text(unix_seconds())
}

/// The same, for a moment given in seconds since 1970.
pub fn seconds_text(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
