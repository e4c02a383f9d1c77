//! Priority and fairness: who is served when more is asked than can be answered at once
//! (KEP-1040; upstream: `k8s.io/apiserver/pkg/util/flowcontrol`).
//!
//! ```text
//! config     FlowSchemas and PriorityLevelConfigurations as they are read
//! matching   which FlowSchema a request is of
//! work       how many seats a request takes, and for how long
//! level      the seats of one priority level
//! queues     who waits for them, and who is next
//! shares     how levels share the server's seats, and lend them
//! plan       all of that put together from the objects there are
//! bootstrap  the objects that every cluster has
//! keep       follows the objects, says what dangles, lends seats
//! watches    who sees a write, which is its price
//! inflight   two limits in place of all that, where it is switched off
//! dump       what /debug shows
//! ```
//!
//! A request that finds its level's seats free takes them by one atomic addition; a lock, and queues, are there for
//! those that have to wait. So fair queuing begins where there is a queue: upstream also counts what a flow took while
//! nobody waited.

mod bootstrap;
mod config;
mod dump;
mod figures;
mod inflight;
mod keep;
mod level;
mod matching;
mod plan;
mod queues;
mod shares;
mod watches;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use parking_lot::RwLock;
use tokio_util::task::TaskTracker;

pub(crate) use self::bootstrap::ensure;
pub(crate) use self::figures::FAMILIES;
use self::inflight::InFlight;
pub(crate) use self::keep::keep;
use self::level::Seats;
use self::plan::{Plan, Schema};
use self::watches::{Watches, Watching};
use crate::authn::{MASTERS, User};
use crate::request::RequestInfo;
use crate::response::{self, Response};
use crate::server::ApiServer;

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// Nobody waits longer for a place, however much time he has.
const MOST_WAITING: Duration = Duration::from_secs(60);

/// How many requests may be answered at once; both together are the seats that levels share
/// (upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub reading: u32,
    pub mutating: u32,
    /// Whether levels share the seats; otherwise each number is a limit by itself
    /// (upstream's `--enable-priority-and-fairness`).
    pub shared: bool,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { reading: 400, mutating: 200, shared: true }
    }
}

/// The seats of a server, and by what rules they are given.
pub(crate) struct FlowControl {
    /// The server's seats.
    capacity: u32,
    /// Whether levels share them.
    shared: bool,
    plan: RwLock<Arc<Plan>>,
    watches: Arc<Watches>,
    /// Requests that are being answered.
    reading: InFlight,
    mutating: InFlight,
    /// Told when somebody could not be served at once.
    pressure: tokio::sync::Notify,
    tasks: TaskTracker,
}

/// Which objects a request was of; its answer names them.
#[derive(Clone)]
pub(crate) struct Flow(Arc<Schema>);

/// A place among those in flight, until it is dropped.
pub(crate) struct Place {
    server: Arc<ApiServer>,
    mutating: bool,
    /// Where levels share the seats.
    taken: Option<Taken>,
}

/// What becomes of a request where flows are not told apart.
pub(crate) enum Plainly {
    Entered(Place),
    /// Neither waits nor makes others wait.
    Uncounted,
    Refused(Box<Response>),
}

/// What a request took of its level.
struct Taken {
    schema: Arc<Schema>,
    seats: Seats,
    /// For how long the seats are kept for what the request leaves behind.
    linger: Duration,
    begun: Instant,
}

impl FlowControl {
    pub(crate) fn new(capacity: Capacity, tasks: TaskTracker) -> Self {
        let Capacity { reading, mutating, shared } = capacity;
        let capacity = reading + mutating;
        Self {
            capacity,
            shared,
            plan: RwLock::new(Arc::new(Plan::make(&[], &[], capacity, &Plan::default()))),
            watches: Arc::default(),
            reading: InFlight::new(reading),
            mutating: InFlight::new(mutating),
            pressure: tokio::sync::Notify::new(),
            tasks,
        }
    }

    /// Whether requests are of flows, and levels share the seats.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// A place where flows are not told apart. Who may do anything gets an answer in any case.
    pub(crate) fn enter_plainly(server: &Arc<ApiServer>, user: &User, info: &RequestInfo) -> Plainly {
        let mutating = is_mutating(info);
        match server.flow_control.begin_plainly(user, info) {
            Some(true) => Plainly::Entered(Place { server: server.clone(), mutating, taken: None }),
            Some(false) => Plainly::Refused(Box::new(refusal(1))),
            None => Plainly::Uncounted,
        }
    }

    /// Counts a request, if that is done and nothing limits it.
    fn begin_plainly(&self, user: &User, info: &RequestInfo) -> Option<bool> {
        let counted = info.verb != "watch" && self.count(is_mutating(info)).begin_within_limit();
        (counted || !(info.verb == "watch" || user.is_in(MASTERS))).then_some(counted)
    }

    /// The flow that a request is of.
    pub(crate) fn classify(&self, user: &User, info: &RequestInfo) -> Flow {
        Flow(self.plan.read().classify(user, info))
    }

    /// A place for a request of `flow`, which is waited for no longer than a quarter of the time that it may take.
    /// The answer to one that gets none is an error.
    pub(crate) async fn enter(
        &self,
        server: &Arc<ApiServer>,
        flow: &Flow,
        user: &User,
        info: &RequestInfo,
        query: &str,
        allowed: Duration,
    ) -> Result<Place, Response> {
        let (schema, level) = (&flow.0, &flow.0.level);
        let work = if level.is_exempt() { work::Work::one() } else { work::estimate(self, server, level, info, query) };
        let begun = Instant::now();
        let seats = match level.try_take(work.seats()) {
            Some(seats) => {
                schema.figures.served(Duration::ZERO);
                seats
            }
            None => {
                self.pressure.notify_one();
                let wait = (allowed / 4).min(MOST_WAITING);
                let waited = level.wait(schema, schema.flow_hash(user, info), work, wait).await;
                match waited {
                    Ok(seats) => {
                        schema.figures.served(begun.elapsed());
                        seats
                    }
                    Err(why) => {
                        schema.figures.refused(begun.elapsed(), why);
                        return Err(refusal(level.retry_after()));
                    }
                }
            }
        };
        let mutating = is_mutating(info);
        self.count(mutating).begin();
        schema.figures.begun(work.seats());
        let taken = Taken { schema: schema.clone(), seats, linger: work.linger, begun: Instant::now() };
        Ok(Place { server: server.clone(), mutating, taken: Some(taken) })
    }

    /// Counts a watch for as long as what is returned lives.
    pub(crate) fn watching(&self, info: &RequestInfo) -> Option<Watching> {
        Watches::begin(&self.watches, info)
    }

    /// How many requests are being answered, by kind.
    pub(crate) fn taken(&self) -> [(&'static str, u32); 2] {
        [("mutating", self.mutating.number()), ("readOnly", self.reading.number())]
    }

    /// A table of what there is, for those who look for the cause of a delay.
    pub(crate) fn dump(&self, what: &str) -> Option<String> {
        if !self.shared {
            return None;
        }
        dump::table(&self.plan.read().clone(), what)
    }

    fn count(&self, mutating: bool) -> &InFlight {
        if mutating { &self.mutating } else { &self.reading }
    }
}

impl Flow {
    /// Names both objects by their uids: names would tell a client how it is valued.
    pub(crate) fn name_in(&self, headers: &mut HeaderMap) {
        headers.insert(SCHEMA_UID, self.0.uid.clone());
        headers.insert(LEVEL_UID, self.0.level_uid.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let control = &self.server.flow_control;
        control.count(self.mutating).end();
        let Some(Taken { schema, seats, linger, begun }) = self.taken.take() else { return };
        schema.figures.ended(seats.number(), begun.elapsed(), self.mutating);
        if linger.is_zero() {
            return;
        }
        // What a write causes goes on after its answer: its watchers are told.
        let until = tokio::time::Instant::now() + linger;
        control.tasks.spawn(async move {
            tokio::time::sleep_until(until).await;
            drop(seats);
        });
    }
}

fn is_mutating(info: &RequestInfo) -> bool {
    !matches!(info.verb, "get" | "list" | "watch" | "head" | "options")
}

/// In text, as upstream's.
fn refusal(retry_after: u32) -> Response {
    let mut response = response::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after));
    response
}

/// The level of a test: not of any object.
#[cfg(test)]
fn level_for_tests(limit: u32, queuing: Option<config::Queuing>) -> Arc<level::Level> {
    let level = level::Level::new("test", false);
    level.configure(queuing, limit);
    Arc::new(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_alone_refuse_where_seats_are_not_shared() {
        let capacity = Capacity { reading: 1, mutating: 1, shared: false };
        let control = FlowControl::new(capacity, TaskTracker::new());
        let (somebody, master) = (User::new("jane", &[]), User::new("root", &[MASTERS]));
        let begin = |user, verb| {
            control.begin_plainly(user, &RequestInfo { path: "/api/v1/pods".to_owned(), verb, resource: None })
        };
        assert_eq!((begin(&somebody, "get"), begin(&somebody, "create")), (Some(true), Some(true)));
        assert_eq!((begin(&somebody, "list"), begin(&somebody, "watch")), (Some(false), None));
        assert_eq!(begin(&master, "list"), None);
        control.count(false).end();
        assert_eq!(begin(&somebody, "list"), Some(true));
        assert_eq!(control.taken(), [("mutating", 1), ("readOnly", 1)]);
    }
}
