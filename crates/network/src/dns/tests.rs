//! The zone's answers, and the server on loopback sockets.

use std::time::Duration;

use client::testing::FakeCluster;
use client::typed::resource_of;
use expect_test::{Expect, expect};
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::{Namespace, Node, Service as ApiService};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::answer::{Reply, reply};
use super::*;

fn cluster() -> Arc<FakeCluster> {
    let cluster = FakeCluster::new();
    for name in ["default", "shop"] {
        cluster.put(&resource_of::<Namespace>(), json!({"metadata": {"name": name}}));
    }
    let service = |namespace: &str, name: &str, spec| {
        let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
        cluster.put(&resource_of::<ApiService>(), object);
    };
    let https = json!([{"name": "https", "port": 443, "protocol": "TCP"}]);
    service("default", "kubernetes", json!({"clusterIPs": ["10.43.0.1"], "ports": https}));
    service("shop", "web", json!({"clusterIPs": ["10.43.0.7", "fd00:43::7"], "ports": [{"name": "http", "port": 80}]}));
    service("shop", "db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}));
    service("shop", "empty", json!({"clusterIP": "None"}));
    service("shop", "docs", json!({"type": "ExternalName", "externalName": "docs.example.com"}));
    service("shop", "shop", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"}));
    let slice = json!({
        "metadata": {"namespace": "shop", "name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
        "addressType": "IPv4",
        "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
            {"addresses": ["10.42.1.6"], "conditions": {"ready": true}},
            {"addresses": ["10.42.1.7"], "hostname": "db-2", "conditions": {"ready": false}},
        ],
    });
    cluster.put(&resource_of::<EndpointSlice>(), slice);
    let status = json!({"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]});
    cluster.put(&resource_of::<Node>(), json!({"metadata": {"name": "N1"}, "status": status}));
    cluster
}

async fn zone() -> Zone {
    let informers = cluster().informers();
    let mut observer = Observer::new(&*informers);
    while !observer.synced() {
        observer.changed().await;
    }
    Zone::new("cluster.local", &["10.43.0.10".parse().unwrap()], &observer.observed())
}

fn query(name: &str, record_type: RecordType) -> Message {
    let mut query = Message::query();
    query.metadata.id = 7;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    query
}

fn text(record: &Record) -> String {
    format!("{} {} {} {}", record.name, record.ttl, record.record_type(), record.data)
}

fn answer_text(zone: &Zone, line: &str) -> String {
    let (name, kind) = line.split_once(' ').unwrap();
    let bytes = query(name, kind.parse().unwrap()).to_vec().unwrap();
    let (reply, note) = match reply(&bytes, Some(zone)) {
        Reply::Ready(reply) => (reply, String::new()),
        Reply::Complete(reply, target) => (reply, format!("  and {target} upstream\n")),
        Reply::Forward(_) => return format!("{line}: upstream\n"),
        Reply::Silence => return format!("{line}: silence\n"),
    };
    let mut out = format!("{line}: {}\n", reply.metadata.response_code);
    for (section, records) in [("", &reply.answers), ("authority ", &reply.authorities), ("with ", &reply.additionals)]
    {
        records.iter().for_each(|record| out += &format!("  {section}{}\n", text(record)));
    }
    out + &note
}

async fn answers(lines: &[&str], expected: Expect) {
    let zone = zone().await;
    expected.assert_eq(&lines.iter().map(|line| answer_text(&zone, line)).collect::<String>());
}

#[tokio::test]
async fn services_and_their_ports() {
    answers(
        &[
            "kubernetes.default.svc.cluster.local. A",
            "Web.Shop.svc.cluster.local. A",
            "web.shop.svc.cluster.local. AAAA",
            "web.shop.svc.cluster.local. MX",
            "_http._tcp.web.shop.svc.cluster.local. SRV",
            "_http._udp.web.shop.svc.cluster.local. SRV",
            "docs.shop.svc.cluster.local. A",
            "shop.shop.svc.cluster.local. A",
        ],
        expect![[r#"
            kubernetes.default.svc.cluster.local. A: No Error
              kubernetes.default.svc.cluster.local. 5 A 10.43.0.1
            Web.Shop.svc.cluster.local. A: No Error
              Web.Shop.svc.cluster.local. 5 A 10.43.0.7
            web.shop.svc.cluster.local. AAAA: No Error
              web.shop.svc.cluster.local. 5 AAAA fd00:43::7
            web.shop.svc.cluster.local. MX: No Error
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            _http._tcp.web.shop.svc.cluster.local. SRV: No Error
              _http._tcp.web.shop.svc.cluster.local. 5 SRV 0 100 80 web.shop.svc.cluster.local.
              with web.shop.svc.cluster.local. 5 A 10.43.0.7
              with web.shop.svc.cluster.local. 5 AAAA fd00:43::7
            _http._udp.web.shop.svc.cluster.local. SRV: Non-Existent Domain
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            docs.shop.svc.cluster.local. A: No Error
              docs.shop.svc.cluster.local. 5 CNAME docs.example.com.
              and docs.example.com. upstream
            shop.shop.svc.cluster.local. A: No Error
              shop.shop.svc.cluster.local. 5 CNAME web.shop.svc.cluster.local.
              web.shop.svc.cluster.local. 5 A 10.43.0.7
        "#]],
    )
    .await;
}

#[tokio::test]
async fn headless_services_and_pods() {
    answers(
        &[
            "db.shop.svc.cluster.local. A",
            "db.shop.svc.cluster.local. AAAA",
            "db-0.db.shop.svc.cluster.local. A",
            "db-2.db.shop.svc.cluster.local. A",
            "10-42-1-6.db.shop.svc.cluster.local. A",
            "_sql._tcp.db.shop.svc.cluster.local. SRV",
            "empty.shop.svc.cluster.local. A",
            "10-42-0-5.shop.pod.cluster.local. A",
            "10-42-0-5.nowhere.pod.cluster.local. A",
        ],
        expect![[r#"
            db.shop.svc.cluster.local. A: No Error
              db.shop.svc.cluster.local. 5 A 10.42.0.5
              db.shop.svc.cluster.local. 5 A 10.42.1.6
            db.shop.svc.cluster.local. AAAA: No Error
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            db-0.db.shop.svc.cluster.local. A: No Error
              db-0.db.shop.svc.cluster.local. 5 A 10.42.0.5
            db-2.db.shop.svc.cluster.local. A: Non-Existent Domain
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            10-42-1-6.db.shop.svc.cluster.local. A: No Error
              10-42-1-6.db.shop.svc.cluster.local. 5 A 10.42.1.6
            _sql._tcp.db.shop.svc.cluster.local. SRV: No Error
              _sql._tcp.db.shop.svc.cluster.local. 5 SRV 0 100 5432 10-42-1-6.db.shop.svc.cluster.local.
              _sql._tcp.db.shop.svc.cluster.local. 5 SRV 0 100 5432 db-0.db.shop.svc.cluster.local.
              with 10-42-1-6.db.shop.svc.cluster.local. 5 A 10.42.1.6
              with db-0.db.shop.svc.cluster.local. 5 A 10.42.0.5
            empty.shop.svc.cluster.local. A: No Error
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            10-42-0-5.shop.pod.cluster.local. A: No Error
              10-42-0-5.shop.pod.cluster.local. 5 A 10.42.0.5
            10-42-0-5.nowhere.pod.cluster.local. A: Non-Existent Domain
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_ours() {
    answers(
        &[
            "example.com.shop.svc.cluster.local. A",
            "example.com.svc.cluster.local. A",
            "example.com.cluster.local. A",
            "shop.svc.cluster.local. A",
            "nowhere.svc.cluster.local. A",
            "cluster.local. SOA",
            "cluster.local. NS",
            "dns-version.cluster.local. TXT",
            "7.0.43.10.in-addr.arpa. PTR",
            "5.0.42.10.in-addr.arpa. PTR",
            "9.9.9.9.in-addr.arpa. PTR",
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.0.0.0.0.d.f.ip6.arpa. PTR",
            "n1. A",
            "example.com. A",
            "cluster.local. ANY",
            "cluster.local. AXFR",
        ],
        expect![[r#"
            example.com.shop.svc.cluster.local. A: Non-Existent Domain
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            example.com.svc.cluster.local. A: Non-Existent Domain
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            example.com.cluster.local. A: Non-Existent Domain
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            shop.svc.cluster.local. A: No Error
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            nowhere.svc.cluster.local. A: Non-Existent Domain
              authority cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            cluster.local. SOA: No Error
              cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
            cluster.local. NS: No Error
              cluster.local. 5 NS ns.dns.cluster.local.
              with ns.dns.cluster.local. 5 A 10.43.0.10
            dns-version.cluster.local. TXT: No Error
              dns-version.cluster.local. 5 TXT 1.1.0
            7.0.43.10.in-addr.arpa. PTR: No Error
              7.0.43.10.in-addr.arpa. 5 PTR web.shop.svc.cluster.local.
            5.0.42.10.in-addr.arpa. PTR: No Error
              5.0.42.10.in-addr.arpa. 5 PTR db-0.db.shop.svc.cluster.local.
            9.9.9.9.in-addr.arpa. PTR: upstream
            7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.0.0.0.0.d.f.ip6.arpa. PTR: No Error
              7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.0.0.0.0.d.f.ip6.arpa. 5 PTR web.shop.svc.cluster.local.
            n1. A: No Error
              n1. 5 A 192.0.2.1
            example.com. A: upstream
            cluster.local. ANY: Not Implemented
            cluster.local. AXFR: Query Refused
        "#]],
    )
    .await;
}

#[tokio::test]
async fn bad_queries_are_answered_in_kind() {
    let zone = zone().await;
    let code = |bytes: &[u8]| match reply(bytes, Some(&zone)) {
        Reply::Ready(reply) => Some(reply.metadata.response_code),
        _ => None,
    };
    let good = query("web.shop.svc.cluster.local.", RecordType::A);
    assert_eq!(code(&good.to_vec().unwrap()[..20]), Some(ResponseCode::FormErr));
    assert_eq!(code(&[0; 3]), None);
    let mut two = good.clone();
    two.add_query(good.queries[0].clone());
    assert_eq!(code(&two.to_vec().unwrap()), Some(ResponseCode::FormErr));
    let mut response = good.clone();
    response.metadata.message_type = MessageType::Response;
    assert_eq!(code(&response.to_vec().unwrap()), None);
    let bytes = good.to_vec().unwrap();
    let Reply::Ready(early) = reply(&bytes, None) else { panic!() };
    assert_eq!(early.metadata.response_code, ResponseCode::ServFail, "before all names are known");
    // A pointer to itself as name.
    let mut looped = bytes[..12].to_vec();
    looped.extend([0xc0, 12, 0, 1, 0, 1]);
    assert_eq!(code(&looped), Some(ResponseCode::FormErr));
}

/// An upstream resolver that knows 60 addresses of every name.
async fn upstream() -> (SocketAddr, tokio::task::JoinSet<()>) {
    fn answer(bytes: &[u8]) -> Vec<u8> {
        let query = Message::from_vec(bytes).unwrap();
        let mut answer = query.clone().into_response();
        let name = query.queries[0].name().clone();
        for n in 0..60 {
            let data = RData::A(hickory_proto::rr::rdata::A([203, 0, 113, n].into()));
            answer.add_answer(Record::from_rdata(name.clone(), 300, data));
        }
        answer.to_vec().unwrap()
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = datagrams.local_addr().unwrap();
    let streams = TcpListener::bind(address).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer).await {
            datagrams.send_to(&answer(&buffer[..length]), from).await.unwrap();
        }
    });
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = streams.accept().await {
            let mut query = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut query).await.unwrap();
            let answer = answer(&query);
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (address, tasks)
}

async fn ask(server: SocketAddr, query: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&query.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await;
    Message::from_vec(&buffer[..received.unwrap().unwrap()]).unwrap()
}

async fn ask_stream(server: SocketAddr, query: &Message) -> Message {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let bytes = query.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

#[tokio::test]
async fn the_server_answers_follows_the_api_and_asks_upstream() {
    let (upstream, _upstream) = upstream().await;
    let cluster = cluster();
    let config = Config {
        domain: "cluster.local".to_owned(),
        addresses: vec!["127.0.0.1".parse().unwrap()],
        port: 0,
        upstreams: vec![upstream],
    };
    let sockets = bound(&config).await;
    let server = sockets[0].address().unwrap();
    let token = CancellationToken::new();
    let serving = serve(cluster.informers(), &config, sockets, token.clone());
    let script = async {
        let web = query("web.shop.svc.cluster.local.", RecordType::A);
        // Until the names are known the answer is to try again.
        while ask(server, &web).await.metadata.response_code == ResponseCode::ServFail {}
        for answer in [ask(server, &web).await, ask_stream(server, &web).await] {
            assert_eq!((answer.metadata.id, answer.metadata.response_code), (7, ResponseCode::NoError));
            assert_eq!(answer.answers.len(), 1);
        }

        let outside = query("example.com.", RecordType::A);
        let cut = ask(server, &outside).await;
        assert!(cut.metadata.truncation && cut.metadata.id == 7, "512 bytes don't hold 60 addresses");
        assert_eq!(ask_stream(server, &outside).await.answers.len(), 60);
        let mut larger = outside.clone();
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        larger.set_edns(edns);
        assert_eq!(ask(server, &larger).await.answers.len(), 60);
        let alias = ask_stream(server, &query("docs.shop.svc.cluster.local.", RecordType::A)).await;
        assert_eq!(alias.answers.len(), 61, "the alias and what it stands for");

        let late = query("late.shop.svc.cluster.local.", RecordType::A);
        assert_eq!(ask(server, &late).await.metadata.response_code, ResponseCode::NXDomain);
        let object = json!({"metadata": {"namespace": "shop", "name": "late"}, "spec": {"clusterIPs": ["10.43.0.99"]}});
        cluster.put(&resource_of::<ApiService>(), object);
        while ask(server, &late).await.answers.is_empty() {}
        token.cancel();
    };
    futures::future::join(serving, script).await;
}

/// Sockets at a port that is free: the one that the kernel chooses for datagrams may be taken for streams.
async fn bound(config: &Config) -> Vec<Sockets> {
    loop {
        match bind(config).await {
            Err(Error::Bind { source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse => {}
            bound => return bound.unwrap(),
        }
    }
}

#[tokio::test]
async fn an_upstream_that_asks_us_in_turn_ends_with_one_question() {
    let cluster = cluster();
    let mut config = Config {
        domain: "cluster.local".to_owned(),
        addresses: vec!["127.0.0.1".parse().unwrap()],
        port: 0,
        upstreams: Vec::new(),
    };
    let sockets = bound(&config).await;
    let server = sockets[0].address().unwrap();
    config.upstreams = vec![server];
    let token = CancellationToken::new();
    let serving = serve(cluster.informers(), &config, sockets, token.clone());
    let script = async {
        let web = query("web.shop.svc.cluster.local.", RecordType::A);
        while ask(server, &web).await.metadata.response_code == ResponseCode::ServFail {}
        let looped = ask(server, &query("example.com.", RecordType::A)).await;
        assert_eq!(looped.metadata.response_code, ResponseCode::ServFail);
        token.cancel();
    };
    futures::future::join(serving, script).await;
}

#[test]
fn resolv_conf_names_resolvers_but_not_ourselves() {
    let text = "# comment\nsearch example.com\nnameserver 192.0.2.53\nnameserver 10.43.0.10\nnameserver nonsense\n";
    let own = ["10.43.0.10".parse().unwrap()];
    assert_eq!(upstreams(text, &own), ["192.0.2.53:53".parse().unwrap()]);
}
