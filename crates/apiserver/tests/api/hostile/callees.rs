//! Whom this server calls at a client's word: they redirect, answer without end, or know what only this server can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_util::sync::CancellationToken;

use super::resident;
use crate::harness::Cluster;
use crate::played::{Ending, Here, TlsServer};

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

/// What somebody plays who is called: he redirects, answers without end, fails, or babbles.
fn play(path: &str) -> Option<Response<Full<Bytes>>> {
    let (code, body) = match path {
        "/hangs" => return None,
        "/moved" => (307, Bytes::from(SECRET)),
        "/huge" => (200, Bytes::from(vec![b' '; 64 << 20])),
        "/fails" => (503, Bytes::from(SECRET)),
        _ => (200, Bytes::from(SECRET)),
    };
    let mut answer = Response::builder().status(code).header("location", "/there").body(Full::new(body)).unwrap();
    if path == "/dies" {
        answer.extensions_mut().insert(Ending::Dies);
    }
    Some(answer)
}

/// Plays it at a port, and tells of each path that was asked for.
async fn playing(names: &[&str]) -> (TlsServer, UnboundedReceiver<String>) {
    let (tell, asked) = unbounded_channel();
    let serve = move |request: http::Request<hyper::body::Incoming>| {
        let path = request.uri().path().to_owned();
        let answer = play(&path[path.rfind('/').unwrap_or(0)..]);
        // Nobody listens once the test is over.
        _ = tell.send(path);
        Box::pin(async {
            match answer {
                Some(answer) => answer,
                None => futures::future::pending().await,
            }
        }) as _
    };
    (TlsServer::start(names, Arc::new(serve)).await, asked)
}

/// Things, stored as v1 and served as v2 as well, with this conversion.
fn things(conversion: Value) -> Value {
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "things", "kind": "Thing"},
            "versions": [version("v1", true), version("v2", false)], "conversion": conversion},
    })
}

#[tokio::test]
async fn fault_41_a_converter_that_fails_holds_up_nothing_else() {
    let (server, mut asked) = playing(&["127.0.0.1"]).await;
    let cluster = Cluster::start_with(Here).await;
    let conversion = |port: u16, path: &str| {
        let client = json!({"url": format!("https://127.0.0.1:{port}{path}"), "caBundle": server.authority});
        json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": ["v1"]}})
    };
    let convert_by = async |conversion: Value| {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com";
        let patch = json!([{"op": "replace", "path": "/spec/conversion", "value": conversion}]);
        cluster.patch(path, "json-patch+json", patch).await.expect(200);
        // What is served follows the definition, by the cache.
        cluster.server.registry.caches.reach_current().await;
    };
    cluster.define(things(conversion(server.port, "/babbles"))).await;
    let thing = |version: &str| format!("/apis/example.com/{version}/things");
    cluster
        .send("POST", &thing("v1"), json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}}))
        .await
        .expect(201);
    let before = resident();
    for (port, path, why) in [
        (server.port, "/babbles", "invalid"),
        (server.port, "/moved", "the server responded with the status code 307 but did not return more information"),
        (server.port, "/huge", "unable to read the response body"),
        (server.port, "/fails", "an error on the server (\"unknown\") has prevented the request from succeeding"),
        (server.port, "/dies", "unable to read the response body"),
        (1, "/down", "connect: connection refused"),
    ] {
        convert_by(conversion(port, path)).await;
        let said = cluster.send("GET", &thing("v2"), Value::Null).await.expect(500).to_string();
        assert!(said.contains("conversion webhook for example.com/v1, Kind=Thing failed"), "{path}: {said}");
        assert!(said.replace("\\\"", "\"").contains(why), "{path}: {said}");
        assert!(!said.contains(SECRET) && said.len() < 1000, "{path}: {said}");
        cluster.send("GET", &thing("v1"), Value::Null).await.expect(200);
    }
    assert!(resident() < before + (192 << 20));
    while let Ok(path) = asked.try_recv() {
        assert_ne!(path, "/there", "the redirect was followed");
    }

    // One that never answers is waited for by those alone who need it, and can be mended meanwhile.
    convert_by(conversion(server.port, "/hangs")).await;
    let of_v2 = thing("v2");
    let waiting = cluster.send("GET", &of_v2, Value::Null);
    let mending = async {
        while asked.recv().await.unwrap() != "/hangs" {}
        cluster.send("GET", &thing("v1"), Value::Null).await.expect(200);
        cluster.send("POST", MAPS, json!({"metadata": {"name": "a"}})).await.expect(201);
        convert_by(json!({"strategy": "None"})).await;
        cluster.send("GET", &thing("v2"), Value::Null).await.expect(200)
    };
    let mended = tokio::select! {
        _ = waiting => panic!("it was answered"),
        mended = mending => mended,
    };
    assert_eq!(mended["items"][0]["apiVersion"], "example.com/v2");
}

/// Whatever webhooks say of everything, they are not asked about what configures them.
#[tokio::test]
async fn fault_41_a_webhook_that_is_down_cannot_keep_itself() {
    let cluster = Cluster::start_with(Here).await;
    let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
    let hook = json!({"name": "a.example.com", "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": [rule],
        "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Fail"});
    for kind in ["validating", "mutating"] {
        let hooks = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations");
        cluster.send("POST", &hooks, json!({"metadata": {"name": "a"}, "webhooks": [hook]})).await.expect(201);
        cluster.server.registry.caches.reach_current().await;
        let refused = cluster.send("POST", MAPS, json!({"metadata": {"name": kind}})).await.expect(500);
        assert!(refused["message"].as_str().unwrap().contains("connect: connection refused"), "{refused}");
        cluster.send("GET", MAPS, Value::Null).await.expect(200);
        cluster.send("DELETE", &format!("{hooks}/a"), Value::Null).await.expect(200);
        cluster.server.registry.caches.reach_current().await;
        cluster.send("POST", MAPS, json!({"metadata": {"name": kind}})).await.expect(201);
    }
}

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Has `server` answer for a version of its own.
async fn extend(cluster: &Cluster, server: &TlsServer) {
    cluster.server.extend();
    let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"port": 443}]}});
    cluster.send("POST", "/api/v1/namespaces/default/services", service).await.expect(201);
    let slice = json!({"metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.9"]}], "ports": [{"name": "", "port": server.port}]});
    cluster.send("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await.expect(201);
    let spec = json!({"group": "e.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 1,
        "service": {"namespace": "default", "name": "sample"}, "caBundle": server.authority});
    cluster.send("POST", SERVICES, json!({"metadata": {"name": "v1.e.example.com"}, "spec": spec})).await.expect(201);
    let available = format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3Dv1.e.example.com");
    let mut watch = cluster.open(&available, "application/json").await;
    while watch.line().await.unwrap()["object"]["status"]["conditions"][0]["status"] != "True" {}
}

/// An extension server's answers are the client's, but for redirects (CVE-2022-3172); while it hangs, others are answered.
#[tokio::test]
async fn fault_41_an_extension_server_that_redirects_or_hangs() {
    let (server, mut asked) = playing(&["sample.default.svc"]).await;
    let cluster = Cluster::start_with(Here).await;
    extend(&cluster, &server).await;

    let moved = cluster.send("GET", "/apis/e.example.com/v1/moved", Value::Null).await;
    assert_eq!((moved.code, moved.headers.get("location")), (502, None));
    assert_eq!(moved.bytes, "the backend attempted to redirect this request, which is not permitted\n");
    let others = async {
        while asked.recv().await.unwrap() != "/apis/e.example.com/v1/hangs" {}
        cluster.send("GET", MAPS, Value::Null).await.expect(200);
        cluster.send("DELETE", &format!("{SERVICES}/v1.e.example.com"), Value::Null).await.expect(200);
    };
    tokio::select! {
        _ = cluster.send("GET", "/apis/e.example.com/v1/hangs", Value::Null) => panic!("it was answered"),
        () = others => {}
    }
}

/// What was said is passed on, and that it was not all.
#[tokio::test]
async fn fault_41_an_extension_server_that_dies_in_the_middle_of_its_answer() {
    let (server, _asked) = playing(&["sample.default.svc"]).await;
    let cluster = Cluster::start_with(Here).await;
    extend(&cluster, &server).await;
    for _ in 0..3 {
        let mut cut = cluster.open("/apis/e.example.com/v1/dies", "application/json").await;
        assert_eq!(cut.piece().await.unwrap().unwrap(), SECRET);
        cut.piece().await.expect("it ended as if it were whole").unwrap_err();
        cluster.send("GET", MAPS, Value::Null).await.expect(200);
    }
}

/// An answer without end is the client's affair: it goes through at the client's pace, none of it is kept, and it ends when
/// the client has gone.
#[tokio::test]
async fn fault_41_an_extension_server_that_answers_without_end() {
    const READ: usize = 32 << 20;
    let _turn = super::turn().await;
    let (said, left) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let ending = Ending::Never { said: said.clone(), left: left.clone() };
    let serve = move |request: http::Request<hyper::body::Incoming>| {
        let mut answer = Response::new(Full::new(Bytes::from(vec![b' '; 64 << 10])));
        if request.uri().path().ends_with("/endless") {
            answer.extensions_mut().insert(ending.clone());
        }
        Box::pin(async move { answer }) as _
    };
    let server = TlsServer::start(&["sample.default.svc"], Arc::new(serve)).await;
    let cluster = Cluster::start_with(Here).await;
    extend(&cluster, &server).await;
    let before = resident();
    let mut endless = cluster.open("/apis/e.example.com/v1/endless", "application/json").await;
    let mut read = 0;
    while read < READ {
        read += endless.piece().await.unwrap().unwrap().len();
    }
    // Others are served while nobody reads it.
    for _ in 0..100 {
        cluster.send("GET", MAPS, Value::Null).await.expect(200);
    }
    let ahead = said.load(Ordering::Relaxed).saturating_sub(read);
    assert!(ahead < 8 << 20, "{} KiB were taken that nobody has read", ahead >> 10);
    assert!(resident() < before + (48 << 20));
    assert!(!left.is_cancelled());
    drop(endless);
    left.cancelled().await;
    cluster.send("GET", MAPS, Value::Null).await.expect(200);
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
        let mut answer = Response::builder().status(code).header("location", "/there").body(Full::new(body)).unwrap();
        if request.uri().path() == "/dies" {
            answer.extensions_mut().insert(Ending::Dies);
        }
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
        ("/dies", "unable to read the response body"),
    ] {
        let said = refused(&cluster, &server, path).await;
        assert!(said.contains(why), "{path}: {said}");
        assert!(!said.contains(SECRET) && said.len() < 1000, "{path}: {said}");
    }
    assert_eq!(led.load(Ordering::Relaxed), 0, "the redirect was followed");
    // The callee itself, in this process, has its answer of 64 MiB twice.
    assert!(resident() < before + (192 << 20));
}
