//! What is counted, by upstream's names. A schema's series are looked up once.

use std::time::Duration;

use client::metrics::{Family, Series};

use super::level::Refusal;
use super::shares::{Demand, Limits};

const BOTH: &[&str] = &["flow_schema", "priority_level"];
const SECONDS: &[f64] = &[0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

static DISPATCHED: Family =
    Family::counter("apiserver_flowcontrol_dispatched_requests_total", "[BETA] Requests that got their seats", BOTH);
static REJECTED: Family = Family::counter(
    "apiserver_flowcontrol_rejected_requests_total",
    "[BETA] Requests that got no seats, by the reason",
    &["flow_schema", "priority_level", "reason"],
);
static WAITING: Family =
    Family::gauge("apiserver_flowcontrol_current_inqueue_requests", "[BETA] Requests that wait for seats", BOTH);
static EXECUTING: Family = Family::gauge(
    "apiserver_flowcontrol_current_executing_requests",
    "[BETA] Requests that are being answered, and watches that begin",
    BOTH,
);
static SEATS: Family =
    Family::gauge("apiserver_flowcontrol_current_executing_seats", "[BETA] Seats that are taken", BOTH);
static WAITED: Family = Family::histogram(
    "apiserver_flowcontrol_request_wait_duration_seconds",
    "[BETA] How long requests waited for seats",
    &["execute", "flow_schema", "priority_level"],
    SECONDS,
);
static EXECUTED: Family = Family::histogram(
    "apiserver_flowcontrol_request_execution_seconds",
    "[ALPHA] How long the answering of requests took",
    &["flow_schema", "priority_level", "type"],
    SECONDS,
);
static NOMINAL: Family = Family::gauge(
    "apiserver_flowcontrol_nominal_limit_seats",
    "[BETA] The seats of a level by its shares alone",
    &["priority_level"],
);
static LEAST: Family = Family::gauge(
    "apiserver_flowcontrol_lower_limit_seats",
    "[ALPHA] The seats of a level when it has lent all that it lends",
    &["priority_level"],
);
static MOST: Family = Family::gauge(
    "apiserver_flowcontrol_upper_limit_seats",
    "[ALPHA] The seats of a level when it has borrowed all that it may",
    &["priority_level"],
);
static CURRENT: Family = Family::gauge(
    "apiserver_flowcontrol_current_limit_seats",
    "[ALPHA] The seats that a level has now",
    &["priority_level"],
);
static HIGH: Family = Family::gauge(
    "apiserver_flowcontrol_demand_seats_high_watermark",
    "[ALPHA] The most seats that a level needed at once in the last period",
    &["priority_level"],
);
static SMOOTHED: Family = Family::gauge(
    "apiserver_flowcontrol_demand_seats_smoothed",
    "[ALPHA] The seats that a level needed of late",
    &["priority_level"],
);

pub(crate) static FAMILIES: [&Family; 13] = [
    &DISPATCHED,
    &REJECTED,
    &WAITING,
    &EXECUTING,
    &SEATS,
    &WAITED,
    &EXECUTED,
    &NOMINAL,
    &LEAST,
    &MOST,
    &CURRENT,
    &HIGH,
    &SMOOTHED,
];

/// The series of one schema.
pub(super) struct Figures {
    schema: String,
    level: String,
    dispatched: Series,
    waiting: Series,
    executing: Series,
    seats: Series,
    waited: Series,
    read: Series,
    written: Series,
}

impl Figures {
    pub(super) fn of(schema: &str, level: &str) -> Self {
        let both = [schema, level];
        Self {
            schema: schema.to_owned(),
            level: level.to_owned(),
            dispatched: DISPATCHED.of(&both),
            waiting: WAITING.of(&both),
            executing: EXECUTING.of(&both),
            seats: SEATS.of(&both),
            waited: WAITED.of(&["true", schema, level]),
            read: EXECUTED.of(&[schema, level, "regular"]),
            written: EXECUTED.of(&[schema, level, "regular"]),
        }
    }

    pub(super) fn served(&self, waited: Duration) {
        self.dispatched.add(1.0);
        self.waited.observe(waited.as_secs_f64());
    }

    pub(super) fn refused(&self, waited: Duration, why: Refusal) {
        REJECTED.add(&[&self.schema, &self.level, why.reason()], 1.0);
        WAITED.observe(&["false", &self.schema, &self.level], waited.as_secs_f64());
    }

    pub(super) fn waits(&self, by: f64) {
        self.waiting.add(by);
    }

    pub(super) fn begun(&self, seats: u32) {
        self.executing.add(1.0);
        self.seats.add(f64::from(seats));
    }

    pub(super) fn ended(&self, seats: u32, took: Duration, mutating: bool) {
        self.executing.add(-1.0);
        self.seats.add(-f64::from(seats));
        let figures = if mutating { &self.written } else { &self.read };
        figures.observe(took.as_secs_f64());
    }
}

pub(super) fn tell_limits(level: &str, limits: Limits) {
    NOMINAL.set(&[level], f64::from(limits.nominal));
    LEAST.set(&[level], f64::from(limits.least));
    MOST.set(&[level], f64::from(limits.most));
}

pub(super) fn tell_lending(level: &str, limit: u32, demand: &Demand) {
    CURRENT.set(&[level], f64::from(limit));
    HIGH.set(&[level], f64::from(demand.high));
    SMOOTHED.set(&[level], demand.smoothed);
}
