//! How long requests and watches last where flags say.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::authn::Options;
use apiserver::authn::webhook::WebhookOptions;
use apiserver::limits::Times;
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::Value;

use crate::harness::Cluster;
use crate::played::{Here, TlsServer};

fn write(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

#[tokio::test]
async fn requests_end_after_the_time_that_is_said() {
    // One that is asked about tokens and never answers.
    let silent = TlsServer::start(&["127.0.0.1"], Arc::new(|_| Box::pin(std::future::pending()))).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    write(&path, &silent.kubeconfig("ours"));
    let webhook = WebhookOptions { config_file: Some(path), ..WebhookOptions::default() };
    let settings = Settings {
        authentication: Options { webhook, ..Options::default() },
        times: Times { request: Duration::from_millis(300), ..Times::default() },
        ..Settings::default()
    };
    let cluster = Cluster::start_calling(Here, settings).await;
    let begun = Instant::now();
    let request = Request::get("/api/v1/namespaces?timeout=20s").header("authorization", "Bearer unknown");
    let answer = cluster.send_unknown(request.body(Full::new(Bytes::new())).unwrap()).await;
    assert_eq!(answer.code, 504, "{}", String::from_utf8_lossy(&answer.bytes));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn watches_end_after_the_time_that_is_said() {
    let times = Times { watch: Duration::from_millis(200), ..Times::default() };
    let cluster = Cluster::start_set(Settings { times, ..Settings::default() }).await;
    let begun = Instant::now();
    cluster.send("GET", "/api/v1/namespaces?watch=true", Value::Null).await;
    let lasted = begun.elapsed();
    assert!(lasted >= Duration::from_millis(200) && lasted < Duration::from_secs(10), "{lasted:?}");
}
