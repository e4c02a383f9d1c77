//! A node whose containers another runtime runs. The other one is ours as well, behind a socket: what a kubelet and a
//! runtime say to each other over it is what is tried here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use containers::{LoopbackOnly, Runtime, Services, ShimProgram};
use cri::server::Server;
use cri::streaming::{Tasks, Urls, serve_url};
use k3rs::components::node::{self, external::Endpoints};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::DeleteParams;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::world::{self, IMAGE, NODE, NODE_IP, World, gone, until};
use crate::{node_is_ready, object, phase, pod, ready, streams};

pub(crate) async fn a_node_leaves_its_containers_to_another_runtime(directory: &Path) {
    let (of_node, of_runtime) = (directory.join("node"), directory.join("runtime"));
    std::fs::create_dir_all(&of_node).unwrap();
    std::fs::create_dir_all(&of_runtime).unwrap();
    let other = Other::open(&of_runtime).await;
    let serving = other.serve();

    let endpoints = Endpoints { runtime: other.socket.clone(), images: None };
    let node = node::Options { external: Some(endpoints), ..world::node_options(&of_node, NODE_IP) };
    let world = World::of(k3rs::server::Options { node: Some(node), ..world::options(&of_node) }, &of_runtime).await;
    node_is_ready(&world).await;
    let pods: Api<Pod> = Api::default_namespaced(world.client.clone());
    pods.create(&Default::default(), &pod("web", &["serve", "8080"])).await.unwrap();
    let web = until(&pods, "web", "Ready", ready).await;
    assert_eq!(web.spec.unwrap().containers[0].image.as_deref(), Some(IMAGE));
    streams::input_comes_back_whole_and_the_exit_code_after_it(&pods).await;
    assert!(!of_node.join("agent/containers").exists(), "the node's own runtime stays away");
    assert!(of_node.join("agent/etc/cni/net.d/10-flannel.conflist").exists(), "the other one is told of addresses");

    // The runtime goes, and comes back with what runs.
    drop(serving);
    std::fs::remove_file(&other.socket).unwrap();
    let nodes: Api<Node> = Api::all(world.client.clone());
    let told = |node: &Node, status: &str, message: &str| {
        let conditions = node.status.iter().flat_map(|it| it.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|it| it.type_ == "Ready" && it.status == status && it.message.as_deref() == Some(message))
    };
    until(&nodes, NODE, "without a runtime", |it| told(it, "False", "container runtime is down")).await;
    let serving = other.serve();
    until(&nodes, NODE, "Ready again", |it| told(it, "True", "kubelet is posting ready status")).await;
    let mut once = pod("once", &["exit", "3"]);
    // Whether the node is still marked as unready is the controllers' business.
    once.spec.as_mut().unwrap().tolerations = Some(vec![object(serde_json::json!({"operator": "Exists"}))]);
    pods.create(&Default::default(), &once).await.unwrap();
    until(&pods, "once", "Failed", |it| phase(it) == "Failed").await;

    for name in ["web", "once"] {
        let uid = pods.get(name).await.unwrap().metadata.uid.unwrap();
        pods.delete(name, &DeleteParams::default().grace_period(1)).await.unwrap();
        gone(&pods, name, &uid).await;
    }
    world.server.stop().await.unwrap();
    drop(serving);
    other.runtime.close().await;
}

/// The other runtime.
struct Other {
    runtime: Arc<Runtime>,
    socket: PathBuf,
}

impl Other {
    async fn open(directory: &Path) -> Self {
        let runtime = Runtime::open(containers::Config {
            root: directory.join("root"),
            state: directory.join("state"),
            owner: "other".to_owned(),
            cgroup_parent: "/".to_owned(),
            network: Arc::new(LoopbackOnly),
            shim: ShimProgram { path: PathBuf::from("/proc/self/exe"), arguments: vec![OsString::from(node::SHIM)] },
            remote: None,
        })
        .await
        .unwrap();
        world::save_image(directory);
        let archive = std::fs::File::open(directory.join("agent/images/payload.tar")).unwrap();
        runtime.images().import(archive).unwrap();
        Self { runtime, socket: directory.join("cri.sock") }
    }

    /// Serves it until what is returned is dropped.
    fn serve(&self) -> JoinSet<()> {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let services = Arc::new(Services(Arc::clone(&self.runtime)));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let (streams, urls) = Urls::listen().await.unwrap();
            let tasks = Tasks::default();
            let (runtime, images) = (services.clone(), services.clone());
            let server = Server { runtime, images, urls: Arc::clone(&urls), tasks: tasks.tracker.clone() };
            let mut connections = JoinSet::new();
            connections.spawn(serve_streams(streams, urls, services, tasks));
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = server.clone();
                connections.spawn(async move { server.serve(stream).await });
            }
        });
        serving
    }
}

async fn serve_streams(listener: TcpListener, urls: Arc<Urls>, services: Arc<Services>, tasks: Tasks) {
    let runtime: Arc<dyn api::cri::RuntimeService> = services;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (urls, runtime, tasks) = (Arc::clone(&urls), Arc::clone(&runtime), tasks.clone());
        connections.spawn(async move { serve_url(stream, &urls, &runtime, &tasks).await });
    }
}
