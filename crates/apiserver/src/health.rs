//! `/livez`, `/readyz`, `/healthz`: whether the server can do its work, check by check, by upstream's names
//! (`k8s.io/apiserver/pkg/server/healthz`).
//!
//! Who has work of his own adds a check of it: what is done once while the server starts is a [`Hook`], what goes well
//! or ill as long as it runs a [`Condition`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::validation::quote;
use client::metrics::Family;
use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, StatusCode};
use parking_lot::{Mutex, RwLock};
use store::Backend;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::request::{query_pairs, query_value};
use crate::response::{self, Response};

const ROOTS: [&str; 3] = ["/livez", "/readyz", "/healthz"];
/// How long the datastore may take to answer, and how often it is asked at most: each half of that
/// (`storagebackend.DefaultHealthcheckTimeout`).
const PATIENCE: Duration = Duration::from_secs(2);
/// A key that nobody writes.
const ASKED: &str = "/registry/health";
const NOSNIFF: (HeaderName, HeaderValue) = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

static HEALTHCHECK: Family = Family::gauge(
    "kubernetes_healthcheck",
    "[STABLE] What the last look at a check said: 1 if it was well",
    &["name", "type"],
);
static HEALTHCHECKS: Family = Family::counter(
    "kubernetes_healthchecks_total",
    "[STABLE] Looks at checks, by what they said",
    &["name", "status", "type"],
);

/// What `/metrics/slis` tells.
pub(crate) static FAMILIES: [&Family; 2] = [&HEALTHCHECK, &HEALTHCHECKS];

/// What is wrong.
type Finding = Result<(), String>;

/// The server's checks.
pub struct Health {
    datastore: Datastore,
    checks: RwLock<Vec<Arc<Check>>>,
    shutdown: Arc<Condition>,
    ending: CancellationToken,
}

struct Check {
    name: String,
    /// Whether it concerns new requests alone, and not whether the server lives.
    readiness: bool,
    look: Look,
}

enum Look {
    Well,
    Datastore,
    Condition(Arc<Condition>),
    Own(Box<dyn Fn() -> Finding + Send + Sync>),
}

/// How something is that goes on as long as the server runs.
pub struct Condition(Mutex<Finding>);

/// Something that is done once while the server starts.
#[must_use = "the server is not well until it is done"]
pub struct Hook(Arc<Condition>);

impl Condition {
    /// It is well.
    pub fn well(&self) {
        *self.0.lock() = Ok(());
    }

    /// It is not, for this reason.
    pub fn ill(&self, why: impl Into<String>) {
        *self.0.lock() = Err(why.into());
    }
}

impl Hook {
    pub fn done(self) {
        self.0.well();
    }
}

/// The datastore, which is asked and not only believed.
struct Datastore {
    store: Arc<dyn Backend>,
    /// What carries its events into the caches; empty once it has ended.
    following: TaskTracker,
    asked: tokio::sync::Mutex<Option<(Instant, Finding)>>,
}

impl Datastore {
    /// What it answered, now or less than half of its patience ago.
    async fn look(&self) -> Finding {
        if self.following.is_empty() {
            return Err("the datastore's watch ended".to_owned());
        }
        let mut asked = self.asked.lock().await;
        if let Some((when, found)) = &*asked
            && when.elapsed() < PATIENCE / 2
        {
            return found.clone();
        }
        let found = match timeout(PATIENCE, self.store.get(ASKED, None)).await {
            Ok(answer) => answer.map(drop).map_err(|why| why.to_string()),
            Err(_) => Err(format!("the datastore did not answer within {PATIENCE:?}")),
        };
        *asked = Some((Instant::now(), found.clone()));
        found
    }
}

impl Health {
    /// `following` is what carries the datastore's events into the caches.
    pub(crate) fn new(store: Arc<dyn Backend>, following: TaskTracker) -> Self {
        let datastore = Datastore { store, following: following.clone(), asked: tokio::sync::Mutex::default() };
        let shutdown = Arc::new(Condition(Mutex::new(Ok(()))));
        let health = Self { datastore, checks: RwLock::default(), shutdown, ending: CancellationToken::new() };
        health.add("ping", false, Look::Well);
        health.add("etcd", false, Look::Datastore);
        health.add("etcd-readiness", true, Look::Datastore);
        let follows = move || if following.is_empty() { Err("informers follow no more".to_owned()) } else { Ok(()) };
        health.add("informer-sync", true, Look::Own(Box::new(follows)));
        health
    }

    fn add(&self, name: impl Into<String>, readiness: bool, look: Look) {
        self.checks.write().push(Arc::new(Check { name: name.into(), readiness, look }));
    }

    /// `poststarthook/NAME`, which fails until it is done.
    pub fn hook(&self, name: &str) -> Hook {
        let condition = Arc::new(Condition(Mutex::new(Err("not finished".to_owned()))));
        self.add(format!("poststarthook/{name}"), false, Look::Condition(condition.clone()));
        Hook(condition)
    }

    /// `poststarthook/NAME` of what has begun.
    pub fn begun(&self, name: &str) {
        self.hook(name).done();
    }

    /// A check that `look` makes each time that it is asked for.
    pub fn check(&self, name: &str, look: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.add(name, false, Look::Own(Box::new(look)));
    }

    /// A check of readiness that somebody keeps, well until he says otherwise. The same for the same name.
    pub fn condition(&self, name: &str) -> Arc<Condition> {
        let mut checks = self.checks.write();
        let known = checks.iter().find(|check| check.name == name).and_then(|check| match &check.look {
            Look::Condition(condition) => Some(condition.clone()),
            _ => None,
        });
        known.unwrap_or_else(|| {
            let condition = Arc::new(Condition(Mutex::new(Ok(()))));
            let look = Look::Condition(condition.clone());
            checks.push(Arc::new(Check { name: name.to_owned(), readiness: true, look }));
            condition
        })
    }

    /// From now on the server is not ready for anybody new.
    pub fn shut_down(&self) {
        self.shutdown.ill("process is shutting down");
        self.ending.cancel();
    }

    /// Waits for [`Health::shut_down`]: the server still answers then.
    pub(crate) async fn ending(&self) {
        self.ending.cancelled().await;
    }

    /// The paths of all checks.
    pub(crate) fn paths(&self) -> Vec<String> {
        let of = |root: &str| {
            let checks = self.of(root).into_iter().map(|check| format!("/{root}/{}", check.name));
            checks.chain([format!("/{root}")]).collect::<Vec<_>>()
        };
        ["healthz", "livez", "readyz"].into_iter().flat_map(of).collect()
    }

    /// Whether the datastore answers.
    pub(crate) async fn datastore(&self) -> Result<(), String> {
        self.datastore.look().await
    }

    async fn look(&self, check: &Check) -> Finding {
        match &check.look {
            Look::Well => Ok(()),
            Look::Datastore => self.datastore.look().await,
            Look::Condition(condition) => condition.0.lock().clone(),
            Look::Own(look) => look(),
        }
    }

    /// The checks of a root; that of the end is its last.
    fn of(&self, root: &str) -> Vec<Arc<Check>> {
        let ready = root == "readyz";
        let mut checks: Vec<_> = self.checks.read().iter().filter(|check| ready || !check.readiness).cloned().collect();
        if ready {
            let look = Look::Condition(self.shutdown.clone());
            checks.push(Arc::new(Check { name: "shutdown".to_owned(), readiness: true, look }));
        }
        checks
    }

    /// The answer to a health path: one check if the path names it, else all but those that `?exclude=` names.
    pub(crate) async fn answer(&self, path: &str, query: &str) -> Response {
        let path = path.trim_start_matches('/');
        match path.split_once('/') {
            Some((root, name)) => self.answer_one(root, name).await,
            None => self.answer_all(path, query).await,
        }
    }

    async fn answer_one(&self, root: &str, name: &str) -> Response {
        let Some(check) = self.of(root).into_iter().find(|check| check.name == name) else {
            return response::text(StatusCode::NOT_FOUND, "404 page not found\n");
        };
        match self.look(&check).await {
            Ok(()) => response::text(StatusCode::OK, "ok"),
            Err(why) => response::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n")),
        }
    }

    async fn answer_all(&self, root: &str, query: &str) -> Response {
        let excluded: BTreeSet<String> =
            query_pairs(query).filter(|(key, _)| key == "exclude").map(|(_, name)| name).collect();
        let mut unknown = excluded.clone();
        let (mut lines, mut failed) = (String::new(), Vec::new());
        for check in self.of(root) {
            let name = check.name.as_str();
            if excluded.contains(name) {
                unknown.remove(name);
                lines += &format!("[+]{name} excluded: ok\n");
                continue;
            }
            let found = self.look(&check).await;
            tell(name, root, found.is_ok());
            match found {
                Ok(()) => lines += &format!("[+]{name} ok\n"),
                // The reason is for the log and for those with more rights than anybody.
                Err(why) => {
                    lines += &format!("[-]{name} failed: reason withheld\n");
                    failed.push(format!("{name}: {why}"));
                }
            }
        }
        if !unknown.is_empty() {
            let names: Vec<_> = unknown.iter().map(|name| quote(name).to_string()).collect();
            lines += &format!("warn: some health checks cannot be excluded: no matches for {}\n", names.join(","));
        }
        let mut answer = if !failed.is_empty() {
            warn!(failed = failed.join("; "), "{root} check failed");
            response::text(StatusCode::INTERNAL_SERVER_ERROR, lines + &format!("{root} check failed\n"))
        } else if query_value(query, "verbose").is_some() {
            response::text(StatusCode::OK, lines + &format!("{root} check passed\n"))
        } else {
            response::text(StatusCode::OK, "ok")
        };
        answer.headers_mut().extend([NOSNIFF]);
        answer
    }
}

/// Counts a look.
fn tell(name: &str, root: &str, well: bool) {
    HEALTHCHECK.set(&[name, root], if well { 1.0 } else { 0.0 });
    HEALTHCHECKS.add(&[name, if well { "success" } else { "error" }, root], 1.0);
}

/// True for a path that asks for all checks.
pub(crate) fn is_root(path: &str) -> bool {
    ROOTS.contains(&path)
}

/// True for paths that need no identity.
pub(crate) fn is_path(path: &str) -> bool {
    ROOTS.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use store::memory::MemoryStore;

    use super::*;

    /// Checks over a datastore that is there, until the answer's sender goes.
    fn health() -> (Health, tokio::sync::oneshot::Sender<()>) {
        let following = TaskTracker::new();
        let (end, ended) = tokio::sync::oneshot::channel();
        following.spawn(ended);
        (Health::new(Arc::new(MemoryStore::new()), following), end)
    }

    async fn check(health: &Health, target: &str, code: u16, body: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let response = health.answer(path, query).await;
        assert_eq!(response.status().as_u16(), code, "{target}");
        let read = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&read), body, "{target}");
    }

    #[tokio::test]
    async fn checks_are_told_one_by_one_when_asked_or_failing() {
        let (health, _following) = health();
        let hook = health.hook("rbac/bootstrap-roles");
        check(&health, "/livez/poststarthook/rbac/bootstrap-roles", 500, "internal server error: not finished\n").await;
        let failing = "[+]ping ok\n[+]etcd ok\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\n\
                       livez check failed\n";
        check(&health, "/livez", 500, failing).await;
        check(&health, "/livez?exclude=poststarthook%2Frbac%2Fbootstrap-roles", 200, "ok").await;
        hook.done();
        check(&health, "/livez", 200, "ok").await;
        check(&health, "/livez/poststarthook/rbac/bootstrap-roles?verbose", 200, "ok").await;
        let all = "[+]ping ok\n[+]etcd ok\n[+]poststarthook/rbac/bootstrap-roles ok\nhealthz check passed\n";
        check(&health, "/healthz?verbose", 200, all).await;
        for wrong in ["/livez/other", "/livez/shutdown", "/livez/informer-sync", "/livez/"] {
            check(&health, wrong, 404, "404 page not found\n").await;
        }
    }

    #[tokio::test]
    async fn what_is_excluded_and_unknown_is_said() {
        let (health, _following) = health();
        let said = "[+]ping ok\n[+]etcd excluded: ok\n\
                    warn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nlivez check passed\n";
        check(&health, "/livez?verbose&exclude=b&exclude=etcd&exclude=a", 200, said).await;
    }

    #[tokio::test]
    async fn readiness_ends_before_life() {
        let (health, _following) = health();
        let controllers = health.condition("controllers");
        let ready = "[+]ping ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n[+]controllers ok\n\
                     [+]shutdown ok\nreadyz check passed\n";
        check(&health, "/readyz?verbose=1", 200, ready).await;
        controllers.ill("one is dead");
        check(&health, "/readyz/controllers", 500, "internal server error: one is dead\n").await;
        health.condition("controllers").well();
        check(&health, "/readyz", 200, "ok").await;
        health.shut_down();
        check(&health, "/readyz/shutdown", 500, "internal server error: process is shutting down\n").await;
        check(&health, "/livez", 200, "ok").await;
    }

    #[tokio::test]
    async fn a_datastore_that_is_followed_no_more_is_told() {
        let (health, following) = health();
        drop(following);
        health.datastore.following.close();
        health.datastore.following.wait().await;
        check(&health, "/livez/etcd", 500, "internal server error: the datastore's watch ended\n").await;
        check(&health, "/readyz/informer-sync", 500, "internal server error: informers follow no more\n").await;
    }

    #[test]
    fn only_health_needs_no_identity() {
        assert!(is_path("/readyz") && is_path("/livez/ping"));
        assert!(!is_path("/readyzz") && !is_path("/version") && !is_path("/api/v1/readyz"));
    }
}
