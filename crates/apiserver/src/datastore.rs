//! The datastore with its figures, by the names that upstream gives to etcd's
//! (`k8s.io/apiserver/pkg/storage/etcd3/metrics`).

use std::sync::Arc;
use std::time::Instant;

use client::metrics::{Family, Kept, Series};
use store::{Backend, BoxFuture, Change, Error, Expect, Notice, Page, Range, Record, Revision, Write, Written};
use tokio::sync::mpsc;

use crate::metrics::SECONDS;

const LABELS: &[&str] = &["group", "operation", "resource"];

static DURATION: Family = Family::histogram(
    "etcd_request_duration_seconds",
    "[ALPHA] How long the datastore took, by what it was asked to do",
    LABELS,
    SECONDS,
);
static REQUESTS: Family = Family::counter("etcd_requests_total", "[ALPHA] What the datastore was asked to do", LABELS);
static ERRORS: Family = Family::counter("etcd_request_errors_total", "[ALPHA] What the datastore failed to do", LABELS);

pub(crate) static FAMILIES: [&Family; 3] = [&DURATION, &REQUESTS, &ERRORS];

/// The series of an operation on a resource.
struct Figures {
    duration: Series,
    requests: Series,
    labels: [String; 3],
}

static KEPT: Kept<Figures> = Kept::new();

/// A datastore that counts what it is asked.
pub(crate) struct Measured(Arc<dyn Backend>);

impl Measured {
    pub(crate) fn over(store: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(Self(store))
    }
}

/// A request that is under way. It is not counted if nobody waits for its end.
struct Asked {
    figures: Arc<Figures>,
    begun: Instant,
}

impl Asked {
    fn to(operation: &str, key: &str) -> Self {
        let (group, resource) = whose(key);
        let values = [group, operation, resource];
        let figures = KEPT.find_or(&values, || Figures {
            duration: DURATION.of(&values),
            requests: REQUESTS.of(&values),
            labels: values.map(str::to_owned),
        });
        Self { figures, begun: Instant::now() }
    }

    fn answered<T>(self, answer: Result<T, Error>) -> Result<T, Error> {
        self.figures.duration.observe(self.begun.elapsed().as_secs_f64());
        self.figures.requests.add(1.0);
        // A precondition that does not hold is an answer.
        if answer.as_ref().is_err_and(|why| !matches!(why, Error::Precondition { .. })) {
            ERRORS.add(&self.figures.labels.each_ref().map(String::as_str), 1.0);
        }
        answer
    }
}

/// The group and resource of a key such as `/registry/apps/deployments/shop/web`; of others, nothing.
fn whose(key: &str) -> (&str, &str) {
    let mut steps = key.strip_prefix(crate::cache::ROOT).unwrap_or_default().split('/');
    match (steps.next(), steps.next()) {
        (Some("core"), Some(resource)) => ("", resource),
        (Some(group), Some(resource)) => (group, resource),
        _ => ("", ""),
    }
}

fn operation(write: &Write) -> &'static str {
    match (&write.change, write.expect) {
        (Change::Delete, _) => "delete",
        (Change::Put(_), Expect::Absent) => "create",
        (Change::Put(_), _) => "update",
    }
}

impl Backend for Measured {
    fn current(&self) -> Revision {
        self.0.current()
    }

    fn size(&self) -> Option<u64> {
        self.0.size()
    }

    fn get(&self, key: &str, at: Option<Revision>) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        let asked = Asked::to("get", key);
        let answer = self.0.get(key, at);
        Box::pin(async move { asked.answered(answer.await) })
    }

    fn range(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<Page, Error>> {
        let asked = Asked::to("list", &range.prefix);
        Box::pin(async move { asked.answered(self.0.range(range, at).await) })
    }

    fn count(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<u64, Error>> {
        let asked = Asked::to("listOnlyKeys", &range.prefix);
        Box::pin(async move { asked.answered(self.0.count(range, at).await) })
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, Error>> {
        let asked = Asked::to(operation(&write), &write.key);
        Box::pin(async move { asked.answered(self.0.write(write).await) })
    }

    fn watch(&self, prefix: &str, after: Revision) -> mpsc::Receiver<Result<Notice, Error>> {
        self.0.watch(prefix, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), Error>> {
        self.0.compact(before)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use store::memory::MemoryStore;

    use super::*;

    #[test]
    fn keys_tell_whose_they_are() {
        assert_eq!(whose("/registry/apps/deployments/shop/web"), ("apps", "deployments"));
        assert_eq!(whose("/registry/core/nodes/"), ("", "nodes"));
        assert_eq!(whose("/registry/health"), ("", ""));
        assert_eq!(whose(""), ("", ""));
    }

    #[tokio::test]
    async fn what_is_asked_is_counted_and_what_fails() {
        let store = Measured::over(Arc::new(MemoryStore::new()));
        let key = "/registry/measured.example.com/things/a".to_owned();
        let put = |expect| Write { key: key.clone(), expect, change: Change::Put(Bytes::from("x")) };
        store.write(put(Expect::Absent)).await.unwrap();
        store.write(put(Expect::Absent)).await.unwrap_err();
        store.write(put(Expect::Anything)).await.unwrap();
        store.get(&key, None).await.unwrap();
        store.get(&key, Some(Revision::from_u64(1000))).await.unwrap_err();
        let prefix = "/registry/measured.example.com/things/".to_owned();
        store.range(Range { prefix, ..Range::default() }, None).await.unwrap();
        let told = client::metrics::text([&REQUESTS, &ERRORS]);
        let mine: Vec<_> = told.lines().filter(|line| line.contains("measured.example.com")).collect();
        let line = |family: &str, operation: &str, count: u32| {
            format!("{family}{{group=\"measured.example.com\",operation=\"{operation}\",resource=\"things\"}} {count}")
        };
        let expected = [
            line("etcd_requests_total", "create", 2),
            line("etcd_requests_total", "get", 2),
            line("etcd_requests_total", "list", 1),
            line("etcd_requests_total", "update", 1),
            line("etcd_request_errors_total", "get", 1),
        ];
        assert_eq!(mine, expected);
    }
}
