//! `/metrics`: what dashboards and the e2e suite read of an API server, and the process's own figures.

mod requests;

use client::metrics::{self, Family};
use client::workqueue;
use http::StatusCode;

use crate::response::{self, Response};
use crate::server::ApiServer;
use crate::{admission, aggregation, audit, authn, authz, datastore, flowcontrol, health, reload, services};

pub(crate) use requests::{Record, SECONDS, Sent, elsewhere, noted, removed_release, terminated};

/// The media type of figures.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
static IN_FLIGHT: Family = Family::gauge(
    "apiserver_current_inflight_requests",
    "[STABLE] Requests that are being answered, but for long-running ones",
    &["request_kind"],
);
static OBJECTS: Family =
    Family::gauge("apiserver_storage_objects", "[STABLE] Stored objects, by resource", &["resource"]);
static RESOURCE_OBJECTS: Family = Family::gauge(
    "apiserver_resource_objects",
    "[ALPHA] Stored objects, by group and resource",
    &["group", "resource"],
);
static BUILD: Family = Family::gauge(
    "kubernetes_build_info",
    "[ALPHA] What was built; the value is always 1",
    &["git_version", "major", "minor", "platform"],
);
static CPU: Family = Family::counter("process_cpu_seconds_total", "CPU time of the process in seconds", &[]);
static RESIDENT: Family = Family::gauge("process_resident_memory_bytes", "Resident memory of the process", &[]);
static VIRTUAL: Family = Family::gauge("process_virtual_memory_bytes", "Virtual memory of the process", &[]);
static STARTED: Family = Family::gauge("process_start_time_seconds", "When the process began, since 1970", &[]);
static OPEN_FILES: Family = Family::gauge("process_open_fds", "Open file descriptors", &[]);
static MOST_FILES: Family = Family::gauge("process_max_fds", "The most file descriptors that may be open", &[]);

static RECEIVED: Family =
    Family::counter("process_network_receive_bytes_total", "Bytes that came over the network", &[]);
static SENT: Family = Family::counter("process_network_transmit_bytes_total", "Bytes that left over the network", &[]);
static MOST_VIRTUAL: Family =
    Family::gauge("process_virtual_memory_max_bytes", "The most virtual memory that the process may have", &[]);
static STORAGE_SIZE: Family = Family::gauge(
    "apiserver_storage_size_bytes",
    "[STABLE] Bytes that the datastore's files take",
    &["storage_cluster_id"],
);
/// Connections that ended before TLS was agreed on.
pub(crate) static TLS_ERRORS: Family = Family::counter(
    "apiserver_tls_handshake_errors_total",
    "[ALPHA] Connections that ended before TLS was agreed on",
    &[],
);

static FAMILIES: [&Family; 15] = [
    &IN_FLIGHT,
    &OBJECTS,
    &RESOURCE_OBJECTS,
    &STORAGE_SIZE,
    &TLS_ERRORS,
    &BUILD,
    &CPU,
    &RESIDENT,
    &VIRTUAL,
    &MOST_VIRTUAL,
    &STARTED,
    &OPEN_FILES,
    &MOST_FILES,
    &RECEIVED,
    &SENT,
];

/// The answer to `/metrics`.
pub(crate) fn answer(server: &ApiServer) -> Response {
    for (kind, taken) in server.flow_control.taken() {
        IN_FLIGHT.set(&[kind], f64::from(taken));
    }
    TLS_ERRORS.add(&[], 0.0);
    if let Some(bytes) = server.registry.store.size() {
        STORAGE_SIZE.set(&["etcd-0"], bytes as f64);
    }
    aggregation::tell_unavailable(server);
    services::tell(server);
    workqueue::tell_busy();
    // What is no longer served is no longer told.
    OBJECTS.reset();
    RESOURCE_OBJECTS.reset();
    for served in server.registry.catalogue.all().values() {
        let Some(cache) = served.cache.as_ref().filter(|_| served.is_storage_version()) else { continue };
        let (group, plural) = (&served.row.storage_group, &served.row.plural);
        let qualified = if group.is_empty() { plural.clone() } else { format!("{plural}.{group}") };
        OBJECTS.set(&[&qualified], cache.len() as f64);
        RESOURCE_OBJECTS.set(&[group, plural], cache.len() as f64);
    }
    let version = |key: &str| server.version[key].as_str().unwrap_or_default();
    BUILD.set(&[version("gitVersion"), version("major"), version("minor"), version("platform")], 1.0);
    process();
    let families = FAMILIES
        .into_iter()
        .chain(requests::FAMILIES)
        .chain(datastore::FAMILIES)
        .chain(aggregation::FAMILIES)
        .chain(admission::FAMILIES)
        .chain(admission::WEBHOOK_FAMILIES)
        .chain(audit::FAMILIES)
        .chain(flowcontrol::FAMILIES)
        .chain(authn::families())
        .chain(authz::FAMILIES)
        .chain(reload::FAMILIES)
        .chain(services::FAMILIES);
    let text = metrics::text(families.chain(metrics::FAMILIES));
    response::bytes(StatusCode::OK, TEXT, text)
}

/// The answer to `/metrics/slis`: how the checks of health went.
pub(crate) fn slis() -> Response {
    process();
    let text = metrics::text(health::FAMILIES.into_iter().chain([&STARTED]));
    response::bytes(StatusCode::OK, TEXT, text)
}

/// Reads the process's own figures; what the kernel does not tell stays as it was.
fn process() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if let Some(figures) = Figures::parse(&read("/proc/self/stat"), &read("/proc/stat")) {
        CPU.set(&[], figures.cpu);
        RESIDENT.set(&[], figures.resident);
        VIRTUAL.set(&[], figures.virtual_memory);
        STARTED.set(&[], figures.started);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        OPEN_FILES.set(&[], files.count() as f64);
    }
    let limits = read("/proc/self/limits");
    for (what, family) in [("Max open files", &MOST_FILES), ("Max address space", &MOST_VIRTUAL)] {
        if let Some(most) = most(&limits, what) {
            family.set(&[], most);
        }
    }
    if let Some((received, sent)) = octets(&read("/proc/self/net/netstat")) {
        RECEIVED.set(&[], received);
        SENT.set(&[], sent);
    }
}

/// A soft limit out of `/proc/self/limits`. What has none has what Go's reader gives it.
fn most(limits: &str, what: &str) -> Option<f64> {
    let soft = limits.lines().find_map(|line| line.strip_prefix(what))?.split_whitespace().next()?;
    if soft == "unlimited" { Some(u64::MAX as f64) } else { soft.parse().ok() }
}

/// Bytes in and out of the process's network namespace, out of `/proc/self/net/netstat`: a line of names, a line of
/// numbers.
fn octets(netstat: &str) -> Option<(f64, f64)> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let at = names.split_whitespace().position(|name| name == wanted)?;
        numbers.split_whitespace().nth(at)?.parse::<f64>().ok()
    };
    Some((of("InOctets")?, of("OutOctets")?))
}

#[derive(Debug, PartialEq)]
struct Figures {
    cpu: f64,
    resident: f64,
    virtual_memory: f64,
    started: f64,
}

impl Figures {
    /// Of `/proc/self/stat` (see proc_pid_stat(5)) and `/proc/stat`, whose `btime` is when the machine began.
    fn parse(own: &str, machine: &str) -> Option<Self> {
        const TICKS: f64 = 100.0;
        const PAGE: f64 = 4096.0;
        // The program's name is in parentheses and may hold anything.
        let fields: Vec<&str> = own.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let booted = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<f64>().ok()?;
        Some(Self {
            cpu: (field(14)? + field(15)?) / TICKS,
            resident: field(24)? * PAGE,
            virtual_memory: field(23)?,
            started: booted + field(22)? / TICKS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        let own = "7 (k3rs ) x) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 4 0 300 8192 2 18446744073709551615";
        let expected = Figures { cpu: 2.0, resident: 8192.0, virtual_memory: 8192.0, started: 1003.0 };
        assert_eq!(Figures::parse(own, "cpu 1\nbtime 1000\n"), Some(expected));
        assert_eq!(Figures::parse("", "btime 1\n"), None);
        let limits =
            "Max open files            1024     4096     files\nMax address space   unlimited unlimited bytes\n";
        assert_eq!((most(limits, "Max open files"), most(limits, "Max data")), (Some(1024.0), None));
        assert_eq!(most(limits, "Max address space"), Some(18446744073709551616.0));
        let netstat = "TcpExt: A\nTcpExt: 1\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 0 7 8\n";
        assert_eq!((octets(netstat), octets("IpExt: InOctets\n")), (Some((7.0, 8.0)), None));
    }
}
