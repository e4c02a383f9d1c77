//! `/metrics`: what dashboards and the e2e suite read of an API server, and the process's own figures.

use std::time::Instant;

use client::metrics::{self, Family};
use http::{HeaderMap, StatusCode, header};

use crate::request::{RequestInfo, query_value};
use crate::response::{self, Response};
use crate::server::ApiServer;
use crate::{admission, audit, authn, authz, flowcontrol, health, limits};

/// The media type of figures.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Upstream's buckets of request durations, in seconds.
const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

static REQUESTS: Family = Family::counter(
    "apiserver_request_total",
    "[STABLE] Requests, by what they asked for and the code of their answer",
    &["code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"],
);
static DURATION: Family = Family::histogram(
    "apiserver_request_duration_seconds",
    "[STABLE] How long requests took that are not long-running",
    &["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"],
    SECONDS,
);
static IN_FLIGHT: Family = Family::gauge(
    "apiserver_current_inflight_requests",
    "[STABLE] Requests that are being answered, but for long-running ones",
    &["request_kind"],
);
static LONG_RUNNING: Family = Family::gauge(
    "apiserver_longrunning_requests",
    "[STABLE] Watches, logs and proxied requests under way",
    &["component", "group", "resource", "scope", "subresource", "verb", "version"],
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

static FAMILIES: [&Family; 13] = [
    &REQUESTS,
    &DURATION,
    &IN_FLIGHT,
    &LONG_RUNNING,
    &OBJECTS,
    &RESOURCE_OBJECTS,
    &BUILD,
    &CPU,
    &RESIDENT,
    &VIRTUAL,
    &STARTED,
    &OPEN_FILES,
    &MOST_FILES,
];

/// A request that is being answered.
pub(crate) struct Record {
    what: What,
    begun: Instant,
    long_running: bool,
}

/// The labels of a request. A path that names nothing that is served has none, so that nobody can invent series.
#[derive(Clone, Debug, Default)]
struct What {
    dry_run: &'static str,
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
}

impl Record {
    pub(crate) fn begin(server: &ApiServer, info: &RequestInfo, query: &str, headers: &HeaderMap) -> Self {
        let what = What::of(server, info, query, headers);
        Self { what, begun: Instant::now(), long_running: limits::is_long_running(info) }
    }

    /// Counts the answer; one that lasts is under way until its body ends.
    pub(crate) fn end(self, response: Response) -> Response {
        let Self { what, begun, long_running } = self;
        let What { dry_run, group, resource, scope, subresource, verb, version } = &what;
        let code = response.status();
        REQUESTS.add(&[code.as_str(), "apiserver", dry_run, group, resource, scope, subresource, verb, version], 1.0);
        if !long_running {
            let labels = ["apiserver", dry_run, group, resource, scope, subresource, verb, version];
            DURATION.observe(&labels, begun.elapsed().as_secs_f64());
            return response;
        }
        if code != StatusCode::OK {
            return response;
        }
        response::keeping(response, Lasting::begin(what))
    }
}

impl What {
    fn of(server: &ApiServer, info: &RequestInfo, query: &str, headers: &HeaderMap) -> Self {
        let verb = verb(info, headers);
        let Some(target) = &info.resource else {
            return Self { verb, ..Self::default() };
        };
        let served = server.registry.catalogue.find(&target.group, &target.version, &target.resource);
        let known = served.filter(|served| {
            target.subresource.is_empty() || served.version.subresource(&target.subresource).is_some()
        });
        if known.is_none() {
            return Self { verb, ..Self::default() };
        }
        Self {
            dry_run: if query_value(query, "dryRun").is_some() { "All" } else { "" },
            group: target.group.clone(),
            resource: target.resource.clone(),
            scope: match () {
                () if info.verb == "create" || !target.name.is_empty() => "resource",
                () if !target.namespace.is_empty() => "namespace",
                () => "cluster",
            },
            subresource: target.subresource.clone(),
            verb,
            version: target.version.clone(),
        }
    }
}

fn verb(info: &RequestInfo, headers: &HeaderMap) -> &'static str {
    let streamed = ["exec", "attach", "portforward", "proxy"];
    if info.resource.as_ref().is_some_and(|target| streamed.contains(&target.subresource.as_str())) {
        return "CONNECT";
    }
    match info.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => {
            let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
            if kind.starts_with("application/apply-patch") { "APPLY" } else { "PATCH" }
        }
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "OTHER",
    }
}

/// A request that lasts, while this is there.
struct Lasting(What);

impl Lasting {
    fn begin(what: What) -> Self {
        let lasting = Self(what);
        lasting.add(1.0);
        lasting
    }

    fn add(&self, by: f64) {
        let What { group, resource, scope, subresource, verb, version, .. } = &self.0;
        LONG_RUNNING.add(&["apiserver", group, resource, scope, subresource, verb, version], by);
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.add(-1.0);
    }
}

/// The answer to `/metrics`.
pub(crate) fn answer(server: &ApiServer) -> Response {
    for (kind, taken) in server.flow_control.taken() {
        IN_FLIGHT.set(&[kind], f64::from(taken));
    }
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
        .chain(admission::FAMILIES)
        .chain(admission::WEBHOOK_FAMILIES)
        .chain(audit::FAMILIES)
        .chain(flowcontrol::FAMILIES)
        .chain(authn::families())
        .chain(authz::FAMILIES);
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
    let most = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    if let Some(most) = most.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
        MOST_FILES.set(&[], most);
    }
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
    }

    #[test]
    fn verbs_are_upstreams() {
        let check = |method: &str, target: &str, kind: &str, expected: &str| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let info = RequestInfo::parse(&method.parse().unwrap(), path, query).unwrap();
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(verb(&info, &headers), expected, "{method} {target}");
        };
        check("GET", "/api/v1/pods", "", "LIST");
        check("GET", "/api/v1/pods?watch=1", "", "WATCH");
        check("PATCH", "/api/v1/nodes/n", "application/apply-patch+yaml", "APPLY");
        check("PATCH", "/api/v1/nodes/n", "application/merge-patch+json", "PATCH");
        check("GET", "/api/v1/nodes/n/proxy/x", "", "CONNECT");
        check("POST", "/api/v1/namespaces/a/pods/p/exec", "", "CONNECT");
        check("GET", "/version", "", "GET");
    }
}
