//! An agent beside a server without a node: it waits for its server, is let in or not, runs pods over the wire, and
//! starts again while the server is away.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request, StatusCode};
use k3rs::agent::{self, Agent, ServerUrl};
use k3rs::tokens::{Token, ca_hash};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{DeleteParams, LogParams};
use kube::client::Body;
use kube::{Api, Client};
use rcgen::{CertificateParams, KeyPair};

use crate::world::{self, AGENT_IP, NODE, NODE_IP, World, gone, until};
use crate::{exchange, node_is_ready, pod, pod_address, ready};

const SECRET: &str = "s3cret";
const AGENT_SECRET: &str = "for-agents";
/// Where a node's password is kept by the cluster.
const PASSWORD: &str = "n1.node-password.k3s";

pub(crate) async fn an_agent_joins_and_works(directory: &Path) {
    let (of_server, of_agent) = (directory.join("server"), directory.join("agent"));
    std::fs::create_dir_all(&of_server).unwrap();
    world::save_image(&of_agent);
    let server = || {
        let options = world::options(&of_server);
        let (token, agent_token) = (Some(SECRET.to_owned()), Some(AGENT_SECRET.to_owned()));
        World::of(k3rs::server::Options { token, agent_token, ..options }, &of_agent)
    };
    let agent = |secret: &str| {
        Agent::start(agent::Options {
            data_dir: of_agent.clone(),
            server: ServerUrl::parse(&format!("https://{NODE_IP}:6443")).unwrap(),
            token: Token::parse(secret).unwrap(),
            node: world::node_options(&of_agent, AGENT_IP),
        })
    };

    // The agent is there before its server.
    let (world, running) = tokio::join!(server(), agent(AGENT_SECRET));
    let running = running.unwrap();
    node_is_ready(&world).await;
    only_who_may_join_is_let_in(&of_server).await;
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    let web = a_pod_serves(&pods, "web").await;
    kubelets_are_reached_without_an_address(&pods).await;

    // Both go. The agent comes back first, by what it has on disk, and with the full token from now on.
    running.stop().await;
    world.server.stop().await.unwrap();
    let full = format!("K10{}::server:{SECRET}", ca_hash(&authority(&of_server)));
    let running = agent(&full).await.unwrap();
    assert_eq!(exchange::fetch(pod_address(&web)).unwrap(), "web");
    let world = server().await;
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    a_pod_serves(&pods, "after").await;
    let same = pods.get("web").await.unwrap();
    assert_eq!((same.metadata.uid.clone(), pod_address(&same)), (web.metadata.uid.clone(), pod_address(&web)));

    for name in ["web", "after"] {
        let uid = pods.get(name).await.unwrap().metadata.uid.unwrap();
        pods.delete(name, &DeleteParams::default().grace_period(1)).await.unwrap();
        gone(&pods, name, &uid).await;
    }
    running.stop().await;
    the_name_of_a_deleted_node_is_free(&world.client).await;
    world.server.stop().await.unwrap();
}

async fn a_pod_serves(pods: &Api<Pod>, name: &str) -> Pod {
    pods.create(&Default::default(), &pod(name, &["serve", "8080"])).await.unwrap();
    let served = until(pods, name, "Ready", ready).await;
    crate::world::eventually("the pod's answer", || exchange::fetch(pod_address(&served)).is_ok_and(|it| it == name))
        .await;
    served
}

/// Logs come through the agent's own connection: its address leads nowhere meanwhile.
async fn kubelets_are_reached_without_an_address(pods: &Api<Pod>) {
    world::without_agent_ip(async {
        let log = tokio::time::timeout(Duration::from_secs(20), pods.logs("web", &LogParams::default())).await;
        assert_eq!(log.expect("the kubelet is reached").unwrap(), "");
    })
    .await;
    assert_eq!(pods.logs("web", &LogParams::default()).await.unwrap(), "");
}

async fn the_name_of_a_deleted_node_is_free(client: &Client) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let uid = secrets.get(PASSWORD).await.unwrap().metadata.uid.unwrap();
    Api::<Node>::all(client.clone()).delete(NODE, &DeleteParams::default()).await.unwrap();
    gone(&secrets, PASSWORD, &uid).await;
}

fn authority(of_server: &Path) -> String {
    std::fs::read_to_string(of_server.join("server/tls/server-ca.crt")).unwrap()
}

/// What the server says to those who are no agents of it, or not the one that they say they are.
async fn only_who_may_join_is_let_in(of_server: &Path) {
    let ask = async |credentials: &str, request: Request<Vec<u8>>| answer(of_server, credentials, request).await;
    let get = |path: &str| Request::get(path).body(Vec::new()).unwrap();
    let config = "/v1-k3s/config";
    assert_eq!(ask("", get("/ping")).await, (StatusCode::OK, "pong".to_owned()));
    assert_eq!(ask("", get("/cacerts")).await, (StatusCode::OK, authority(of_server)));
    for good in [AGENT_SECRET, SECRET] {
        let (status, text) = ask(&format!("node:{good}"), get(config)).await;
        assert!(status == StatusCode::OK && text.contains("10.42.0.0/16"), "{text}");
    }
    for bad in ["", "node:", "node:wrong", "server:wrong", "admin:s3cret"] {
        assert_eq!(ask(bad, get(config)).await.0, StatusCode::UNAUTHORIZED, "{bad}");
    }
    assert_eq!(ask("server:s3cret", get(config)).await.0, StatusCode::FORBIDDEN);
    // The agents' secret is for joining, not for the API.
    assert_eq!(ask("node:for-agents", get("/api/v1/nodes")).await.0, StatusCode::UNAUTHORIZED);

    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
    let sign = |node: &str, address: &str, body: &[u8]| {
        let request = Request::builder().method(Method::POST).uri("/v1-k3s/serving-kubelet.crt");
        let request = request.header("k3s-node-name", node).header("k3s-node-password", "guessed");
        request.header("k3s-node-ip", address).body(body.to_vec()).unwrap()
    };
    let refused = async |request, code: u16, why: &str| {
        let (status, text) = ask("node:s3cret", request).await;
        assert!(status.as_u16() == code && text.contains(why), "{status} {text}");
    };
    refused(sign(NODE, "192.168.77.9", &request), 403, "belongs to another host").await;
    refused(sign("n9", &NODE_IP.to_string(), &request), 403, "the address of a server").await;
    refused(sign("kubernetes", "192.168.77.9", &request), 403, "the name of a server").await;
    refused(sign("no name", "192.168.77.9", &request), 400, "no name for a node").await;
    refused(sign("n9", "127.0.0.1", &request), 400, "addresses of the node").await;
    refused(sign("n9", "192.168.77.9", b"nonsense"), 400, "not a certificate request").await;
    refused(sign("n9", "192.168.77.9", &vec![0; 70_000]), 400, "at most 65536 bytes").await;
    let (status, text) = ask("node:s3cret", sign("n9", "192.168.77.9", &request)).await;
    assert!(status == StatusCode::OK && text.starts_with("-----BEGIN CERTIFICATE"), "{text}");
}

/// Asks as a program would that trusts the cluster's authority.
async fn answer(of_server: &Path, credentials: &str, mut request: Request<Vec<u8>>) -> (StatusCode, String) {
    let mut config = kube::Config::new(format!("https://{NODE_IP}:6443").parse().unwrap());
    let authority = k3rs::certificates::certificates(&authority(of_server));
    config.root_cert = Some(authority.iter().map(|it| it.to_vec()).collect());
    let client = Client::try_from(config).unwrap();
    if !credentials.is_empty() {
        let value = format!("Basic {}", STANDARD.encode(credentials));
        request.headers_mut().insert("authorization", value.parse().unwrap());
    }
    let response = client.send(request.map(Body::from)).await.unwrap();
    let status = response.status();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}
