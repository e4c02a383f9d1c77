//! Figures of requests. A request looks its own up once, by what it asks for; all else is additions.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use client::metrics::{Family, Kept, Series};
use http::{HeaderMap, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::request::{RequestInfo, query_value};
use crate::response::{self, Body, BoxError, Lengthy, Response};
use crate::server::ApiServer;
use crate::{health, limits};

/// Upstream's buckets of request durations, in seconds.
pub(crate) const SECONDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// The same of what is promised, which is not as fine.
const PROMISED: &[f64] =
    &[0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0];
const BYTES: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
const EVENT_BYTES: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0];

/// The labels of most families here, by name as all are told.
const ASKED: &[&str] = &["component", "group", "resource", "scope", "subresource", "verb", "version"];

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
static SLI: Family = Family::histogram(
    "apiserver_request_sli_duration_seconds",
    "[ALPHA] How long requests took that are not long-running, without the time in which webhooks were at work or \
     others were served first",
    ASKED,
    PROMISED,
);
static SIZES: Family =
    Family::histogram("apiserver_response_sizes", "[STABLE] Bytes of the answers to reads", ASKED, BYTES);
static LONG_RUNNING: Family =
    Family::gauge("apiserver_longrunning_requests", "[STABLE] Watches, logs and proxied requests under way", ASKED);
static TERMINATIONS: Family = Family::counter(
    "apiserver_request_terminations_total",
    "[ALPHA] Requests that the server ended to defend itself: that took too long, or were too many",
    &["code", "component", "group", "resource", "scope", "subresource", "verb", "version"],
);
static ABORTS: Family = Family::counter(
    "apiserver_request_aborts_total",
    "[ALPHA] Requests whose answer was given up in the middle",
    &["group", "resource", "scope", "subresource", "verb", "version"],
);
static DEPRECATED: Family = Family::gauge(
    "apiserver_requested_deprecated_apis",
    "[STABLE] Deprecated versions that were asked for; the value is always 1",
    &["group", "removed_release", "resource", "subresource", "version"],
);
static WATCH_EVENTS: Family = Family::counter(
    "apiserver_watch_events_total",
    "[ALPHA] Events that were sent to watchers",
    &["group", "resource", "version"],
);
static WATCH_SIZES: Family = Family::histogram(
    "apiserver_watch_events_sizes",
    "[ALPHA] Bytes of the events that were sent to watchers",
    &["group", "resource", "version"],
    EVENT_BYTES,
);

pub(super) static FAMILIES: [&Family; 10] = [
    &REQUESTS,
    &DURATION,
    &SLI,
    &SIZES,
    &LONG_RUNNING,
    &TERMINATIONS,
    &ABORTS,
    &DEPRECATED,
    &WATCH_EVENTS,
    &WATCH_SIZES,
];

/// Codes whose series are kept at hand.
const CODES: [u16; 10] = [200, 201, 404, 409, 304, 403, 401, 422, 429, 500];

/// What a request's answer says nothing of.
#[derive(Default)]
struct Notes {
    /// Time that is not this server's.
    elsewhere: Cell<Duration>,
    terminated: Cell<bool>,
}

tokio::task_local! {
    static NOTES: Notes;
}

/// Answers a request within which others may say what counts.
pub(crate) fn noted<F: Future>(answering: F) -> impl Future<Output = F::Output> {
    NOTES.scope(Notes::default(), answering)
}

/// In that time somebody else was at work for the request, or was served first.
pub(crate) fn elsewhere(took: Duration) {
    // What no client asked for is not counted.
    let _ = NOTES.try_with(|notes| notes.elsewhere.set(notes.elsewhere.get() + took));
}

/// The server ends the request to defend itself.
pub(crate) fn terminated() {
    let _ = NOTES.try_with(|notes| notes.terminated.set(true));
}

/// The labels of a request.
#[derive(Clone, Copy, Default)]
struct What<'a> {
    component: &'static str,
    dry_run: &'static str,
    group: &'a str,
    resource: &'a str,
    scope: &'static str,
    subresource: &'a str,
    verb: &'static str,
    version: &'a str,
}

/// The series of all requests with the same labels.
#[derive(Default)]
struct Figures {
    labels: [Box<str>; 8],
    /// Set where the version is deprecated: the release without it, if it is known.
    deprecated: Option<String>,
    told_deprecated: OnceLock<()>,
    codes: [OnceLock<Series>; CODES.len()],
    duration: OnceLock<Series>,
    sli: OnceLock<Series>,
    sizes: OnceLock<Series>,
    long_running: OnceLock<Series>,
}

static KEPT: Kept<Figures> = Kept::new();

/// A request that is being answered.
pub(crate) struct Record {
    figures: Arc<Figures>,
    begun: Instant,
    long_running: bool,
}

impl Record {
    pub(crate) fn begin(server: &ApiServer, info: &RequestInfo, query: &str, headers: &HeaderMap) -> Self {
        let figures = Figures::of(server, What::of(info, query, headers));
        Self { figures, begun: Instant::now(), long_running: limits::is_long_running(info) }
    }

    /// Counts the answer; one that lasts is under way until its body ends.
    pub(crate) fn end(self, response: Response) -> Response {
        let Self { figures, begun, long_running } = self;
        let code = response.status();
        figures.count(code);
        let (elsewhere, terminated) =
            NOTES.try_with(|notes| (notes.elsewhere.get(), notes.terminated.get())).unwrap_or_default();
        if terminated {
            let [component, _, group, resource, scope, subresource, verb, version] = figures.labels();
            let values = [code.as_str(), component, group, resource, scope, subresource, verb, version];
            TERMINATIONS.add(&values, 1.0);
        }
        if long_running {
            if code != StatusCode::OK {
                return response;
            }
            return response::keeping(response, Lasting::begin(figures));
        }
        let took = begun.elapsed();
        figures.duration().observe(took.as_secs_f64());
        if figures.labels[1].is_empty() {
            figures.sli().observe(took.saturating_sub(elsewhere).as_secs_f64());
        }
        figures.tell_size(response)
    }
}

impl<'a> What<'a> {
    fn of(info: &'a RequestInfo, query: &str, headers: &HeaderMap) -> Self {
        let verb = verb(info, headers);
        let Some(target) = &info.resource else {
            // Upstream counts health as subresources of nothing, and without a component.
            let subresource = if health::is_root(&info.path) { info.path.as_str() } else { "" };
            let component = if subresource.is_empty() { COMPONENT } else { "" };
            return Self { verb, component, subresource, ..Self::default() };
        };
        Self {
            component: COMPONENT,
            dry_run: if query.contains("dryRun") && query_value(query, "dryRun").is_some() { "All" } else { "" },
            group: &target.group,
            resource: &target.resource,
            scope: match () {
                () if info.verb == "create" || !target.name.is_empty() => "resource",
                () if !target.namespace.is_empty() => "namespace",
                () => "cluster",
            },
            subresource: &target.subresource,
            verb,
            version: &target.version,
        }
    }

    /// In the order in which all are told.
    fn values(self) -> [&'a str; 8] {
        let Self { component, dry_run, group, resource, scope, subresource, verb, version } = self;
        [component, dry_run, group, resource, scope, subresource, verb, version]
    }
}

const COMPONENT: &str = "apiserver";

impl Figures {
    /// A path that names nothing that is served has no labels, so that nobody can invent series.
    fn of(server: &ApiServer, what: What<'_>) -> Arc<Self> {
        if let Some(known) = KEPT.find(&what.values()) {
            return known;
        }
        let served = server.registry.catalogue.find(what.group, what.version, what.resource);
        let served = served
            .filter(|served| what.subresource.is_empty() || served.version.subresource(what.subresource).is_some());
        let deprecated = served.as_ref().and_then(|served| served.version.deprecated.as_deref()).map(removed_release);
        let what = match served {
            None if !what.resource.is_empty() => What { component: COMPONENT, verb: what.verb, ..What::default() },
            _ => what,
        };
        let values = what.values();
        KEPT.find_or(&values, || Self { labels: values.map(Box::from), deprecated, ..Self::default() })
    }

    fn labels(&self) -> [&str; 8] {
        self.labels.each_ref().map(|label| &**label)
    }

    /// All labels but whether it was a rehearsal.
    fn asked(&self) -> [&str; 7] {
        let [component, _, group, resource, scope, subresource, verb, version] = self.labels();
        [component, group, resource, scope, subresource, verb, version]
    }

    fn count(&self, code: StatusCode) {
        let series = || {
            let [component, dry_run, group, resource, scope, subresource, verb, version] = self.labels();
            REQUESTS.of(&[code.as_str(), component, dry_run, group, resource, scope, subresource, verb, version])
        };
        match CODES.iter().position(|known| *known == code.as_u16()) {
            Some(at) => self.codes[at].get_or_init(series).add(1.0),
            None => series().add(1.0),
        }
        if let Some(removed) = &self.deprecated {
            self.told_deprecated.get_or_init(|| {
                let [_, _, group, resource, _, subresource, _, version] = self.labels();
                DEPRECATED.set(&[group, removed, resource, subresource, version], 1.0);
            });
        }
    }

    fn duration(&self) -> &Series {
        self.duration.get_or_init(|| DURATION.of(&self.labels()))
    }

    fn sli(&self) -> &Series {
        self.sli.get_or_init(|| SLI.of(&self.asked()))
    }

    fn sizes(&self) -> &Series {
        self.sizes.get_or_init(|| SIZES.of(&self.asked()))
    }

    /// Counts the bytes of an answer to a read, now or when they have all been sent.
    fn tell_size(self: &Arc<Self>, response: Response) -> Response {
        let read = matches!(&*self.labels[6], "GET" | "LIST");
        let whole = response.body().size_hint().exact().filter(|_| response.extensions().get::<Lengthy>().is_none());
        match whole {
            Some(size) if read => self.sizes().observe(size as f64),
            Some(_) => {}
            None => {
                let figures = self.clone();
                return response.map(|body| Counted { body, figures, read, sent: 0 }.boxed_unsync());
            }
        }
        response
    }
}

/// From the text that warns of a deprecated version, the release that no longer has it.
pub(crate) fn removed_release(warning: &str) -> String {
    let release = warning.split_once("unavailable in v").map(|(_, rest)| rest.split('+').next().unwrap_or_default());
    release.unwrap_or_default().to_owned()
}

/// A body whose bytes are counted as they are sent.
struct Counted {
    body: Body,
    figures: Arc<Figures>,
    read: bool,
    sent: u64,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => this.sent += frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(_)) => {
                let [_, group, resource, scope, subresource, verb, version] = this.figures.asked();
                ABORTS.add(&[group, resource, scope, subresource, verb, version], 1.0);
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.read {
            self.figures.sizes().observe(self.sent as f64);
        }
    }
}

fn verb(info: &RequestInfo, headers: &HeaderMap) -> &'static str {
    let streamed = ["exec", "attach", "portforward", "proxy", "log"];
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
struct Lasting(Arc<Figures>);

impl Lasting {
    fn begin(figures: Arc<Figures>) -> Self {
        let lasting = Self(figures);
        lasting.series().add(1.0);
        lasting
    }

    fn series(&self) -> &Series {
        self.0.long_running.get_or_init(|| LONG_RUNNING.of(&self.0.asked()))
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.series().add(-1.0);
    }
}

/// What the watchers of a version are sent.
pub(crate) struct Sent {
    events: Series,
    sizes: Series,
}

impl Sent {
    pub(crate) fn of(group: &str, version: &str, resource: &str) -> Self {
        let values = [group, resource, version];
        Self { events: WATCH_EVENTS.of(&values), sizes: WATCH_SIZES.of(&values) }
    }

    /// Counts an event of so many bytes.
    pub(crate) fn event(&self, size: usize) {
        self.events.add(1.0);
        self.sizes.observe(size as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check("GET", "/api/v1/namespaces/a/pods/p/log", "", "CONNECT");
        check("POST", "/api/v1/namespaces/a/pods/p/exec", "", "CONNECT");
        check("GET", "/version", "", "GET");
    }

    /// Figures that no other test shares.
    fn figures(resource: &str) -> Arc<Figures> {
        let labels = [COMPONENT, "", "", resource, "cluster", "", "LIST", "v1"].map(Box::from);
        Arc::new(Figures { labels, ..Figures::default() })
    }

    fn told(family: &Family, resource: &str) -> Vec<String> {
        let text = client::metrics::text([family]);
        let of = format!("resource=\"{resource}\"");
        text.lines().filter(|line| line.contains(&of)).map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn what_others_took_is_no_part_of_what_is_promised() {
        let began = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let record = Record { figures: figures("slow"), begun: began, long_running: false };
        noted(async {
            elsewhere(Duration::from_secs(6));
            elsewhere(Duration::from_millis(3920));
            terminated();
            record.end(response::text(StatusCode::GATEWAY_TIMEOUT, ""))
        })
        .await;
        let took = |family, bound: &str| {
            let lines = told(family, "slow");
            lines.iter().any(|line| line.contains(&format!("le=\"{bound}\"}} 1")))
        };
        assert!(took(&SLI, "0.1") && !took(&SLI, "0.05"), "{:?}", told(&SLI, "slow"));
        assert!(took(&DURATION, "15") && !took(&DURATION, "8"));
        assert_eq!(told(&TERMINATIONS, "slow").len(), 1);
        assert!(told(&TERMINATIONS, "slow")[0].starts_with("apiserver_request_terminations_total{code=\"504\""));
    }

    #[tokio::test]
    async fn answers_are_measured_when_they_are_whole_and_when_they_are_not() {
        let size = |resource, bound: &str| {
            let lines = told(&SIZES, resource);
            let end = format!("le=\"{bound}\"}} ");
            let count = lines.iter().find_map(|line| line.split_once(&end)).map(|(_, count)| count.to_owned());
            count.unwrap_or_default()
        };
        let whole = figures("whole").tell_size(response::text(StatusCode::OK, "x".repeat(1001)));
        assert_eq!((size("whole", "1000"), size("whole", "10000")), ("0".to_owned(), "1".to_owned()));
        drop(whole);

        let pieces = || [Ok(Bytes::from("x".repeat(900))), Ok(Bytes::from("x".repeat(900)))];
        let sent = |resource, pieces: Vec<Result<Bytes, BoxError>>| {
            let body = response::lengthy("text/plain", None, Lengthy::default(), futures::stream::iter(pieces));
            figures(resource).tell_size(body).into_body().collect()
        };
        sent("pieces", pieces().into()).await.unwrap();
        assert_eq!((size("pieces", "1000"), size("pieces", "10000")), ("0".to_owned(), "1".to_owned()));
        assert!(told(&ABORTS, "pieces").is_empty());
        let cut = pieces().into_iter().chain([Err("gone".into())]).collect();
        sent("cut", cut).await.unwrap_err();
        assert_eq!(told(&ABORTS, "cut").len(), 1);
    }

    #[test]
    fn the_release_without_a_version_is_in_its_warning() {
        assert_eq!(removed_release("a/v1beta1 B is deprecated in v1.33+, unavailable in v1.37+; use a/v1"), "1.37");
        assert_eq!(removed_release("v1 Endpoints is deprecated in v1.33+"), "");
    }
}
