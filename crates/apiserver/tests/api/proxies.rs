//! What others answer: a node's kubelet and Pods, played by a server in the test.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use apiserver::authn::User;
use apiserver::service::ApiService;
use apiserver::streaming::{NodeDialer, Stream};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::task::TaskTracker;

use crate::harness::Cluster;

/// Answers whoever connects, whether to the kubelet or to an address.
struct Played(TaskTracker);

impl Played {
    fn connection(&self, who: String) -> Box<dyn Stream> {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let tasks = self.0.clone();
        let service = service_fn(move |request| {
            let (who, tasks) = (who.clone(), tasks.clone());
            async move { Ok::<_, Infallible>(play(&who, &tasks, request)) }
        });
        self.0.spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ended = http.serve_connection(TokioIo::new(theirs), service).with_upgrades().await;
        });
        Box::new(ours)
    }
}

fn play(who: &str, tasks: &TaskTracker, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().contains_key("upgrade") && request.uri().path() != "/refuses" {
        let upgrading = hyper::upgrade::on(&mut request);
        tasks.spawn(async move {
            let mut stream = TokioIo::new(upgrading.await.unwrap());
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await.unwrap();
            stream.write_all(&heard.to_ascii_uppercase()).await.unwrap();
        });
        let mut answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header("connection", "Upgrade");
        for name in ["upgrade", "x-stream-protocol-version"] {
            answer = answer.header(name, request.headers()[name].clone());
        }
        return answer.header("x-path", request.uri().to_string()).body(Full::default()).unwrap();
    }
    let path = request.uri().path();
    let answer = Response::builder().header("access-control-allow-origin", "*");
    let answer = match path {
        "/refuses" => answer.status(403),
        "/moved" => answer.status(302).header("location", "/there?a=b"),
        "/page" => answer.header("content-type", "text/html; charset=utf-8"),
        _ => answer,
    };
    let said = match path {
        "/page" => "<a href=\"/x\">x</a>".to_owned(),
        _ => {
            let secret = request.headers().contains_key("authorization");
            format!("{who} {} {} secret={secret}", request.method(), request.uri())
        }
    };
    answer.body(Full::new(said.into())).unwrap()
}

impl NodeDialer for Played {
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let who = format!("kubelet of {}", node["metadata"]["name"].as_str().unwrap());
        Box::pin(async { Ok(self.connection(who)) })
    }

    fn connect<'a>(
        &'a self,
        node: Option<&'a Value>,
        address: SocketAddr,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        let node = node.and_then(|node| node["metadata"]["name"].as_str()).unwrap_or("nowhere");
        let who = format!("{address} on {node}");
        Box::pin(async move {
            match address.port() {
                9 => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                _ => Ok(self.connection(who)),
            }
        })
    }
}

/// A cluster with a node, a Pod on it that listens on 8080, and a Service of it.
async fn cluster() -> Cluster {
    let cluster = Cluster::start_with(Played(TaskTracker::new())).await;
    cluster.send("POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await.expect(201);
    let container = json!({"name": "c", "image": "app", "ports": [{"containerPort": 8080}]});
    let account = json!({"metadata": {"name": "default"}});
    cluster.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    let pod = json!({"metadata": {"name": "web"}, "spec": {"nodeName": "n1", "containers": [container]}});
    let mut pod = cluster.send("POST", "/api/v1/namespaces/default/pods", pod).await.expect(201);
    pod["status"] = json!({"podIP": "10.42.0.7", "podIPs": [{"ip": "10.42.0.7"}]});
    cluster.send("PUT", "/api/v1/namespaces/default/pods/web/status", pod).await.expect(200);
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    cluster.send("POST", "/api/v1/namespaces/default/services", service).await.expect(201);
    let slice = json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.42.0.7"], "nodeName": "n1"}],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    cluster.send("POST", slices, slice).await.expect(201);
    cluster
}

#[tokio::test]
async fn requests_reach_nodes_pods_and_services() {
    let cluster = cluster().await;
    let said = async |path: &str| {
        let answer = cluster.send("GET", &format!("/api/v1/{path}"), Value::Null).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        (answer.code, String::from_utf8(answer.bytes.to_vec()).unwrap())
    };
    let pod = "namespaces/default/pods";
    for (path, expected) in [
        ("nodes/n1/proxy/stats/summary", "kubelet of n1 GET /stats/summary secret=false"),
        ("nodes/n1:10250/proxy/pods?x=1", "kubelet of n1 GET /pods?x=1 secret=false"),
        ("namespaces/default/pods/web/proxy/", "10.42.0.7:8080 on n1 GET / secret=false"),
        ("namespaces/default/pods/http:web:81/proxy/a//b%2F", "10.42.0.7:81 on n1 GET /a//b%2F secret=false"),
        ("namespaces/default/services/web:80/proxy/a", "10.42.0.7:8080 on n1 GET /a secret=false"),
        ("namespaces/default/services/web:http/proxy/a", "10.42.0.7:8080 on n1 GET /a secret=false"),
    ] {
        assert_eq!(said(path).await, (200, expected.to_owned()));
    }
    let (code, why) = said(&format!("{pod}/web:9/proxy/")).await;
    assert_eq!(code, 503);
    assert!(why.contains("error trying to reach service: dial tcp 10.42.0.7:9: connect: connection refused"), "{why}");
    assert_eq!(said(&format!("{pod}/gone/proxy/")).await.0, 404);
    assert_eq!(said(&format!("{pod}/a:b:c:d/proxy/")).await.0, 400);
    assert_eq!(said("namespaces/default/services/web:81/proxy/").await.0, 503);
    let page = said(&format!("{pod}/web/proxy/page")).await.1;
    assert_eq!(page, "<a href=\"/api/v1/namespaces/default/pods/web/proxy/x\">x</a>");
}

#[tokio::test]
async fn input_20_redirects_are_told_and_lead_through_the_proxy() {
    let cluster = cluster().await;
    let proxy = "/api/v1/namespaces/default/pods/web/proxy";
    for (path, code, location) in [
        (format!("{proxy}?a=b"), 301, format!("{proxy}/?a=b")),
        (format!("{proxy}/moved"), 302, format!("{proxy}/there?a=b")),
    ] {
        let answer = cluster.send("GET", &path, Value::Null).await;
        assert_eq!((answer.code, answer.headers["location"].to_str().unwrap()), (code, location.as_str()));
    }
}

/// Asks over a connection on which a request can become a stream.
async fn upgrade(cluster: &Cluster, user: User, request: &str) -> (String, DuplexStream) {
    ask(cluster, user, request, "upgrade: SPDY/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io").await
}

async fn ask(cluster: &Cluster, user: User, request: &str, fields: &str) -> (String, DuplexStream) {
    let (mut ours, theirs) = tokio::io::duplex(1 << 16);
    let service = TowerToHyperService::new(ApiService::of_component(cluster.server.clone(), user, "test"));
    TaskTracker::new().spawn(async move {
        let http = hyper::server::conn::http1::Builder::new();
        let _ended = http.serve_connection(TokioIo::new(theirs), service).with_upgrades().await;
    });
    ours.write_all(format!("{request} HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\n{fields}\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(ours.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap(), ours)
}

#[tokio::test]
async fn streams_are_joined_end_to_end() {
    let cluster = cluster().await;
    let admin = || User::component("admin", &["system:masters"]);
    for request in [
        "POST /api/v1/namespaces/default/pods/web/exec?command=sh&stdin=true&stdout=true",
        "GET /api/v1/namespaces/default/pods/web/attach?stdout=true",
        "POST /api/v1/namespaces/default/pods/web/portforward",
        "GET /api/v1/namespaces/default/pods/web/proxy/socket",
        "GET /api/v1/nodes/n1/proxy/exec/default/web/c?command=ls",
    ] {
        let (head, mut stream) = upgrade(&cluster, admin(), request).await;
        assert!(head.starts_with("HTTP/1.1 101") && head.contains("v4.channel.k8s.io"), "{request}: {head}");
        stream.write_all(b"hello").await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "HELLO", "{request}");
    }
    let plain = cluster.send("POST", "/api/v1/namespaces/default/pods/web/exec?command=ls", Value::Null).await;
    assert_eq!(plain.expect(400)["message"], "Upgrade request required");
}

/// A connection that did not become a stream leads nowhere: what comes over it next is a request to this server, from
/// whom it was before (CVE-2018-1002105).
#[tokio::test]
async fn input_20_a_refused_upgrade_leaves_no_way_to_the_node() {
    let cluster = cluster().await;
    let admin = User::component("admin", &["system:masters"]);
    let request = "GET /api/v1/namespaces/default/pods/web/proxy/refuses";
    let (head, mut stream) = upgrade(&cluster, admin, request).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    let next = "GET /exec/default/web/c?command=id HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    stream.write_all(next.as_bytes()).await.unwrap();
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    let (body, answer) = told.split_once("HTTP/1.1 ").unwrap_or((&told, ""));
    assert_eq!(body.matches("10.42.0.7:8080 on n1").count(), 1, "{told}");
    // Closed, or answered by this server, which has no such path.
    assert!(answer.is_empty() || answer.starts_with("404"), "{told}");
    assert!(!answer.contains("on n1"), "{told}");
}

/// Opens a websocket that carries an answer's body.
async fn websocket(cluster: &Cluster, target: &str, protocol: &str) -> WebSocketStream<DuplexStream> {
    let fields = format!(
        "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: {protocol}"
    );
    let admin = User::component("admin", &["system:masters"]);
    let (head, stream) = ask(cluster, admin, &format!("GET {target}"), &fields).await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}

#[tokio::test]
async fn logs_and_watches_come_as_messages_where_a_websocket_is_asked_for() {
    let cluster = cluster().await;
    let log = "/api/v1/namespaces/default/pods/web/log";
    let said = "kubelet of n1 GET /containerLogs/default/web/c? secret=false";
    let mut socket = websocket(&cluster, log, "binary.k8s.io").await;
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::Binary(said.into()));
    assert!(matches!(socket.next().await.unwrap().unwrap(), Message::Close(Some(_))));
    let mut socket = websocket(&cluster, log, "base64.binary.k8s.io").await;
    assert!(socket.next().await.unwrap().unwrap().into_text().unwrap().starts_with("a3ViZWxldCBvZiBuMS"));

    let mut socket = websocket(&cluster, "/api/v1/pods?watch=true", "binary.k8s.io").await;
    let event: Value = serde_json::from_str(&socket.next().await.unwrap().unwrap().into_text().unwrap()).unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("web")));
}

#[tokio::test]
async fn the_right_to_get_does_not_open_a_stream() {
    let cluster = cluster().await;
    let role = json!({
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get"]}],
    });
    cluster.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "bob"}],
    });
    cluster.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let bob = User::component("bob", &[]);
    let exec = "GET /api/v1/namespaces/default/pods/web/exec?command=ls&stdout=true";
    let (head, _) = upgrade(&cluster, bob, exec).await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
}

#[tokio::test]
async fn input_20_nobody_is_passed_on_to_the_host_itself() {
    let cluster = cluster().await;
    let addresses = [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
    ];
    for address in addresses {
        let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}});
        cluster.patch("/api/v1/nodes/n1/status", "merge-patch+json", status).await.expect(200);
        let refused = cluster.send("GET", "/api/v1/nodes/n1:6443/proxy/", Value::Null).await.expect(400);
        assert_eq!(refused["message"], "address not allowed", "{address}");
    }
    // A name is an address to nobody: none is looked up, so none can come to mean another.
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "localhost"}]}});
    cluster.patch("/api/v1/nodes/n1/status", "merge-patch+json", status).await.expect(200);
    cluster.send("GET", "/api/v1/nodes/n1:6443/proxy/", Value::Null).await.expect(400);
}
