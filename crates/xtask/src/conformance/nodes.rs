//! Nodes that nobody runs: registered, alive by their Leases, and rid of their Pods as soon as those are deleted.
//!
//! What asks for Ready nodes but for no running Pod is tested with these on a bare server, in a fraction of the time.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use api::object::ObjectKey;
use client::clock::{Clock, SystemClock};
use client::informer::{Informer, Scope};
use client::lease::micro_time;
use client::patch::Patch;
use client::reconcile::{Action, Controller, own_key};
use client::remote::RemoteInformers;
use client::request::{Delete, RequestError, Requests};
use client::typed::{resource_of, scope_of};
use client::view::{Relations, View};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::programs::{PATIENCE, pause};

const NAMES: [&str; 2] = ["fake-0", "fake-1"];
const LEASES: &str = "kube-node-lease";
/// A quarter of the silence after which a node is taken for lost.
const RENEW: Duration = Duration::from_secs(10);

/// Two nodes; they fall silent when this is dropped.
pub(super) struct FakeNodes {
    token: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl FakeNodes {
    /// Registers the nodes at the server of `kubeconfig`, once it is ready.
    pub(super) fn start(kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(connect(kubeconfig))?;
        let requests = Requests::new(client.clone());
        for (index, name) in NAMES.iter().enumerate() {
            runtime
                .block_on(register(&requests, name, index))
                .with_context(|| format!("registering the node {name}"))?;
        }
        let token = CancellationToken::new();
        let stop = token.clone();
        let thread = std::thread::Builder::new().name("fake-nodes".to_owned()).spawn(move || {
            runtime.block_on(live(client, stop));
        })?;
        Ok(Self { token, thread: Some(thread) })
    }
}

impl Drop for FakeNodes {
    fn drop(&mut self) {
        self.token.cancel();
        // If it panicked, the tests that missed their nodes have told.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn connect(kubeconfig: &Path) -> Result<kube::Client> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&text)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    let client = kube::Client::try_from(config)?;
    let requests = Requests::new(client.clone());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // Namespaces are made after the server listens; Leases need theirs.
    let namespaces = api::resource::GroupVersionResource {
        group: String::new(),
        version: "v1".to_owned(),
        resource: "namespaces".to_owned(),
    };
    while requests.get(&namespaces, &ObjectKey::new("", LEASES)).await.is_err() {
        ensure!(tokio::time::Instant::now() < deadline, "the server is not ready");
        pause().await;
    }
    Ok(client)
}

/// Makes the node as its kubelet would.
async fn register(requests: &Requests, name: &str, index: usize) -> Result<(), RequestError> {
    let resource = resource_of::<Node>();
    let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    requests.create(&resource, "", &node).await?;
    let has = json!({"cpu": "16", "memory": "32Gi", "ephemeral-storage": "100Gi", "pods": "110"});
    let condition = |kind: &str, status: &str, reason: &str| {
        let now = client::events::time(jiff::Timestamp::now());
        json!({"type": kind, "status": status, "reason": reason, "message": "nobody runs this node",
               "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let info = json!({"architecture": "amd64", "bootID": name, "containerRuntimeVersion": "none://0",
        "kernelVersion": "0", "kubeProxyVersion": "", "kubeletVersion": "v1.36.3", "machineID": name,
        "operatingSystem": "linux", "osImage": "none", "systemUUID": name});
    let status = json!({
        "capacity": has,
        "allocatable": has,
        "addresses": [{"type": "InternalIP", "address": format!("192.0.2.{}", 10 + index)},
                      {"type": "Hostname", "address": name}],
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": info,
    });
    let patch = Patch::Merge(json!({"status": status}));
    requests.patch_sub(&resource, &ObjectKey::new("", name), "status", &patch).await?;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"namespace": LEASES, "name": name}, "spec": {"holderIdentity": name, "leaseDurationSeconds": 40}});
    requests.create(&resource_of::<Lease>(), LEASES, &lease).await.map(drop)
}

/// Does what is left of a kubelet's work without Pods, until `token` is cancelled.
async fn live(client: kube::Client, token: CancellationToken) {
    let (clock, tasks) = (SystemClock::shared(), TaskTracker::new());
    let informers = RemoteInformers::new(client.clone(), clock.clone(), tasks.clone(), token.clone());
    let requests = Requests::new(client);
    let renewals = NAMES.map(|name| renew(&requests, &*clock, name, &token));
    let removals = NAMES.map(|name| {
        let scope = Scope { fields: format!("spec.nodeName={name}"), ..scope_of::<Pod>() };
        remove_deleted(View::new(&*informers, scope), requests.clone(), clock.clone(), token.clone())
    });
    tokio::join!(futures::future::join_all(renewals), futures::future::join_all(removals));
    tasks.close();
    tasks.wait().await;
}

async fn renew(requests: &Requests, clock: &dyn Clock, name: &str, token: &CancellationToken) {
    let resource = resource_of::<Lease>();
    loop {
        let patch = Patch::Merge(json!({"spec": {"renewTime": micro_time(clock.now())}}));
        // A server that does not take it takes the next one.
        let _ = requests.patch(&resource, &ObjectKey::new(LEASES, name), &patch).await;
        tokio::select! {
            () = token.cancelled() => return,
            () = clock.after(RENEW) => {}
        }
    }
}

/// There is nothing to end: a Pod that is to go is gone.
async fn remove_deleted(view: View, requests: Requests, clock: Arc<dyn Clock>, token: CancellationToken) {
    let view = Arc::new(view);
    let controller = Controller::new("fake-node", clock).watch(&view, own_key);
    let reconcile = move |key: ObjectKey| {
        let (view, requests) = (view.clone(), requests.clone());
        async move {
            let Some(pod) = view.get(&key) else { return Ok(Action::Done) };
            if Relations::of(&pod).deletion_timestamp.is_none() {
                return Ok(Action::Done);
            }
            match requests.delete(&resource_of::<Pod>(), &key, &Delete::of(&pod.uid).grace(0)).await {
                Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
                _ => Ok(Action::Done),
            }
        }
    };
    controller.run(token, reconcile).await;
}
