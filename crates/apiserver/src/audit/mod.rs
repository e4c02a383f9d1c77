//! The audit log: who asked for what, what became of it, in as much detail as a policy says
//! (upstream: `k8s.io/apiserver/pkg/audit`).
//!
//! ```text
//! policy   which requests, in how much detail
//! event    what is told of one request at one of its stages
//! trail    one request's events, from its arrival to the end of its answer
//! log      the queue and the file
//! ```
//!
//! Without a policy a request costs the name that its answer carries (`Audit-Id`), and nothing else. With one, nobody
//! waits for the file: events are queued, and where the queue is full they are counted as lost. That is upstream's mode
//! `batch`; its default for files, `blocking`, would let a slow disk hold up the API.

mod event;
mod log;
mod policy;
mod trail;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use client::metrics::Family;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::log::Log;
pub use self::log::Retention;
pub use self::policy::PolicyError;
use self::policy::{Level, Policy};
pub(crate) use self::trail::Trail;
use crate::authn::User;
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

pub(crate) static FAMILIES: [&Family; 3] = [&EVENTS, &ERRORS, &LEVELS];

/// What is to be recorded, and where. Both paths are needed: one alone records nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub policy_file: Option<PathBuf>,
    /// `-` is the standard output.
    pub log_path: Option<PathBuf>,
    pub retention: Retention,
    /// The size in bytes of an event above which it loses its objects; `None` leaves all as they are.
    pub truncate: Option<usize>,
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
}

/// A policy, and the log that it fills.
#[derive(Clone)]
pub(crate) struct Audit {
    policy: std::sync::Arc<Policy>,
    log: Log,
    truncate: Option<usize>,
}

impl Audit {
    /// Reads the policy and opens the log, which is written on `tasks` until `stop`. `None` if nothing is to be recorded.
    pub(crate) fn open(
        options: &Options,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Option<Self>, AuditError> {
        let (Some(policy), Some(log)) = (&options.policy_file, &options.log_path) else { return Ok(None) };
        let text =
            std::fs::read_to_string(policy).map_err(|source| AuditError::Read { path: policy.clone(), source })?;
        let policy = Policy::parse(&text).map_err(|source| AuditError::Policy { path: policy.clone(), source })?.into();
        let log = Log::open(log, options.retention, tasks, stop)
            .map_err(|source| AuditError::Log { path: log.clone(), source })?;
        Ok(Some(Self { policy, log, truncate: options.truncate }))
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
