//! The audit log: who asked for what, what became of it, in as much detail as a policy says
//! (upstream: `k8s.io/apiserver/pkg/audit`).
//!
//! ```text
//! policy   which requests, in how much detail
//! event    what is told of one request at one of its stages
//! trail    one request's events, from its arrival to the end of its answer
//! log      the file
//! webhook  another server that is told
//! waiting  the queue to either
//! ```
//!
//! Without a policy a request costs the name that its answer carries (`Audit-Id`), and nothing else. With one, nobody
//! waits for the file or the other server: events are queued, and where the queue is full they are counted as lost. That
//! is upstream's mode `batch`; `blocking`, its default for files, lets a slow disk hold up the API, and is to be asked for.

mod event;
mod log;
mod policy;
mod trail;
mod waiting;
mod webhook;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use client::metrics::Family;
use futures::FutureExt as _;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use self::event::Event;
pub use self::event::Format;
use self::log::Direct;
pub use self::log::Retention;
pub use self::policy::PolicyError;
use self::policy::{Level, Policy};
pub(crate) use self::trail::Trail;
use self::waiting::Waiting;
use self::webhook::Hook;
pub use self::webhook::{Batch, Truncate, WebhookOptions};
use crate::authn::User;
use crate::outbound::Outbound;
use crate::request::RequestInfo;

/// How a request is named in the audit log; a client may choose the name.
pub(crate) const ID: HeaderName = HeaderName::from_static("audit-id");

static EVENTS: Family =
    Family::counter("apiserver_audit_event_total", "[ALPHA] Audit events that were made and handed to the log", &[]);
static ERRORS: Family = Family::counter(
    "apiserver_audit_error_total",
    "[ALPHA] Audit events that were lost, by the part that lost them",
    &["plugin"],
);
static LEVELS: Family =
    Family::counter("apiserver_audit_level_total", "[ALPHA] Requests by the level of their audit events", &["level"]);

static REJECTED: Family = Family::counter(
    "apiserver_audit_requests_rejected_total",
    "[ALPHA] Requests that were not served since they could not be recorded",
    &[],
);

pub(crate) static FAMILIES: [&Family; 4] = [&EVENTS, &ERRORS, &LEVELS, &REJECTED];

/// Counts a request that is not served.
pub(crate) fn reject() {
    REJECTED.add(&[], 1.0);
}

/// Who waits until an event is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nobody.
    #[default]
    Batch,
    /// Its request.
    Blocking,
    /// Its request, which is refused before anything is done if that it has come cannot be recorded.
    BlockingStrict,
}

/// What is to be recorded, and where. Without a policy, or a place, nothing is.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub policy_file: Option<PathBuf>,
    /// `-` is the standard output.
    pub log_path: Option<PathBuf>,
    pub log_mode: Mode,
    pub log_format: Format,
    pub webhook: WebhookOptions,
    pub retention: Retention,
    /// The size in bytes of an event above which it loses its objects; `None` leaves all as they are.
    pub truncate: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy_file: None,
            log_path: None,
            log_mode: Mode::Blocking,
            log_format: Format::Json,
            webhook: WebhookOptions::default(),
            retention: Retention::default(),
            truncate: None,
        }
    }
}

/// Why there can be no audit log.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("reading the audit policy {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the audit policy {}: {source}", path.display())]
    Policy { path: PathBuf, source: PolicyError },
    #[error("opening the audit log {}: {source}", path.display())]
    Log { path: PathBuf, source: io::Error },
    #[error("the audit webhook's {}: {why}", path.display())]
    Webhook { path: PathBuf, why: String },
}

/// A policy, and the places where what it wants is recorded. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    policy: Arc<Policy>,
    sinks: Arc<[Sink]>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A place where events are recorded.
struct Sink {
    way: Way,
    format: Format,
    /// The size in bytes of an event above which it loses its objects.
    truncate: Option<usize>,
    /// What cannot be recorded here must not be done.
    strict: bool,
}

enum Way {
    Queue(Waiting),
    Direct(Direct),
    Hook(Arc<Hook>),
}

impl Audit {
    /// Reads the policy and opens what is recorded in, which is written on `tasks` until `stop`. `None` if nothing is to
    /// be recorded.
    pub(crate) fn open(
        options: &Options,
        outbound: &Arc<Outbound>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Option<Self>, AuditError> {
        let Some(policy) = &options.policy_file else { return Ok(None) };
        let mut sinks = Vec::new();
        if let Some(path) = &options.log_path {
            let way = match options.log_mode {
                Mode::Batch => log::open(path, options.retention, tasks, stop.clone()).map(Way::Queue),
                Mode::Blocking | Mode::BlockingStrict => Direct::open(path, options.retention).map(Way::Direct),
            };
            let way = way.map_err(|source| AuditError::Log { path: path.clone(), source })?;
            let (format, strict) = (options.log_format, options.log_mode == Mode::BlockingStrict);
            sinks.push(Sink { way, format, truncate: options.truncate, strict });
        }
        let webhook = &options.webhook;
        let way = match webhook.mode {
            Mode::Batch => webhook::open(webhook, outbound, tasks, stop.clone()).map(|queue| queue.map(Way::Queue)),
            Mode::Blocking | Mode::BlockingStrict => {
                Hook::open(webhook, outbound.clone()).map(|hook| hook.map(Way::Hook))
            }
        };
        if let Some(way) = way.map_err(|(path, why)| AuditError::Webhook { path, why })? {
            let truncate = webhook.truncate.map(|truncate| truncate.event);
            sinks.push(Sink { way, format: Format::Json, truncate, strict: webhook.mode == Mode::BlockingStrict });
        }
        if sinks.is_empty() {
            return Ok(None);
        }
        let text =
            std::fs::read_to_string(policy).map_err(|source| AuditError::Read { path: policy.clone(), source })?;
        let policy = Policy::parse(&text).map_err(|source| AuditError::Policy { path: policy.clone(), source })?.into();
        Ok(Some(Self { policy, sinks: sinks.into(), tasks: tasks.clone(), stop }))
    }

    /// How much of an answer is read to be recorded.
    fn most_of_an_answer(&self) -> usize {
        let most = |sink: &Sink| sink.truncate.unwrap_or(usize::MAX);
        self.sinks.iter().map(most).max().unwrap_or_default()
    }

    /// Records an event; false if it is to be recorded and cannot be.
    async fn record(self, event: Box<Event>) -> bool {
        let mut recorded = true;
        for sink in &*self.sinks {
            let Some(line) = event.line_as(sink.format, sink.truncate) else {
                ERRORS.add(&["truncate"], 1.0);
                continue;
            };
            let done = match &sink.way {
                Way::Queue(queue) => {
                    queue.write(line);
                    true
                }
                Way::Direct(file) => match file.write(&line) {
                    Ok(()) => true,
                    Err(why) => {
                        ERRORS.add(&["log"], 1.0);
                        error!(%why, lost = 1, "writing the audit log");
                        false
                    }
                },
                Way::Hook(hook) => hook.send(&[line], &self.stop).await,
            };
            recorded &= done || !sink.strict;
        }
        recorded
    }

    /// Records an event of which nobody waits to hear.
    fn record_unheard(&self, event: Box<Event>) {
        let mut recording = Box::pin(self.clone().record(event));
        // Mostly it is done with that; else somebody must see to it.
        if recording.as_mut().now_or_never().is_none() {
            self.tasks.spawn(recording);
        }
    }

    /// The trail of a request by `user`, who is nobody if his credentials were not good. `None` if it leaves none.
    pub(crate) fn begin<B>(
        &self,
        id: &HeaderValue,
        request: &Request<B>,
        info: &RequestInfo,
        user: &User,
    ) -> Option<Trail> {
        let decision = self.policy.decide(user, info);
        LEVELS.add(&[decision.level.name()], 1.0);
        (decision.level != Level::None).then(|| Trail::begin(self.clone(), decision, id, request, info, user))
    }
}

/// The name of a request: the client's, or one that no other request has.
///
/// Names need to differ, not to be secret: a keyed hash of a counter is ten times cheaper than the system's randomness.
pub(crate) fn id(headers: &HeaderMap) -> HeaderValue {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
    if let Some(stated) = headers.get(ID).filter(|stated| !stated.is_empty()) {
        return stated.clone();
    }
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let [high, low] = KEYS.each_ref().map(|key| key.hash_one(count));
    let id = uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_by_its_client_or_uniquely() {
        let named = HeaderMap::from_iter([(ID, HeaderValue::from_static("mine"))]);
        assert_eq!(id(&named), "mine");
        let (one, other) = (id(&HeaderMap::new()), id(&HeaderMap::new()));
        assert_ne!(one, other);
        let parsed = uuid::Uuid::parse_str(one.to_str().unwrap()).unwrap();
        assert_eq!(parsed.get_version_num(), 4);
    }
}
