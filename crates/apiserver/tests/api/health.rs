//! Whether the server is well, as those hear it who ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use apiserver::authn::User;
use apiserver::server::Settings;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use store::memory::MemoryStore;
use store::{Backend, BoxFuture, Error, Page, Range, Record, Revision, Write, Written};
use tokio::time::{Instant, sleep_until, timeout};

use super::harness::{Answer, Cluster};

fn admin() -> User {
    User::component("admin", &["system:masters"])
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.bytes.to_vec()).unwrap()
}

async fn ask(cluster: &Cluster, target: &str) -> (u16, String) {
    let answer = cluster.send("GET", target, Value::Null).await;
    (answer.code, text(&answer))
}

#[tokio::test]
async fn a_server_is_well_once_its_own_versions_are_available() {
    let cluster = Cluster::start().await;
    let services = "/apis/apiregistration.k8s.io/v1/apiservices?watch=true";
    let watch = Request::builder().uri(services).body(Full::default()).unwrap();
    let mut watch = cluster.call(admin(), watch).await;
    cluster.server.extend();
    let missing = ask(&cluster, "/livez/autoregister-completion").await;
    assert!(
        missing.0 == 500 && missing.1.starts_with("internal server error: missing APIService: [v1. "),
        "{missing:?}"
    );
    let well = async {
        while ask(&cluster, "/livez").await.0 != 200 {
            watch.line().await.unwrap();
        }
    };
    timeout(Duration::from_secs(20), well).await.unwrap();

    let told = ask(&cluster, "/readyz?verbose").await.1;
    for name in ["rbac/bootstrap-roles", "crd-informer-synced", "priority-and-fairness-config-consumer"] {
        assert!(told.contains(&format!("\n[+]poststarthook/{name} ok\n")), "{told}");
    }
    assert!(told.ends_with("[+]shutdown ok\nreadyz check passed\n"), "{told}");
    // Whatever the method, as upstream.
    assert_eq!(cluster.send("POST", "/healthz", Value::Null).await.code, 200);
    assert_eq!(ask(&cluster, "/healthz/").await.0, 404);
    let answer = cluster.send("GET", "/livez", Value::Null).await;
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");

    let figures = ask(&cluster, "/metrics/slis").await.1;
    for line in [
        "kubernetes_healthcheck{name=\"etcd\",type=\"livez\"} 1\n",
        "kubernetes_healthchecks_total{name=\"autoregister-completion\",status=\"success\",type=\"livez\"} ",
    ] {
        assert!(figures.contains(line), "{line} is not in\n{figures}");
    }
}

/// A datastore that answers neither reads nor writes while it is told so.
struct Silent {
    inner: MemoryStore,
    silent: Arc<AtomicBool>,
}

impl Backend for Silent {
    fn current(&self) -> Revision {
        self.inner.current()
    }

    fn get(&self, key: &str, at: Option<Revision>) -> BoxFuture<'_, Result<Option<Record>, Error>> {
        match self.silent.load(Ordering::Relaxed) {
            true => Box::pin(std::future::pending()),
            false => self.inner.get(key, at),
        }
    }

    fn range(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<Page, Error>> {
        self.inner.range(range, at)
    }

    fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, Error>> {
        match self.silent.load(Ordering::Relaxed) {
            true => Box::pin(std::future::pending()),
            false => self.inner.write(write),
        }
    }

    fn watch(&self, prefix: &str, after: Revision) -> tokio::sync::mpsc::Receiver<Result<store::Notice, Error>> {
        self.inner.watch(prefix, after)
    }

    fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), Error>> {
        self.inner.compact(before)
    }
}

#[tokio::test]
async fn a_datastore_that_does_not_answer_is_told_after_two_seconds_and_when_it_is_back() {
    let silent = Arc::new(AtomicBool::new(false));
    let store = Arc::new(Silent { inner: MemoryStore::new(), silent: silent.clone() });
    let cluster = Cluster::start_over(store, Vec::new(), Settings::default()).await;
    silent.store(true, Ordering::Relaxed);
    let late = "/api/v1/namespaces/default/replicationcontrollers?timeout=50ms";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}});
    let controller = json!({"metadata": {"name": "a"}, "spec": {"selector": {"a": "b"}, "template": template}});
    cluster.send("POST", late, controller).await.expect(504);
    let told = ask(&cluster, "/metrics").await.1;
    let line = "apiserver_request_terminations_total{code=\"504\",component=\"apiserver\",group=\"\",\
                resource=\"replicationcontrollers\",scope=\"resource\",subresource=\"\",verb=\"POST\",version=\"v1\"} 1\n";
    assert!(told.contains(line), "{told}");
    let begun = Instant::now();
    let ready = ask(&cluster, "/readyz").await;
    assert!(begun.elapsed() < Duration::from_secs(3), "one question answers both checks");
    assert_eq!(ready.0, 500);
    for name in ["etcd", "etcd-readiness"] {
        assert!(ready.1.contains(&format!("[-]{name} failed: reason withheld\n")), "{}", ready.1);
    }
    // It is asked once a second at most: this is what was found.
    let why = "internal server error: the datastore did not answer within 2s\n".to_owned();
    silent.store(false, Ordering::Relaxed);
    assert_eq!(ask(&cluster, "/livez/etcd").await, (500, why));
    let parts = cluster.send("GET", "/api/v1/componentstatuses/etcd-0", Value::Null).await.expect(200);
    assert_eq!(parts["conditions"][0]["status"], "False");
    sleep_until(Instant::now() + Duration::from_secs(1)).await;
    assert_eq!(ask(&cluster, "/livez").await.0, 200);
}
