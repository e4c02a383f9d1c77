//! Servers behind this one, and before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use apiserver::aggregation::FrontProxy;
use apiserver::authn::{PeerCertificates, User};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use crate::played::{Here, TlsServer};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const GROUP: &str = "/apis/wardle.example.com";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// An extension server: what it is asked it tells back.
fn serve(request: Request<Incoming>) -> BoxFuture<'static, Response<Full<Bytes>>> {
    Box::pin(async move {
        let path = request.uri().path().to_owned();
        let document = match path.as_str() {
            "/apis/wardle.example.com/v1alpha1" => json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
                "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
                    "verbs": ["create", "get", "list"]}],
            }),
            "/openapi/v2" => json!({
                "paths": {"/apis/wardle.example.com/v1alpha1/flunders": {"get": {}}, "/version": {"get": {}}},
                "definitions": {"com.example.wardle.v1alpha1.Flunder": {"type": "object"}},
            }),
            "/openapi/v3" => {
                json!({"paths": {"apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=7"}}})
            }
            _ if request.headers().contains_key("upgrade") => {
                return Response::builder()
                    .status(StatusCode::SWITCHING_PROTOCOLS)
                    .header("connection", "Upgrade")
                    .header("upgrade", "SPDY/3.1")
                    .body(Full::default())
                    .unwrap();
            }
            _ => {
                let headers: BTreeMap<String, Vec<String>> =
                    request.headers().keys().map(|name| (name.to_string(), values(&request, name.as_str()))).collect();
                let method = request.method().to_string();
                let query = request.uri().query().map(str::to_owned);
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let body = String::from_utf8_lossy(&body).into_owned();
                json!({"method": method, "path": path, "query": query, "headers": headers, "body": body})
            }
        };
        Response::new(Full::new(Bytes::from(document.to_string())))
    })
}

fn values(request: &Request<Incoming>, name: &str) -> Vec<String> {
    request.headers().get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

async fn get(cluster: &Cluster, path: &str) -> Answer {
    cluster.send("GET", path, Value::Null).await
}

async fn get_as(cluster: &Cluster, path: &str, accept: &str) -> Answer {
    let request = Request::builder().uri(path).header("accept", accept).body(Full::default()).unwrap();
    cluster.call(User::component("admin", &["system:masters"]), request).await.read().await
}

/// Waits until an APIService's condition has this reason.
async fn until(cluster: &Cluster, name: &str, reason: &str) -> Value {
    let path = format!("{SERVICES}?watch=1&fieldSelector=metadata.name%3D{name}");
    let request = Request::builder().uri(path).body(Full::default()).unwrap();
    let mut watch = cluster.call(User::component("admin", &["system:masters"]), request).await;
    loop {
        let event = watch.line().await.unwrap();
        let condition = event["object"]["status"]["conditions"][0].clone();
        if condition["reason"] == reason {
            return condition;
        }
    }
}

#[tokio::test]
async fn another_server_answers_for_its_version() {
    let server = TlsServer::start(&["sample.default.svc"], Arc::new(serve)).await;
    let cluster = Cluster::start_with(Here).await;
    cluster.server.extend();
    let name = "v1alpha1.wardle.example.com";
    let spec = json!({
        "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
        "service": {"namespace": "default", "name": "sample", "port": 7443}, "caBundle": server.authority,
    });
    cluster.send("POST", SERVICES, json!({"metadata": {"name": name}, "spec": spec})).await.expect(201);
    let condition = until(&cluster, name, "ServiceNotFound").await;
    assert_eq!(condition["message"], "service/sample in \"default\" is not present");
    let flunders = format!("{GROUP}/v1alpha1/namespaces/default/flunders");
    let refused = get(&cluster, &flunders).await;
    assert_eq!((refused.code, refused.bytes), (503, Bytes::from("service unavailable\n")));
    let stale = get_as(&cluster, "/apis", AGGREGATED).await.expect(200);
    let found = |document: &Value| {
        let items = document["items"].as_array().unwrap().iter();
        items.clone().find(|item| item["metadata"]["name"] == "wardle.example.com").cloned()
    };
    assert_eq!(found(&stale).unwrap()["versions"], json!([{"version": "v1alpha1", "freshness": "Stale"}]));

    let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"port": 7443}]}});
    cluster.send("POST", "/api/v1/namespaces/default/services", service).await.expect(201);
    until(&cluster, name, "EndpointsNotFound").await;
    let slice = json!({
        "metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.9"]}], "ports": [{"name": "", "port": server.port}],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    cluster.send("POST", slices, slice).await.expect(201);
    let condition = until(&cluster, name, "Passed").await;
    assert_eq!((&condition["status"], &condition["message"]), (&json!("True"), &json!("all checks passed")));

    // A request goes on as its user's, and as nobody else's.
    let user = User {
        name: "alice".to_owned(),
        groups: vec!["system:masters".to_owned(), "b".to_owned()],
        extra: BTreeMap::from([("example.com/reason".to_owned(), vec!["x".to_owned()])]),
        ..User::default()
    };
    let request = Request::builder()
        .method("POST")
        .uri(format!("{flunders}?x=y"))
        .header("authorization", "Bearer secret")
        .header("x-remote-user", "mallory")
        .body(Full::new(Bytes::from("hello")))
        .unwrap();
    let heard = cluster.call(user, request).await.read().await.expect(200);
    assert_eq!((&heard["method"], &heard["query"], &heard["body"]), (&json!("POST"), &json!("x=y"), &json!("hello")));
    assert_eq!(heard["path"], flunders.as_str());
    let headers = &heard["headers"];
    assert_eq!(headers["x-remote-user"], json!(["alice"]));
    assert_eq!(headers["x-remote-group"], json!(["system:masters", "b"]));
    assert_eq!(headers["x-remote-extra-example.com%2freason"], json!(["x"]));
    assert_eq!(headers.get("authorization"), None);
    // Rights are asked for here, before.
    let bob = User::component("bob", &[]);
    cluster.send_as(bob, "GET", &flunders, "application/json", Value::Null).await.expect(403);

    let current = get_as(&cluster, "/apis", AGGREGATED).await.expect(200);
    let version = &found(&current).unwrap()["versions"][0];
    assert_eq!((&version["freshness"], &version["resources"][0]["resource"]), (&json!("Current"), &json!("flunders")));
    let groups = get(&cluster, "/apis").await.expect(200);
    let last = groups["groups"].as_array().unwrap().last().unwrap();
    assert_eq!(last["preferredVersion"]["groupVersion"], "wardle.example.com/v1alpha1");
    assert_eq!(get(&cluster, GROUP).await.expect(200)["kind"], "APIGroup");
    assert_eq!(get(&cluster, &format!("{GROUP}/v1alpha1")).await.expect(200)["kind"], "APIResourceList");
    let index = get(&cluster, "/openapi/v3").await.expect(200);
    let document = &index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"];
    assert_eq!(document, "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=7");
    assert_eq!(get(&cluster, document.as_str().unwrap()).await.expect(200)["query"], "hash=7");
    let schemas = get(&cluster, "/openapi/v2").await.expect(200);
    assert!(schemas["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
    assert!(schemas["definitions"]["com.example.wardle.v1alpha1.Flunder"].is_object());
    assert!(schemas["definitions"]["io.k8s.api.core.v1.Pod"].is_object());

    cluster.send("DELETE", &format!("{SERVICES}/{name}"), Value::Null).await.expect(200);
    get(&cluster, SERVICES).await.expect(200);
    assert_eq!((get(&cluster, &flunders).await.code, get(&cluster, GROUP).await.code), (404, 404));
    assert_eq!(found(&get_as(&cluster, "/apis", AGGREGATED).await.expect(200)), None);
}

#[tokio::test]
async fn a_stream_goes_through() {
    let server = TlsServer::start(
        &["sample.default.svc"],
        Arc::new(|mut request: Request<Incoming>| {
            if request.headers().contains_key("upgrade") {
                let upgrading = hyper::upgrade::on(&mut request);
                tokio_util::task::TaskTracker::new().spawn(async move {
                    let stream = TokioIo::new(upgrading.await.unwrap());
                    let (mut reads, mut writes) = tokio::io::split(stream);
                    tokio::io::copy(&mut reads, &mut writes).await.unwrap();
                });
            }
            serve(request)
        }),
    )
    .await;
    let cluster = Cluster::start_with(Here).await;
    cluster.server.extend();
    let name = "v1alpha1.wardle.example.com";
    let spec = json!({
        "group": "wardle.example.com", "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200,
        "service": {"namespace": "default", "name": "sample", "port": 443}, "insecureSkipTLSVerify": true,
    });
    let service = json!({"metadata": {"name": "sample"}, "spec": {"ports": [{"port": 443}]}});
    cluster.send("POST", "/api/v1/namespaces/default/services", service).await.expect(201);
    let slice = json!({
        "metadata": {"name": "sample-1", "labels": {"kubernetes.io/service-name": "sample"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.9"]}], "ports": [{"name": "", "port": server.port}],
    });
    cluster.send("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice).await.expect(201);
    cluster.send("POST", SERVICES, json!({"metadata": {"name": name}, "spec": spec})).await.expect(201);
    until(&cluster, name, "Passed").await;

    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let service = apiserver::service::ApiService::of_component(
        cluster.server.clone(),
        User::component("admin", &["system:masters"]),
        "test",
    );
    let tasks = tokio_util::task::TaskTracker::new();
    tasks.spawn(async move {
        let service = hyper_util::service::TowerToHyperService::new(service);
        let http = hyper::server::conn::http1::Builder::new();
        let _ended = http.serve_connection(TokioIo::new(theirs), service).with_upgrades().await;
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
    tasks.spawn(async move { connection.with_upgrades().await.unwrap() });
    let request = Request::builder()
        .method("POST")
        .uri(format!("{GROUP}/v1alpha1/namespaces/default/flunders/f/exec"))
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .body(Full::<Bytes>::default())
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    stream.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
}

#[tokio::test]
async fn what_is_served_here_is_registered() {
    let cluster = Cluster::start_with(Here).await;
    cluster.server.extend();
    let condition = until(&cluster, "v1.apps", "Local").await;
    assert_eq!(condition["message"], "Local APIServices are always available");
    let service = get(&cluster, &format!("{SERVICES}/v1.apps")).await.expect(200);
    assert_eq!(service["metadata"]["labels"], json!({"kube-aggregator.kubernetes.io/automanaged": "onstart"}));
    let spec = json!({"group": "apps", "version": "v1", "groupPriorityMinimum": 17800, "versionPriority": 15});
    assert_eq!(service["spec"], spec);
    until(&cluster, "v1.", "Local").await;
    get(&cluster, "/apis/apps/v1/deployments").await.expect(200);
}

#[tokio::test]
async fn a_front_proxy_speaks_for_users() {
    let named = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    };
    let mut authority = named("front-ca");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let chain = |name: &str| {
        let key = KeyPair::generate().unwrap();
        vec![named(name).signed_by(&key, &authority).unwrap().der().clone()]
    };
    let own = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let front = FrontProxy {
        authority: authority.pem(),
        allowed_names: vec!["system:auth-proxy".to_owned()],
        certificate: Arc::new(CertifiedKey::from_der(vec![own.cert.der().clone()], key, &provider).unwrap()),
    };
    let cluster = Cluster::start_behind(Here, Some(front)).await;
    cluster.server.extend();
    let asked = |chain| {
        Request::builder()
            .method("POST")
            .uri("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("x-remote-user", "alice")
            .header("x-remote-group", "system:masters")
            .extension(PeerCertificates::new(chain))
            .body(Full::new(Bytes::from("{}")))
            .unwrap()
    };
    let review = cluster.send_unknown(asked(chain("system:auth-proxy"))).await.expect(201);
    let info = &review["status"]["userInfo"];
    assert_eq!((&info["username"], &info["groups"][0]), (&json!("alice"), &json!("system:masters")));
    cluster.send_unknown(asked(chain("somebody"))).await.expect(401);

    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let request = Request::builder().uri("/api/v1/namespaces/kube-system/configmaps?watch=1").body(Full::default());
    let admin = User::component("admin", &["system:masters"]);
    let mut watch = cluster.call(admin, request.unwrap()).await;
    while watch.line().await.unwrap()["object"]["metadata"]["name"] != "extension-apiserver-authentication" {}
    let data = &get(&cluster, path).await.expect(200)["data"];
    assert_eq!(data["requestheader-allowed-names"], "[\"system:auth-proxy\"]");
    assert_eq!(data["requestheader-username-headers"], "[\"X-Remote-User\"]");
    assert!(data["requestheader-client-ca-file"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
}
