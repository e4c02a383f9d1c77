//! The HTTPS API, over real sockets: who is let in, what logs say, how streams end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::cri::streams::Session;
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use ::cri::streaming::channels;

use super::*;
use crate::testing::TestNode;

/// Lets in whoever is called `admin`.
struct ByName;

impl Authorizer for ByName {
    fn user_of<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Option<User>> {
        let user = token.strip_prefix("token-of-").map(|name| User { name: name.to_owned(), groups: Vec::new() });
        futures::future::ready(user).boxed()
    }

    fn allows<'a>(&'a self, attributes: &'a Attributes) -> BoxFuture<'a, bool> {
        let allowed = attributes.user.name == "admin" && attributes.node == "n1";
        futures::future::ready(allowed).boxed()
    }
}

/// A node whose API is served without TLS, to a user that the test chooses.
struct Served {
    node: TestNode,
    shared: Arc<Shared>,
}

impl Served {
    async fn start() -> Self {
        Self::start_within(limits()).await
    }

    async fn start_within(limits: Limits) -> Self {
        let node = TestNode::start().await;
        let shared =
            Arc::new(Shared { handle: node.handle(), authorizer: Arc::new(ByName), limits, tasks: Tasks::default() });
        Self { node, shared }
    }

    /// A connection on which requests are answered as `user`'s.
    fn connect(&self, user: &str) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let user = auth::User { name: user.to_owned(), groups: Vec::new() };
        let shared = Arc::clone(&self.shared);
        let user = (!user.name.is_empty()).then_some(user);
        let serving = async move {
            let place = Places::new(&shared.limits).room().await.of([192, 0, 2, 1].into()).unwrap();
            answer(theirs, user, place, shared).await;
        };
        self.shared.tasks.tracker.spawn(serving);
        ours
    }

    /// The status code and body of a GET.
    async fn get(&self, user: &str, path: &str) -> (u16, String) {
        self.get_with(user, path, "").await
    }

    /// The same with further header lines.
    async fn get_with(&self, user: &str, path: &str, fields: &str) -> (u16, String) {
        let (mut answers, mut requests) = tokio::io::split(self.connect(user));
        let request = format!("GET {path} HTTP/1.0\r\nhost: n1\r\n{fields}\r\n");
        let mut answer = String::new();
        // A refusal may come, and the connection end, before the request has been read.
        let (_, told) = tokio::join!(requests.write_all(request.as_bytes()), answers.read_to_string(&mut answer));
        told.unwrap();
        let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (code, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

#[tokio::test]
async fn nobody_is_anonymous_and_not_everybody_may() {
    let served = Served::start().await;
    for path in ["/healthz", "/pods", "/metrics", "/exec/a/b/c", "/stats/summary", "/nonsense"] {
        assert_eq!(served.get("", path).await.0, 401, "{path}");
        assert_eq!(served.get("guest", path).await.0, 403, "{path}");
    }
    let (code, said) = served.get("guest", "/metrics/resource").await;
    assert_eq!(
        (code, said.as_str()),
        (403, "Forbidden (user=guest, verb=get, resource=nodes, subresource(s)=[metrics or proxy])")
    );
    assert_eq!(served.get("admin", "/healthz").await, (200, "ok".to_owned()));
    for (token, code) in [("token-of-admin", 200), ("token-of-guest", 403), ("nonsense", 401)] {
        let field = format!("authorization: Bearer {token}\r\n");
        assert_eq!(served.get_with("", "/healthz", &field).await.0, code, "{token}");
    }
    assert_eq!(served.get("admin", "/nonsense").await.0, 404);
    assert_eq!(served.get("admin", "/logs/../../etc/shadow").await.0, 404);
}

#[tokio::test]
async fn input_9_who_asks_nothing_or_never_ends_asking_is_left() {
    let short = Limits { head: Duration::from_millis(50), idle: Duration::from_millis(50), ..limits() };
    let body = Duration::from_millis(50);
    let served = Served::start_within(Limits { body, ..short }).await;
    let check = async |sent: &str, expected: &str| {
        let mut stream = served.connect("admin");
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut told = String::new();
        timeout(Duration::from_secs(10), stream.read_to_string(&mut told)).await.unwrap().unwrap();
        assert_eq!(told.lines().next().unwrap_or_default(), expected, "{sent:?}");
    };
    check("", "").await;
    check("GET /healthz HT", "").await;
    check("GET /healthz HTTP/1.1\r\nhost: n1\r\n\r\n", "HTTP/1.1 200 OK").await;
    check("GET /healthz HTTP/1.1\r\nhost: n1\r\n\r\nGET /hea", "HTTP/1.1 200 OK").await;
    let slow = "POST /exec/a/b/c HTTP/1.1\r\nhost: n1\r\ncontent-length: 10\r\n\r\nab";
    check(slow, "HTTP/1.1 408 Request Timeout").await;
    let field = format!("a: {}\r\n", "x".repeat(1 << 17));
    assert_eq!(served.get_with("admin", "/healthz", &field).await.0, 431);
}

#[tokio::test]
async fn logs_are_of_the_container_that_was_meant() {
    let served = Served::start().await;
    let node = &served.node;
    let spec = json!({"containers": [{"name": "c", "image": "app"}]});
    node.create("web", spec);
    node.until_ready("web", true).await;
    node.write_log("c", "2026-01-01T00:00:00Z stdout F first life\n");
    node.runtime.exit("c", 1);
    node.until("restarted", |node| node.runtime.containers() == "c#0 Exited, c#1 Running").await;
    node.write_log("c", "2026-01-01T00:00:01Z stdout F second life\n");
    node.until_ready("web", true).await;

    let get = |query: &'static str| served.get("admin", query);
    assert_eq!(get("/containerLogs/shop/web/c").await.1, "second life\n");
    assert_eq!(get("/containerLogs/shop/web/c?previous=true").await.1, "first life\n");
    assert_eq!(get("/containerLogs/shop/web/c?timestamps=true").await.1, "2026-01-01T00:00:01Z second life\n");
    assert_eq!(get("/containerLogs/shop/web/c?tailLines=-1").await.0, 422);
    assert_eq!(get("/containerLogs/shop/web/x").await, (404, "container \"x\" not found in pod \"web\"".to_owned()));
    assert_eq!(get("/containerLogs/shop/gone/c").await, (404, "pod \"shop/gone\" not found".to_owned()));
    let pods: Value = serde_json::from_str(&get("/pods").await.1).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
}

#[tokio::test]
async fn claimed_volumes_are_measured_once_each() {
    use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
    let served = Served::start().await;
    let node = &served.node;
    for (name, source) in
        [("disk", json!({"local": {"path": node.dir.path()}})), ("folder", json!({"hostPath": {"path": "/"}}))]
    {
        let mut spec = source;
        spec["claimRef"] = json!({"namespace": "shop", "name": name, "uid": name});
        let volume = json!({"metadata": {"name": format!("pv-{name}")}, "spec": spec});
        node.cluster.put(&client::typed::resource_of::<PersistentVolume>(), volume);
        let claim = json!({"metadata": {"namespace": "shop", "name": name, "uid": name},
                           "spec": {"volumeName": format!("pv-{name}")}, "status": {"phase": "Bound"}});
        node.cluster.put(&client::typed::resource_of::<PersistentVolumeClaim>(), claim);
    }
    let claimed = |name: &str| json!({"name": format!("my-{name}"), "persistentVolumeClaim": {"claimName": name}});
    let mounts = json!([{"name": "my-disk", "mountPath": "/disk"}, {"name": "my-folder", "mountPath": "/folder"}]);
    for pod in ["one", "two"] {
        let container = json!({"name": "c", "image": "app", "volumeMounts": mounts});
        node.create(pod, json!({"containers": [container], "volumes": [claimed("disk"), claimed("folder")]}));
        node.until_ready(pod, true).await;
    }
    let told = served.get("admin", "/metrics").await.1;
    let figures: Vec<&str> = told.lines().filter(|line| line.starts_with("kubelet_volume_stats")).collect();
    assert_eq!(figures.len(), 6, "a hostPath is the node's own, and the claim is one: {figures:#?}");
    let of_claim = "{namespace=\"shop\",persistentvolumeclaim=\"disk\"} ";
    assert!(figures.iter().all(|line| line.contains(of_claim)), "{figures:#?}");
    let summary: Value = serde_json::from_str(&served.get("admin", "/stats/summary").await.1).unwrap();
    let volumes = &summary["pods"][0]["volume"];
    assert_eq!(volumes.as_array().map(Vec::len), Some(1), "{volumes}");
    assert_eq!(
        (&volumes[0]["name"], &volumes[0]["pvcRef"]),
        (&json!("my-disk"), &json!({"name": "disk", "namespace": "shop"}))
    );
    assert!(volumes[0]["capacityBytes"].as_u64() > Some(0), "{volumes}");
}

/// A process that says what it hears, in capitals, and ends with 3 when it hears no more.
fn shouting() -> Session {
    let (input, heard) = futures::channel::mpsc::channel::<bytes::Bytes>(4);
    let (end, ended) = futures::channel::oneshot::channel::<()>();
    let mut end = Some(end);
    let output = heard.map(|data| Ok(bytes::Bytes::from(data.to_ascii_uppercase()))).chain(futures::stream::poll_fn(
        move |_| {
            drop(end.take());
            std::task::Poll::Ready(None)
        },
    ));
    Session {
        stdin: Some(Box::pin(input.sink_map_err(|_| api::cri::Error::internal("closed")))),
        stdout: Some(output.boxed()),
        stderr: None,
        resize: futures::channel::mpsc::channel(1).0,
        exit: ended.map(|_| Ok(3)).boxed(),
    }
}

#[tokio::test]
async fn a_process_is_talked_to_over_a_websocket_and_its_exit_code_comes_last() {
    let served = Served::start().await;
    let node = &served.node;
    node.create("web", json!({"containers": [{"name": "c", "image": "app"}]}));
    node.until_ready("web", true).await;
    node.runtime.answer_stream(shouting());

    let mut stream = served.connect("admin");
    let request = "GET /exec/shop/web/c?command=sh&input=1&output=1 HTTP/1.1\r\nhost: n1\r\nupgrade: websocket\r\n\
                   connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-protocol: v5.channel.k8s.io, v4.channel.k8s.io\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    // The example of RFC 6455.
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(head.contains("v5.channel.k8s.io"), "{head}");

    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    socket.send(Message::Binary(channels::write(channels::STDIN, b"hello"))).await.unwrap();
    let heard = socket.next().await.unwrap().unwrap();
    assert_eq!(heard.into_data(), channels::write(channels::STDOUT, b"HELLO"));
    socket.send(Message::Binary(bytes::Bytes::from_static(&[255, 0]))).await.unwrap();
    let last = socket.next().await.unwrap().unwrap().into_data();
    assert_eq!(last[0], channels::ERROR);
    let status: Value = serde_json::from_slice(&last[1..]).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");
}

#[tokio::test]
async fn clients_of_the_first_version_hear_of_failure_alone() {
    let served = Served::start().await;
    served.node.create("web", json!({"containers": [{"name": "c", "image": "app"}]}));
    served.node.until_ready("web", true).await;
    for named in ["sec-websocket-protocol: channel.k8s.io\r\n", ""] {
        served.node.runtime.answer_stream(shouting());
        let mut stream = served.connect("admin");
        let request = format!(
            "GET /exec/shop/web/c?command=sh&input=1&output=1 HTTP/1.1\r\nhost: n1\r\nupgrade: websocket\r\n\
             connection: Upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{named}\r\n"
        );
        let head = head(&mut stream, &request).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert_eq!(head.contains("sec-websocket-protocol"), !named.is_empty(), "{head}");
    }
}

/// The head of the answer to a request.
async fn head(stream: &mut tokio::io::DuplexStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// What a client hears on its streams until all are ended on which it says nothing.
async fn heard(stream: tokio::io::DuplexStream, opened: &[(u32, &str)], said: &[(u32, &str)]) -> BTreeMap<u32, String> {
    use ::cri::streaming::spdy::{Frame, FrameDecoder, FrameEncoder};
    let (reading, writing) = tokio::io::split(stream);
    let mut sink = tokio_util::codec::FramedWrite::new(writing, FrameEncoder::default());
    let mut source = tokio_util::codec::FramedRead::new(reading, FrameDecoder::default());
    for (id, headers) in opened {
        let headers = headers.split(' ').filter_map(|pair| pair.split_once('='));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        sink.send(Frame::Open { stream: *id, fin: false, headers }).await.unwrap();
    }
    for (id, text) in said {
        let data = bytes::Bytes::from(text.to_string());
        sink.send(Frame::Data { stream: *id, fin: true, data }).await.unwrap();
    }
    let mut heard = BTreeMap::new();
    let mut open: Vec<u32> = opened.iter().map(|(id, _)| *id).collect();
    open.retain(|id| said.iter().all(|(said, _)| said != id));
    while !open.is_empty() {
        if let Frame::Data { stream, fin, data } = source.next().await.unwrap().unwrap() {
            heard.entry(stream).or_insert_with(String::new).push_str(std::str::from_utf8(&data).unwrap());
            open.retain(|id| !fin || *id != stream);
        }
    }
    heard
}

#[tokio::test]
async fn older_clients_talk_spdy_to_a_process() {
    let served = Served::start().await;
    served.node.create("web", json!({"containers": [{"name": "c", "image": "app"}]}));
    served.node.until_ready("web", true).await;
    for (version, told) in [("v4.channel.k8s.io", "\"3\""), ("v2.channel.k8s.io", "exit status 3")] {
        served.node.runtime.answer_stream(shouting());
        let mut stream = served.connect("admin");
        let request = format!(
            "POST /exec/shop/web/c?command=sh&input=1&output=1 HTTP/1.1\r\nhost: n1\r\nconnection: Upgrade\r\n\
             upgrade: SPDY/3.1\r\nx-stream-protocol-version: {version}\r\ncontent-length: 0\r\n\r\n"
        );
        let head = head(&mut stream, &request).await;
        assert!(head.starts_with("HTTP/1.1 101") && head.contains(version), "{head}");
        let opened = [(1, "streamtype=error"), (3, "streamtype=stdin"), (5, "streamtype=stdout")];
        let heard = heard(stream, &opened, &[(3, "hello")]).await;
        assert_eq!(heard[&5], "HELLO");
        assert!(heard[&1].contains(told), "{heard:?}");
    }
    let mut stream = served.connect("admin");
    let request = "POST /exec/shop/web/c?command=sh&output=1 HTTP/1.1\r\nhost: n1\r\nconnection: Upgrade\r\n\
                   upgrade: SPDY/3.1\r\nx-stream-protocol-version: v9\r\ncontent-length: 0\r\n\r\n";
    let head = head(&mut stream, request).await;
    assert!(head.starts_with("HTTP/1.1 403") && head.contains("x-accepted-stream-protocol-versions"), "{head}");
}

#[tokio::test]
async fn a_port_that_refuses_says_so_on_its_own_error_stream() {
    let served = Served::start().await;
    served.node.create("web", json!({"containers": [{"name": "c", "image": "app"}]}));
    served.node.until_ready("web", true).await;
    let mut stream = served.connect("admin");
    let request = "POST /portForward/shop/web HTTP/1.1\r\nhost: n1\r\nconnection: Upgrade\r\n\
                   upgrade: SPDY/3.1\r\nx-stream-protocol-version: portforward.k8s.io\r\ncontent-length: 0\r\n\r\n";
    assert!(head(&mut stream, request).await.starts_with("HTTP/1.1 101"));
    let opened = [
        (1, "streamtype=error port=81 requestid=0"),
        (3, "streamtype=data port=81 requestid=0"),
        (5, "streamtype=error port=0 requestid=1"),
        (7, "streamtype=data port=0 requestid=1"),
    ];
    let heard = heard(stream, &opened, &[]).await;
    assert!(heard[&1].starts_with("error forwarding port 81 to pod web, uid "), "{heard:?}");
    assert_eq!(heard[&5], "port \"0\" is none");
}

#[tokio::test]
async fn a_stream_without_a_websocket_is_refused_with_the_remedy() {
    let served = Served::start().await;
    served.node.create("web", json!({"containers": [{"name": "c", "image": "app"}]}));
    served.node.until_ready("web", true).await;
    served.node.runtime.answer_stream(shouting());
    let (code, said) = served.get("admin", "/exec/shop/web/c?command=sh&output=1").await;
    assert_eq!((code, said.as_str()), (400, "this path is a stream: Upgrade: websocket or SPDY/3.1 is required"));
    assert_eq!(served.get("admin", "/exec/shop/web/c?output=1").await.0, 400);
    assert_eq!(served.get("admin", "/portForward/shop/web?port=70000").await.0, 400);
    assert_eq!(served.get("admin", "/portForward/shop/web?port=0").await.0, 400);
}
