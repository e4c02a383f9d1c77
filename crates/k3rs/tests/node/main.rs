//! A server with a node on a real kernel, as root, in a network of its own: what a user of the cluster sees of a pod's
//! life, over a restart of the server, and what is left when all pods are gone. Then the same node as an agent.
//!
//! ```text
//! streams   through the API server to a pod and back
//! pulling   an image that only a registry has
//! statics   a pod of a file, and the machine's end
//! claims    data that outlives its pods
//! joining   an agent, and whom the server lets in
//! external  another runtime in place of the node's own
//! world     the network, the image, the server, the ledger
//! payload   the program in the image: this binary under another name
//! exchange  a DNS query and a TCP reply, asked from pods and from the node alike
//! ```

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test binary, which clippy does not see without the usual harness"
)]

mod claims;
mod exchange;
mod external;
mod joining;
mod payload;
mod pulling;
mod statics;
mod streams;
mod world;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service, ServiceAccount};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use world::{DNS, IMAGE, NODE, World, eventually, gone, until};

/// The whole run takes seconds where the machine is idle.
const DEADLINE: Duration = Duration::from_secs(240);

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let words: Vec<&str> = arguments.iter().map(|it| it.to_str().unwrap_or_default()).collect();
    let code = match words[..] {
        [name, ..] if name.rsplit('/').next() == Some("payload") => payload::main(&words[1..]),
        _ => k3rs::cli::early(&arguments).unwrap_or_else(run),
    };
    std::process::exit(code);
}

/// Runs the case, unless this process may not make networks and containers.
fn run() -> i32 {
    if !rustix::process::geteuid().is_root() || linux::netns::create().is_err() {
        #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
        let required = std::env::var("K3RS_TEST_REQUIRE").is_ok_and(|it| it.contains("root"));
        eprintln!("SKIPPED: a node needs root");
        return i32::from(required);
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    rustls::crypto::ring::default_provider().install_default().unwrap();
    // Before there is a second thread: all that are started from here on are in the new network.
    let outside = world::enter_network();
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    executor.block_on(async {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let lived = pods_live_and_leave_nothing(directory.path().to_owned());
        tokio::time::timeout(DEADLINE, lived).await.expect("the case took too long");
        println!("test pods_live_and_leave_nothing ... ok");
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let joined = joining::an_agent_joins_and_works(directory.path());
        tokio::time::timeout(DEADLINE, joined).await.expect("the case took too long");
        println!("test an_agent_joins_and_works ... ok");
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let left = external::a_node_leaves_its_containers_to_another_runtime(directory.path());
        tokio::time::timeout(DEADLINE, left).await.expect("the case took too long");
        println!("test a_node_leaves_its_containers_to_another_runtime ... ok");
    });
    drop(outside);
    0
}

async fn pods_live_and_leave_nothing(directory: std::path::PathBuf) {
    world::save_image(&directory);
    let world = World::start(&directory).await;
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    node_is_ready(&world).await;
    let is_server = |node: &Node| node.metadata.labels.iter().flatten().any(|(key, _)| key.ends_with("/control-plane"));
    until(&Api::all(world.client.clone()), NODE, "marked as a server", is_server).await;
    let web = a_pod_answers(&world, &pods).await;
    let service = a_service_answers(&world).await;
    a_pod_sees_its_configuration_and_the_service(&world, &pods).await;
    streams::reach_the_pod(&world, &pods).await;

    let process = world.process_of("serve");
    world.server.stop().await.unwrap();
    assert_eq!(exchange::fetch(pod_address(&web)).unwrap(), "web", "pods outlive the server");
    let world = World::start(&directory).await;
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    // One more pod: the node agent works again, and has seen what runs.
    pods.create(&Default::default(), &pod("after", &["exit", "3"])).await.unwrap();
    let after = until(&pods, "after", "Failed", |it| phase(it) == "Failed").await;
    let state = serde_json::to_value(&after).unwrap();
    assert_eq!(state["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);
    let again = until(&pods, "web", "Ready again", ready).await;
    assert_eq!(container(&again), container(&web), "the same container, started as often");
    assert_eq!(world.process_of("serve"), process);
    eventually("the Service after the restart", || exchange::fetch(service).is_ok_and(|it| it == "web")).await;

    let mut uids = vec![pulling::a_pod_gets_its_image(&world, &pods).await];
    uids.push(statics::a_file_is_a_pod(&directory, &pods).await);
    uids.extend(claims::data_outlives_its_pods(&world, &pods, &directory).await);
    for name in ["web", "client", "after"] {
        let uid = pods.get(name).await.unwrap().metadata.uid.unwrap();
        pods.delete(name, &DeleteParams::default().grace_period(1)).await.unwrap();
        gone(&pods, name, &uid).await;
        uids.push(uid);
    }
    uids.push(statics::pods_end_before_the_machine(&world, &pods).await);
    eventually("an empty ledger", || world::ledger(&directory, &uids).is_empty()).await;
    world.server.stop().await.unwrap();
    assert_eq!(world::ledger(&directory, &uids), Vec::<String>::new(), "left behind");
}

async fn node_is_ready(world: &World) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    until(&nodes, NODE, "Ready", |node| {
        let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
        conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
    })
    .await;
    let accounts: Api<ServiceAccount> = Api::default_namespaced(world.client.clone());
    until(&accounts, "default", "made", |_| true).await;
}

async fn a_pod_answers(world: &World, pods: &Api<Pod>) -> Pod {
    let mut web = pod("web", &["serve", "8080"]);
    let readiness = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    web.spec.as_mut().unwrap().containers[0].readiness_probe = Some(serde_json::from_value(readiness).unwrap());
    pods.create(&Default::default(), &web).await.unwrap();
    let web = until(pods, "web", "Ready", ready).await;
    assert_eq!(phase(&web), "Running");
    assert_eq!(exchange::fetch(pod_address(&web)).unwrap(), "web");
    assert!(world.process_of("serve") > 1);
    web
}

/// Makes a Service of the pod; its address.
async fn a_service_answers(world: &World) -> SocketAddr {
    let services: Api<Service> = Api::default_namespaced(world.client.clone());
    let service = object(json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }));
    let service: Service = services.create(&Default::default(), &service).await.unwrap();
    let address: IpAddr = service.spec.unwrap().cluster_ip.unwrap().parse().unwrap();
    let service = SocketAddr::new(address, 80);
    eventually("the Service's answer", || exchange::fetch(service).is_ok_and(|it| it == "web")).await;
    let name = "web.default.svc.cluster.local";
    eventually("the Service's name", || exchange::resolve(DNS, name).is_ok_and(|it| it == address)).await;
    service
}

/// A pod that runs to its end and reports what it found in its environment, its volume and the network.
async fn a_pod_sees_its_configuration_and_the_service(world: &World, pods: &Api<Pod>) {
    let maps: Api<ConfigMap> = Api::default_namespaced(world.client.clone());
    let map = object(json!({"metadata": {"name": "settings"}, "data": {"colour": "green", "file": "in a file"}}));
    maps.create(&Default::default(), &map).await.unwrap();
    let mut client = serde_json::to_value(pod("client", &["report", "web.default.svc.cluster.local"])).unwrap();
    let container = &mut client["spec"]["containers"][0];
    container["env"] =
        json!([{"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}}]);
    container["volumeMounts"] = json!([{"name": "settings", "mountPath": "/settings"}]);
    client["spec"]["volumes"] = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
    pods.create(&Default::default(), &object(client)).await.unwrap();
    let client = until(pods, "client", "finished", |it| matches!(phase(it), "Succeeded" | "Failed")).await;
    let status = serde_json::to_value(&client.status).unwrap();
    let message = &status["containerStatuses"][0]["state"]["terminated"]["message"];
    assert_eq!((phase(&client), message), ("Succeeded", &json!("green; in a file; web")), "{status}");
}

/// A pod on the node, of one container that runs the payload with these words once.
fn pod(name: &str, words: &[&str]) -> Pod {
    object(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": NODE,
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": IMAGE, "args": words}],
        },
    }))
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or_default()
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// The id of the pod's container, and how often it was started anew.
fn container(pod: &Pod) -> (Option<String>, i32) {
    let status = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
    (status.container_id.clone(), status.restart_count)
}

fn pod_address(pod: &Pod) -> SocketAddr {
    let address = pod.status.as_ref().and_then(|it| it.pod_ip.as_deref()).expect("a pod that is Ready has an address");
    SocketAddr::new(address.parse().unwrap(), 8080)
}
