//! How many seats a request takes, and for how long: lists by what they hold in memory, writes by how many watchers
//! they wake (upstream: `flowcontrol/request`).

use std::time::Duration;

use super::FlowControl;
use super::level::Level;
use crate::request::{RequestInfo, ResourceRequest, query_value, truthy};
use crate::server::ApiServer;

/// What one seat of a list holds.
const BYTES_PER_SEAT: u64 = 100_000;
/// A list from the cache is written as it is read: it never holds more than this at once.
const MOST_FROM_CACHE: u64 = 1_000_000;
const MOST_FOR_LISTS: u32 = 100;
const MOST_FOR_WRITES: u32 = 10;
/// Fewer cost nothing.
const WATCHERS_PER_SEAT: u32 = 10;
/// How long it takes to tell the watchers of one seat.
const TELLING: Duration = Duration::from_millis(5);

/// The price of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Work {
    /// While it is answered.
    pub(super) seats_first: u32,
    /// For what it leaves behind, and how long that takes.
    pub(super) seats_after: u32,
    pub(super) linger: Duration,
}

impl Work {
    pub(super) fn one() -> Self {
        Self::of(1)
    }

    fn of(seats: u32) -> Self {
        Self { seats_first: seats, seats_after: 0, linger: Duration::ZERO }
    }

    /// The seats that are taken from the beginning on.
    pub(super) fn seats(&self) -> u32 {
        self.seats_first.max(self.seats_after)
    }

    /// In seat-seconds, if it is answered in `expected`.
    pub(super) fn total(&self, expected: f64) -> f64 {
        f64::from(self.seats_first) * expected + f64::from(self.seats_after) * self.linger.as_secs_f64()
    }
}

/// The price of a request at `level`.
pub(super) fn estimate(
    control: &FlowControl,
    server: &ApiServer,
    level: &Level,
    info: &RequestInfo,
    query: &str,
) -> Work {
    let Some(target) = &info.resource else { return Work::one() };
    match info.verb {
        "list" | "watch" => Work::of(list(server, level, info, target, query)),
        "create" | "update" | "patch" | "delete" => {
            // A token is an answer: nothing is stored of which watchers would hear.
            let silent = target.resource == "serviceaccounts" && target.subresource == "token";
            let watchers = if silent { 0 } else { control.watches.of(target) };
            write(watchers, most(level, MOST_FOR_WRITES))
        }
        _ => Work::one(),
    }
}

/// A level may want less of one request than the server does.
fn most(level: &Level, server: u32) -> u32 {
    match level.most_seats() {
        0 => server,
        own => own.min(server),
    }
}

fn list(server: &ApiServer, level: &Level, info: &RequestInfo, target: &ResourceRequest, query: &str) -> u32 {
    let text = |key| query_value(query, key).filter(|value| !value.is_empty());
    if info.verb == "watch" {
        let from_now = text("resourceVersion").is_none_or(|revision| revision == "0");
        if !from_now && !truthy(text("sendInitialEvents").or(Some("false".to_owned()))) {
            return 1;
        }
    }
    // What is served by another server costs this one next to nothing.
    let served = server.registry.catalogue.find(&target.group, &target.version, &target.resource);
    let Some(cache) = served.and_then(|served| served.cache.clone()) else { return 1 };
    let limit = text("limit").and_then(|limit| limit.parse().ok());
    let from_cache = info.verb == "watch"
        || (text("continue").is_none() && text("resourceVersionMatch").as_deref() != Some("Exact"));
    let held = Held {
        objects: if target.name.is_empty() { cache.len() as u64 } else { 1 },
        size: cache.typical_size() as u64,
        limit,
        selective: text("labelSelector").is_some() || text("fieldSelector").is_some(),
        from_cache,
    };
    held.seats().clamp(1, most(level, MOST_FOR_LISTS))
}

/// What a list holds in memory.
struct Held {
    objects: u64,
    /// Of one of them, in bytes.
    size: u64,
    limit: Option<u64>,
    selective: bool,
    from_cache: bool,
}

impl Held {
    fn seats(&self) -> u32 {
        let limited = self.limit.filter(|limit| *limit > 0).map_or(self.objects, |limit| limit.min(self.objects));
        // Those that are read to find those that are meant.
        let read = if self.selective && !self.from_cache { limited.max(self.objects / 2) } else { limited };
        let bytes = read.saturating_mul(self.size).min(if self.from_cache { MOST_FROM_CACHE } else { u64::MAX });
        u32::try_from(bytes.div_ceil(BYTES_PER_SEAT)).unwrap_or(u32::MAX)
    }
}

fn write(watchers: u32, most: u32) -> Work {
    if watchers < WATCHERS_PER_SEAT {
        return Work::one();
    }
    let seats = watchers.div_ceil(WATCHERS_PER_SEAT);
    // The same work by fewer seats takes longer.
    let few = seats.min(most);
    Work { seats_first: 1, seats_after: few, linger: TELLING.mul_f64(f64::from(seats) / f64::from(few)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_cost_what_they_hold() {
        let check = |objects, limit, selective, from_cache, expected| {
            let held = Held { objects, size: 2_000, limit, selective, from_cache };
            assert_eq!(held.seats(), expected, "{objects} {limit:?} {selective} {from_cache}");
        };
        check(0, None, false, true, 0);
        check(10, None, false, true, 1);
        check(200, None, false, true, 4);
        check(100_000, None, false, true, 10);
        check(100_000, Some(100), false, true, 2);
        check(100_000, Some(100), false, false, 2);
        check(1_000, Some(100), true, false, 10);
    }

    #[test]
    fn writes_cost_what_they_cause() {
        assert_eq!(write(9, 10), Work::one());
        assert_eq!(write(25, 10), Work { seats_first: 1, seats_after: 3, linger: TELLING });
        assert_eq!(write(200, 10), Work { seats_first: 1, seats_after: 10, linger: TELLING * 2 });
        assert_eq!(write(25, 10).seats(), 3);
    }
}
