//! An application as people write it, on a cluster of several nodes: that its parts find each other, that unchanged
//! clients can do with it what they do elsewhere, and that it outlives its nodes' bad days.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use futures::AsyncBufReadExt as _;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::api::{AttachParams, DynamicObject, ListParams, LogParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::Discovery;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource, ResourceExt};
use linux::namespaces::{self, Kind};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::image;
use crate::user::{Runtime, User, has};

const IMAGE: &str = "example.com/shop:1";
const MANIFESTS: &str = include_str!("application/shop.yaml");
/// How long one thing may take on a machine that is busy with others.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A user's cluster with the application on it.
struct Shop<'a> {
    user: &'a User,
    cluster: String,
    client: Client,
}

#[test]
fn an_application_lives_on_native_nodes() {
    let Some(user) = User::of(Runtime::Native) else { return };
    lives(&user, 2);
}

#[test]
fn an_application_lives_on_docker_nodes() {
    let Some(user) = User::of(Runtime::Docker) else { return };
    lives(&user, 2);
}

/// The whole story, on a cluster with this many agents.
fn lives(user: &User, agents: usize) {
    if !has("busybox", image::has_its_parts()) {
        return;
    }
    _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = user.cluster("shop");
    let (runtime, count) = (user.runtime().name(), agents.to_string());
    user.expect(0, &["cluster", "create", &cluster, "--runtime", runtime, "--agents", &count, "--timeout", "120s"]);
    if user.runtime() == Runtime::Native {
        pass_frames_by(user, &cluster);
    }
    let archive = user.home().join("shop.tar");
    image::write(&archive, IMAGE);
    user.expect(0, &["image", "import", archive.to_str().unwrap(), "--cluster", &cluster]);

    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    executor.block_on(async {
        let shop = Shop { client: client(user).await, user, cluster };
        shop.opens().await;
        shop.is_spread_over(agents + 1).await;
        shop.is_found_from_everywhere().await;
        shop.has_its_settings().await;
        shop.is_cared_for().await;
        shop.survives_the_death_of_every_server_and_agent().await;
        shop.survives_a_stop().await;
    });
}

/// Lets the bridge between the nodes pass frames without asking the IP layer, as on hosts without br_netfilter: Services
/// must not need it.
fn pass_frames_by(user: &User, cluster: &str) {
    let network = std::fs::File::open(user.data().join("clusters").join(cluster).join("netns")).unwrap();
    // A thread of its own, which is in that network to its end.
    let done = std::thread::spawn(move || {
        namespaces::enter(network.as_fd(), Kind::Network).unwrap();
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0")
    });
    match done.join().unwrap() {
        // Without br_netfilter it is so anyway.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

/// As kubectl connects: by the kubeconfig that the user was given.
pub(crate) async fn client(user: &User) -> Client {
    let kubeconfig = Kubeconfig::read_from(user.home().join("kubeconfig")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// What must not change of a pod.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    uid: String,
    address: String,
    node: String,
    restarts: i32,
    /// When PID 1 of the pod was started, in ticks since the kernel was.
    started: String,
}

impl Shop<'_> {
    fn api<K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>>(&self) -> Api<K> {
        Api::default_namespaced(self.client.clone())
    }

    /// Applies the manifests and waits until everything in them is there.
    async fn opens(&self) {
        let discovery = Discovery::new(self.client.clone()).run().await.unwrap();
        for document in MANIFESTS.split("\n---\n") {
            let value: Value = serde_saphyr::from_str(document).unwrap();
            let object: DynamicObject = serde_json::from_value(value).unwrap();
            let types = object.types.clone().unwrap();
            let kind = kube::core::GroupVersionKind::try_from(types).unwrap();
            let (resource, _) = discovery.resolve_gvk(&kind).unwrap();
            let api: Api<DynamicObject> = Api::default_namespaced_with(self.client.clone(), &resource);
            api.patch(&object.name_any(), &PatchParams::apply("test"), &Patch::Apply(&object)).await.unwrap();
        }
        self.web_is_complete(3).await;
        until(&self.api::<StatefulSet>(), "db", "ready", |it| {
            it.status.as_ref().is_some_and(|it| it.ready_replicas == Some(2))
        })
        .await;
        for job in ["buyers", "reader"] {
            let done = until(&self.api::<Job>(), job, "over", |it| {
                let conditions = it.status.iter().flat_map(|it| it.conditions.iter().flatten());
                conditions.into_iter().any(|it| (it.type_ == "Complete" || it.type_ == "Failed") && it.status == "True")
            })
            .await;
            let status = done.status.unwrap();
            assert!(status.completion_time.is_some(), "{job} failed: {}", self.log_of_job(job).await);
        }
    }

    /// Waits until the newest template runs as often as it should, and nothing else does.
    async fn web_is_complete(&self, replicas: i32) {
        until(&self.api::<Deployment>(), "web", "rolled out", |it| {
            let Some(status) = &it.status else { return false };
            status.observed_generation == it.metadata.generation
                && status.updated_replicas == Some(replicas)
                && status.replicas == Some(replicas)
                && status.available_replicas == Some(replicas)
        })
        .await;
    }

    async fn log_of_job(&self, job: &str) -> String {
        let mut text = String::new();
        for pod in self.pods(&format!("job-name={job}")).await {
            text += &self.api::<Pod>().logs(&pod.name_any(), &LogParams::default()).await.unwrap_or_default();
        }
        text
    }

    async fn pods(&self, selector: &str) -> Vec<Pod> {
        let mut pods = self.api::<Pod>().list(&ListParams::default().labels(selector)).await.unwrap().items;
        // Those of an older template may still be on their way out.
        pods.retain(|it| it.metadata.deletion_timestamp.is_none());
        pods
    }

    async fn is_spread_over(&self, nodes: usize) {
        let web = self.pods("app=web").await;
        let used: BTreeSet<String> = web.into_iter().filter_map(|it| it.spec?.node_name).collect();
        assert_eq!(used.len(), nodes.min(3), "{used:?}");
    }

    async fn is_found_from_everywhere(&self) {
        let web = self.pods("app=web").await;
        for from in &web {
            for to in &web {
                let page = format!("http://{}:8080/cgi-bin/name", address(to));
                let (found, code) = self.exec(&from.name_any(), &["wget", "-q", "-O", "-", &page]).await;
                assert_eq!((found.trim(), code), (to.name_any().as_str(), 0), "from {}", from.name_any());
            }
            let (found, code) = self.exec(&from.name_any(), &["wget", "-q", "-O", "-", "http://web"]).await;
            assert_eq!((found.trim(), code), ("hello from the shop in green", 0), "from {}", from.name_any());
        }
        let nodes: Api<Node> = Api::all(self.client.clone());
        for node in nodes.list(&ListParams::default()).await.unwrap() {
            let addresses = node.status.unwrap().addresses.unwrap();
            let internal = addresses.into_iter().find(|it| it.type_ == "InternalIP").unwrap();
            self.answers(&internal.address, 30080).await;
        }
        let balanced =
            until(&self.api::<Service>(), "web-balanced", "given an address", |it| !ingress(it).is_empty()).await;
        for address in ingress(&balanced) {
            self.answers(&address, 8088).await;
        }
    }

    /// The front page, as somebody outside of the cluster reads it.
    async fn answers(&self, address: &str, port: u16) {
        let there = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match read_page(there) {
                Ok(page) if page.contains("hello from the shop in green") => return,
                other => assert!(Instant::now() < deadline, "{there}: {other:?}"),
            }
            // A node's rules follow the Service, which says nowhere that they did.
            tokio::time::sleep_until((Instant::now() + Duration::from_millis(50)).into()).await;
        }
    }

    async fn has_its_settings(&self) {
        for pod in self.pods("app=web").await {
            let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
            let told = self.exec(&pod.name_any(), &["sh", "-c", "cat /keys/password; echo \" $PASSWORD $NODE\""]).await;
            assert_eq!(told, (format!("correct horse correct horse {node}\n"), 0));
            assert_eq!(self.exec(&pod.name_any(), &["sh", "-c", "touch /keys/own || exit 7"]).await.1, 7);
        }
    }

    /// What people do with it: follow logs, forward ports, scale, roll out and back, ask what they may.
    async fn is_cared_for(&self) {
        let pods: Api<Pod> = self.api();
        let talker: Pod = serde_json::from_value(json!({
            "metadata": {"name": "talker"},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "talker", "image": IMAGE,
                     "command": ["sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.1; done; exit 3"]}]},
        }))
        .unwrap();
        pods.create(&Default::default(), &talker).await.unwrap();
        until(&pods, "talker", "started", |it| phase(it) != "Pending").await;
        let follow = LogParams { follow: true, ..LogParams::default() };
        let mut log = pods.log_stream("talker", &follow).await.unwrap().lines();
        let mut lines = Vec::new();
        while let Some(line) = futures::TryStreamExt::try_next(&mut log).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines, ["line 1", "line 2", "line 3"]);
        let over = until(&pods, "talker", "over", |it| phase(it) == "Failed").await;
        let over = serde_json::to_value(over).unwrap();
        assert_eq!(over["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 3);

        for pod in self.pods("app=web").await {
            let mut forwarded = pods.portforward(&pod.name_any(), &[8080]).await.unwrap();
            let mut port = forwarded.take_stream(8080).unwrap();
            port.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
            let mut page = String::new();
            port.read_to_string(&mut page).await.unwrap();
            assert!(page.contains("hello from the shop"), "{page}");
        }

        let deployments: Api<Deployment> = self.api();
        let scale = |replicas: i32| json!({"spec": {"replicas": replicas}});
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(scale(5))).await.unwrap();
        self.web_is_complete(5).await;
        deployments.patch_scale("web", &PatchParams::default(), &Patch::Merge(scale(3))).await.unwrap();
        self.web_is_complete(3).await;

        let before = deployments.get("web").await.unwrap().spec.unwrap().template;
        let change = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "web", "env": [{"name": "EDITION", "value": "second"}]}]}}}});
        deployments.patch("web", &PatchParams::default(), &Patch::Strategic(change)).await.unwrap();
        self.web_is_complete(3).await;
        for pod in self.pods("app=web").await {
            assert_eq!(self.exec(&pod.name_any(), &["sh", "-c", "echo $EDITION"]).await.0, "second\n");
        }
        let back = json!({"spec": {"template": before}});
        deployments.patch("web", &PatchParams::default(), &Patch::Merge(back)).await.unwrap();
        self.web_is_complete(3).await;
        let revision = deployments.get("web").await.unwrap();
        assert_eq!(revision.annotations()["deployment.kubernetes.io/revision"], "3");

        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let question = json!({"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}});
        let answer = reviews.create(&Default::default(), &serde_json::from_value(question).unwrap()).await.unwrap();
        assert!(answer.status.unwrap().allowed);
    }

    async fn survives_the_death_of_every_server_and_agent(&self) {
        self.exec("db-0", &["sh", "-c", "echo kept >/data/kept"]).await;
        let before = self.facts().await;
        let renewed = self.renewals().await;
        let processes = self.servers_and_agents();
        assert!(processes.len() > self.nodes().await.len() - 1, "{processes:?}");
        for process in processes {
            kill_process(Pid::from_raw(process).unwrap(), Signal::KILL).unwrap();
        }
        self.is_back(&renewed).await;
        assert_eq!(self.facts().await, before);
        self.is_found_from_everywhere().await;
    }

    async fn survives_a_stop(&self) {
        let before = self.facts().await;
        let renewed = self.renewals().await;
        let known = self.user.kubeconfig();
        self.user.expect(0, &["cluster", "stop", &self.cluster]);
        self.user.expect(0, &["cluster", "start", &self.cluster, "--timeout", "120s"]);
        assert_eq!(self.user.kubeconfig(), known);
        self.is_back(&renewed).await;
        for (name, old) in &before {
            // The processes ended with their node: one start more, and nothing else is new.
            let again = |it: &Pod| restarts(it) > old.restarts && ready(it);
            let pod = until(&self.api::<Pod>(), name, "started again", again).await;
            let same = (pod.uid().unwrap(), address(&pod), restarts(&pod));
            assert_eq!(same, (old.uid.clone(), old.address.clone(), old.restarts + 1), "{name}");
        }
        assert_eq!(self.exec("db-0", &["cat", "/data/kept"]).await, ("kept\n".to_owned(), 0));
        self.is_found_from_everywhere().await;
    }

    /// The long-lived pods.
    async fn facts(&self) -> BTreeMap<String, Facts> {
        let mut facts = BTreeMap::new();
        for pod in self.pods("app in (web, db)").await {
            let (started, _) = self.exec(&pod.name_any(), &["cut", "-d ", "-f22", "/proc/1/stat"]).await;
            let fact = Facts {
                uid: pod.uid().unwrap(),
                address: address(&pod),
                node: pod.spec.as_ref().unwrap().node_name.clone().unwrap(),
                restarts: restarts(&pod),
                started,
            };
            facts.insert(pod.name_any(), fact);
        }
        assert_eq!(facts.len(), 5);
        facts
    }

    async fn nodes(&self) -> Vec<String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect()
    }

    fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), "kube-node-lease")
    }

    /// When each node was last heard of.
    async fn renewals(&self) -> BTreeMap<String, Value> {
        let mut renewals = BTreeMap::new();
        for node in self.nodes().await {
            let lease = self.leases().get(&node).await.unwrap();
            renewals.insert(node, json!(lease.spec.unwrap().renew_time));
        }
        renewals
    }

    /// Waits until the API answers and each node was heard of since `renewed`.
    async fn is_back(&self, renewed: &BTreeMap<String, Value>) {
        let deadline = Instant::now() + PATIENCE;
        while let Err(why) = self.client.apiserver_version().await {
            assert!(Instant::now() < deadline, "the API does not answer: {why}");
            tokio::time::sleep_until((Instant::now() + Duration::from_millis(50)).into()).await;
        }
        for (node, before) in renewed {
            until(&self.leases(), node, "heard of", |it| {
                it.spec.as_ref().is_some_and(|it| json!(it.renew_time) != *before)
            })
            .await;
        }
        self.web_is_complete(3).await;
    }

    /// The processes of this cluster's nodes that are k3rs, but neither its PID 1 nor shims.
    fn servers_and_agents(&self) -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|it| it.file_name().to_str()?.parse::<i32>().ok());
        let own = format!("k3rs-{}-", self.cluster);
        pids.filter(|pid| {
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&str> = words.split('\0').collect();
            matches!(words[..], ["/bin/k3rs", "server" | "agent", ..]) && words.iter().any(|it| it.starts_with(&own))
        })
        .collect()
    }

    /// What the command wrote, and its exit code.
    async fn exec(&self, pod: &str, command: &[&str]) -> (String, i32) {
        let streams = AttachParams::default().stderr(false);
        let mut process = self.api::<Pod>().exec(pod, command.iter().copied(), &streams).await.unwrap();
        let mut output = String::new();
        process.stdout().unwrap().read_to_string(&mut output).await.unwrap();
        let status = process.take_status().unwrap().await.unwrap();
        let code = match status.status.as_deref() {
            Some("Success") => 0,
            _ => {
                let causes = status.details.clone().and_then(|it| it.causes).unwrap_or_default();
                let code = causes.iter().find(|it| it.reason.as_deref() == Some("ExitCode"));
                code.and_then(|it| it.message.as_ref()?.parse().ok()).unwrap_or_else(|| panic!("{status:?}"))
            }
        };
        (output, code)
    }
}

fn read_page(there: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&there, Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    connection.read_to_string(&mut page)?;
    Ok(page)
}

/// Waits until the object is there and `condition` holds.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, condition: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let waiting = await_condition(api.clone(), name, |it: Option<&K>| it.is_some_and(&condition));
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(found) => found.unwrap().expect("the condition asks for an object"),
        Err(_) => panic!("{name} is not {what} after {PATIENCE:?}: {:#?}", api.get_opt(name).await),
    }
}

fn ingress(service: &Service) -> Vec<String> {
    let balancer = service.status.as_ref().and_then(|it| it.load_balancer.as_ref());
    balancer.iter().flat_map(|it| it.ingress.iter().flatten()).filter_map(|it| it.ip.clone()).collect()
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or_default()
}

fn address(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|it| it.pod_ip.clone()).unwrap_or_default()
}

pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
    statuses.into_iter().map(|it| it.restart_count).sum()
}

pub(crate) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}
