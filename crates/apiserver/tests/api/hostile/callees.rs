//! Whom this server calls at a client's word: they redirect, answer without end, or know what only this server can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::resident;
use crate::harness::Cluster;
use crate::played::{Here, TlsServer};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const SECRET: &str = "of the metadata service";

/// What a creation is answered while a webhook of `server` at `path` is asked.
async fn refused(cluster: &Cluster, server: &TlsServer, path: &str) -> String {
    let client = json!({"url": format!("https://127.0.0.1:{}{path}", server.port), "caBundle": server.authority});
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]});
    let hook = json!({"name": "a.example.com", "clientConfig": client, "rules": [rule], "sideEffects": "None",
        "admissionReviewVersions": ["v1"]});
    let configuration = json!({"metadata": {"name": "a"}, "webhooks": [hook]});
    cluster.send("POST", HOOKS, configuration).await.expect(201);
    // Webhooks are read from the cache, which follows the store.
    cluster.send("GET", &format!("{HOOKS}?limit=500"), Value::Null).await.expect(200);
    let refused = cluster.send("POST", MAPS, json!({"metadata": {"name": "a"}})).await.expect(500);
    cluster.send("DELETE", &format!("{HOOKS}/a"), Value::Null).await.expect(200);
    cluster.send("GET", &format!("{HOOKS}?limit=500"), Value::Null).await.expect(200);
    refused["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn input_21_callees_lead_nowhere_and_tell_nothing() {
    let led = Arc::new(AtomicUsize::new(0));
    let counted = led.clone();
    let serve = move |request: http::Request<hyper::body::Incoming>| {
        let (code, body) = match request.uri().path() {
            "/moved" => (307, Bytes::from(SECRET)),
            "/there" => {
                counted.fetch_add(1, Ordering::Relaxed);
                (200, Bytes::from(SECRET))
            }
            "/huge" => (200, Bytes::from(vec![b' '; 64 << 20])),
            "/fails" => (503, Bytes::from(SECRET)),
            "/forbids" => (403, Bytes::from(SECRET)),
            _ => (200, Bytes::from(SECRET)),
        };
        let answer = Response::builder().status(code).header("location", "/there").body(Full::new(body)).unwrap();
        Box::pin(async move { answer }) as _
    };
    let server = TlsServer::start(&["127.0.0.1"], Arc::new(serve)).await;
    let cluster = Cluster::start_with(Here).await;
    let before = resident();
    for (path, why) in [
        ("/moved", "the server responded with the status code 307 but did not return more information"),
        ("/huge", "unable to read the response body"),
        ("/fails", "an error on the server (\"unknown\") has prevented the request from succeeding"),
        ("/forbids", "unknown"),
        ("/babbles", "invalid"),
    ] {
        let said = refused(&cluster, &server, path).await;
        assert!(said.contains(why), "{path}: {said}");
        assert!(!said.contains(SECRET) && said.len() < 1000, "{path}: {said}");
    }
    assert_eq!(led.load(Ordering::Relaxed), 0, "the redirect was followed");
    // The callee itself, in this process, has its answer of 64 MiB twice.
    assert!(resident() < before + (192 << 20));
}
