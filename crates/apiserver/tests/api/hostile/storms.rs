//! One who asks for more than all others together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use apiserver::authn::User;
use apiserver::flowcontrol::Capacity;
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use store::sqlite::SqliteStore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::{Answer, Cluster};

const WRITERS: usize = 500;
/// Who only reads, and as fast as it can.
const LOOPS: usize = 50;
const LASTING: Duration = Duration::from_secs(4);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

async fn send(cluster: &Cluster, token: &str, method: &str, target: &str, kind: &str, body: &Value) -> Answer {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", kind)
        .body(Full::new(body))
        .unwrap();
    cluster.send_unknown(request).await
}

/// A cluster of few seats, whose writes take the time that a disk takes.
async fn start(directory: &tempfile::TempDir) -> Arc<Cluster> {
    let user = |name: &str, group: &str| User::new(name, &[group, "system:authenticated"]);
    let tokens = vec![
        ("admin".to_owned(), user("admin", "system:masters")),
        ("node".to_owned(), user("system:node:n1", "system:nodes")),
        ("culprit".to_owned(), user("system:serviceaccount:default:culprit", "system:serviceaccounts")),
    ];
    let capacity = Capacity { reading: 20, mutating: 20, ..Capacity::default() };
    let store = Arc::new(SqliteStore::open(directory.path().join("state.db")).unwrap());
    let cluster = Cluster::start_over(store, tokens, Settings { capacity, ..Settings::default() }).await;
    cluster.server.extend();
    let binding = json!({
        "metadata": {"name": "culprit"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "culprit", "namespace": "default"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    cluster.send("POST", bindings, binding).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    send(&cluster, "node", "POST", "/api/v1/nodes", "application/json", &json!({"metadata": {"name": "n1"}}))
        .await
        .expect(201);
    let lease = json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}});
    send(&cluster, "node", "POST", LEASES, "application/json", &lease).await.expect(201);
    Arc::new(cluster)
}

/// Whoever floods the server is told to come again; leases, the status of nodes and an administrator pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_40_a_storm_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = start(&directory).await;
    let over = Arc::new(AtomicBool::new(false));
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut storm = JoinSet::new();
    for culprit in 0..WRITERS + LOOPS {
        let (cluster, over, served, refused) = (cluster.clone(), over.clone(), served.clone(), refused.clone());
        storm.spawn(async move {
            for n in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let events = "/api/v1/namespaces/default/events";
                let event = json!({
                    "metadata": {"name": format!("e{culprit}-{n}")},
                    "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Storm",
                });
                let answer = match culprit < WRITERS {
                    true => send(&cluster, "culprit", "POST", events, "application/json", &event).await,
                    false => {
                        send(&cluster, "culprit", "GET", &format!("{events}/e0-0"), "application/json", &Value::Null)
                            .await
                    }
                };
                match answer.code {
                    429 => {
                        let seconds: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                        assert!(seconds > 0);
                        refused.fetch_add(1, Ordering::Relaxed);
                        // A client waits; a hot loop does not, and is no better served.
                        tokio::task::yield_now().await;
                    }
                    200 | 201 | 404 => drop(served.fetch_add(1, Ordering::Relaxed)),
                    other => panic!("{other}: {}", String::from_utf8_lossy(&answer.bytes)),
                }
            }
        });
    }
    let (begun, mut slowest) = (Instant::now(), Duration::ZERO);
    for n in 0.. {
        if begun.elapsed() > LASTING {
            break;
        }
        let sent = Instant::now();
        let renewed = json!({"spec": {"renewTime": format!("2026-01-01T00:00:00.{:06}Z", n)}});
        let merge = "application/merge-patch+json";
        send(&cluster, "node", "PATCH", &format!("{LEASES}/n1"), merge, &renewed).await.expect(200);
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": n.to_string()}]}});
        send(&cluster, "node", "PATCH", "/api/v1/nodes/n1/status", merge, &status).await.expect(200);
        send(&cluster, "admin", "GET", "/api/v1/nodes", merge, &Value::Null).await.expect(200);
        slowest = slowest.max(sent.elapsed());
    }
    over.store(true, Ordering::Relaxed);
    while let Some(culprit) = storm.join_next().await {
        culprit.unwrap();
    }
    let (served, refused) = (served.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    assert!(slowest < Duration::from_secs(1), "the others waited for {slowest:?}");
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
}
