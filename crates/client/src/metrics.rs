//! Counters, gauges and histograms, told in Prometheus' text format, and those that every component of a client has.
//!
//! A family is a static: a row of a table that names its labels once. Counting is a look-up and an addition; no lock is
//! held while anything else happens.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

/// Upstream's buckets of requests to a server, in seconds.
const ASKED: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
/// Upstream's buckets of work queues, in seconds.
const WORK: &[f64] = &[1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0];

pub static QUEUE_ADDS: Family =
    Family::counter("workqueue_adds_total", "[STABLE] Keys that were queued, by queue", &["name"]);
pub static QUEUE_DEPTH: Family = Family::gauge("workqueue_depth", "[STABLE] Keys that wait, by queue", &["name"]);
pub static QUEUE_RETRIES: Family =
    Family::counter("workqueue_retries_total", "[STABLE] Keys that were queued again after a failure", &["name"]);
pub static QUEUE_WAIT: Family =
    Family::histogram("workqueue_queue_duration_seconds", "[STABLE] How long keys waited", &["name"], WORK);
pub static QUEUE_WORK: Family =
    Family::histogram("workqueue_work_duration_seconds", "[STABLE] How long the work on keys took", &["name"], WORK);
/// Told by [`crate::workqueue::tell_busy`].
pub static QUEUE_UNFINISHED: Family = Family::gauge(
    "workqueue_unfinished_work_seconds",
    "[STABLE] For how long, added up, workers have been at keys that they are not done with",
    &["name"],
);
pub static QUEUE_LONGEST: Family = Family::gauge(
    "workqueue_longest_running_processor_seconds",
    "[STABLE] For how long the slowest worker has been at its key",
    &["name"],
);
pub static REQUEST_TIME: Family = Family::histogram(
    "rest_client_request_duration_seconds",
    "[ALPHA] How long requests to the API server took",
    &["host", "verb"],
    ASKED,
);
pub static REQUESTS: Family = Family::counter(
    "rest_client_requests_total",
    "[STABLE] Requests to the API server, by the code of their answer",
    &["code", "host", "method"],
);

/// All families of this crate.
pub static FAMILIES: [&Family; 9] = [
    &QUEUE_ADDS,
    &QUEUE_DEPTH,
    &QUEUE_RETRIES,
    &QUEUE_WAIT,
    &QUEUE_WORK,
    &QUEUE_UNFINISHED,
    &QUEUE_LONGEST,
    &REQUEST_TIME,
    &REQUESTS,
];

/// A metric and its series, one for each combination of labels.
pub struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    kind: Kind,
    series: Kept<Cells>,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// The upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// One series, looked up once: counting is an addition.
pub struct Series {
    cells: Arc<Cells>,
    kind: Kind,
}

/// Things that are found again by the values of labels, which are copied only when a thing is new.
pub struct Kept<T> {
    /// By the hash of the values: of those who share one there are seldom two.
    found: RwLock<ByHash<T>>,
}

type ByHash<T> = HashMap<u64, Vec<(Box<[Box<str>]>, Arc<T>)>, BuildHasherDefault<DefaultHasher>>;

impl<T> Kept<T> {
    pub const fn new() -> Self {
        Self { found: RwLock::new(HashMap::with_hasher(BuildHasherDefault::new())) }
    }

    pub fn find(&self, values: &[&str]) -> Option<Arc<T>> {
        let found = self.found.read();
        let same = found.get(&hash(values))?;
        same.iter().find(|(known, _)| is_same(known, values)).map(|(_, kept)| kept.clone())
    }

    pub fn find_or(&self, values: &[&str], make: impl FnOnce() -> T) -> Arc<T> {
        if let Some(kept) = self.find(values) {
            return kept;
        }
        let mut found = self.found.write();
        let same = found.entry(hash(values)).or_default();
        if let Some((_, kept)) = same.iter().find(|(known, _)| is_same(known, values)) {
            return kept.clone();
        }
        let kept = Arc::new(make());
        same.push((values.iter().map(|&value| value.into()).collect(), kept.clone()));
        kept
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn hash(values: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    hasher.finish()
}

fn is_same(known: &[Box<str>], values: &[&str]) -> bool {
    known.iter().map(|it| &**it).eq(values.iter().copied())
}

/// Numbers are `f64` by their bits.
struct Cells {
    /// A histogram's sum.
    value: AtomicU64,
    /// How many fell into each bucket, and last how many into none.
    buckets: Box<[AtomicU64]>,
}

impl Family {
    pub const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, help, labels, Kind::Counter)
    }

    pub const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self::new(name, help, labels, Kind::Gauge)
    }

    /// `buckets` are upper bounds, ascending, without infinity.
    pub const fn histogram(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
    ) -> Self {
        Self::new(name, help, labels, Kind::Histogram(buckets))
    }

    const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str], kind: Kind) -> Self {
        Self { name, help, labels, kind, series: Kept::new() }
    }

    /// Adds to a counter or gauge. `values` are those of the family's labels, in their order.
    pub fn add(&self, values: &[&str], by: f64) {
        add(&self.series(values).value, by);
    }

    /// Sets a gauge.
    pub fn set(&self, values: &[&str], to: f64) {
        self.series(values).value.store(to.to_bits(), Ordering::Relaxed);
    }

    /// Puts a figure into a histogram.
    pub fn observe(&self, values: &[&str], figure: f64) {
        self.series(values).observe(self.kind, figure);
    }

    /// The series of `values`, for those who count often.
    pub fn of(&self, values: &[&str]) -> Series {
        Series { cells: self.series(values), kind: self.kind }
    }

    /// Forgets all series, for a gauge that is told anew of what there is.
    pub fn reset(&self) {
        self.series.found.write().clear();
    }

    fn series(&self, values: &[&str]) -> Arc<Cells> {
        debug_assert_eq!(values.len(), self.labels.len(), "{}: a value for each label", self.name);
        self.series.find_or(values, || Cells::new(self.kind))
    }

    /// Labels as they are told: `a="x",b="y"`.
    fn key(&self, values: &[Box<str>]) -> String {
        let mut key = String::with_capacity(128);
        for (label, value) in self.labels.iter().zip(values) {
            if !key.is_empty() {
                key.push(',');
            }
            key.push_str(label);
            key.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => key.push_str("\\\\"),
                    '"' => key.push_str("\\\""),
                    '\n' => key.push_str("\\n"),
                    other => key.push(other),
                }
            }
            key.push('"');
        }
        key
    }

    /// Tells the family; nothing if it has no series yet.
    fn tell(&self, out: &mut String) {
        let found = self.series.found.read();
        let mut series: Vec<(String, &Arc<Cells>)> =
            found.values().flatten().map(|(values, cells)| (self.key(values), cells)).collect();
        if series.is_empty() {
            return;
        }
        series.sort_by(|one, other| one.0.cmp(&other.0));
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = write!(out, "# HELP {0} {1}\n# TYPE {0} {kind}\n", self.name, self.help);
        for (labels, series) in &series {
            match self.kind {
                Kind::Histogram(bounds) => series.tell_histogram(self.name, labels, bounds, out),
                _ => sample(self.name, labels, series.number(), out),
            }
        }
    }
}

impl Series {
    /// Adds to a counter or gauge.
    pub fn add(&self, by: f64) {
        add(&self.cells.value, by);
    }

    /// Puts a figure into a histogram.
    pub fn observe(&self, figure: f64) {
        self.cells.observe(self.kind, figure);
    }
}

impl Cells {
    fn new(kind: Kind) -> Self {
        let buckets = match kind {
            Kind::Histogram(bounds) => bounds.len() + 1,
            _ => 0,
        };
        Self { value: AtomicU64::new(0f64.to_bits()), buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect() }
    }

    fn observe(&self, kind: Kind, figure: f64) {
        let Kind::Histogram(bounds) = kind else { return };
        let bucket = bounds.partition_point(|bound| *bound < figure);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        add(&self.value, figure);
    }

    fn number(&self) -> f64 {
        f64::from_bits(self.value.load(Ordering::Relaxed))
    }

    /// Each bucket counts what is at most its bound, so the last counts all.
    fn tell_histogram(&self, name: &str, labels: &str, bounds: &[f64], out: &mut String) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            let bound = bounds.get(at).map_or("+Inf".to_owned(), f64::to_string);
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        }
        sample(&format!("{name}_sum"), labels, self.number(), out);
        sample(&format!("{name}_count"), labels, count as f64, out);
    }
}

fn add(to: &AtomicU64, by: f64) {
    let added = |bits| Some((f64::from_bits(bits) + by).to_bits());
    // The closure always gives a number.
    let _ = to.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added);
}

fn sample(name: &str, labels: &str, value: f64, out: &mut String) {
    let _ = match labels {
        "" => writeln!(out, "{name} {value}"),
        _ => writeln!(out, "{name}{{{labels}}} {value}"),
    };
}

/// The families in the text format of Prometheus, version 0.0.4.
pub fn text<'a>(families: impl IntoIterator<Item = &'a Family>) -> String {
    let mut out = String::with_capacity(16 << 10);
    families.into_iter().for_each(|family| family.tell(&mut out));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_as_prometheus_reads_them() {
        static COUNTED: Family = Family::counter("counted_total", "What is counted", &["who", "what"]);
        static LEVEL: Family = Family::gauge("level", "How high", &[]);
        static TOOK: Family = Family::histogram("took_seconds", "How long", &["who"], &[0.1, 1.0]);
        static SILENT: Family = Family::counter("silent_total", "Nothing", &[]);
        COUNTED.add(&["a", "quote\" slash\\ line\n"], 1.0);
        COUNTED.add(&["a", "quote\" slash\\ line\n"], 2.0);
        LEVEL.set(&[], 2.5);
        LEVEL.add(&[], -1.0);
        for figure in [0.05, 0.1, 0.5, 7.0] {
            TOOK.observe(&["a"], figure);
        }
        expect_test::expect![[r#"
            # HELP counted_total What is counted
            # TYPE counted_total counter
            counted_total{who="a",what="quote\" slash\\ line\n"} 3
            # HELP level How high
            # TYPE level gauge
            level 1.5
            # HELP took_seconds How long
            # TYPE took_seconds histogram
            took_seconds_bucket{who="a",le="0.1"} 2
            took_seconds_bucket{who="a",le="1"} 3
            took_seconds_bucket{who="a",le="+Inf"} 4
            took_seconds_sum{who="a"} 7.65
            took_seconds_count{who="a"} 4
        "#]]
        .assert_eq(&text([&COUNTED, &LEVEL, &TOOK, &SILENT]));
    }
}
