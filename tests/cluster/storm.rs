//! A node on bad days: its agent and its shims are killed at random while pods start and stop (faults 3 and 4). No pod
//! runs twice, who is not touched notices nothing, everybody gets the time to end that was promised, and when all pods
//! are gone the node is as it was before the first.
//!
//! What each pod did is in a file of the node with its uid as name, written by the pod itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, ResourceExt};
use linux::namespaces::{self, Kind};
use network::links::Links;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::application::{PATIENCE, client, phase, ready, restarts, until};
use crate::image;
use crate::user::{Runtime, User, has};

const IMAGE: &str = "example.com/box:1";
/// Kills of a run of the whole test suite; `cargo xtask faults` asks for more.
const KILLS: usize = 8;
/// A node starts its agent again after ten seconds at most, and is believed to be lost after fifty.
const HEARD_OF_EVERY: usize = 3;
/// Pods that come and go.
const SLOTS: usize = 6;
/// Pods that nobody touches.
const BYSTANDERS: usize = 2;
/// Where on the node the pods write.
const DIARIES: &str = "var/lib/diaries";
/// A lock is held as long as any process of a first life runs: a second beside it cannot have it. Ended by TERM it takes
/// a moment to tidy up, which its grace allows.
const LIFE: &str = r#"
    exec 9>>/diaries/$POD_UID
    flock -n 9 || { echo twice >>/diaries/$POD_UID; exit 9; }
    trap 'sleep 0.5; echo done >&9; exit 0' TERM
    echo start >&9
    touch /tmp/alive
    while :; do sleep 60 9>&- & wait $!; done
"#;

#[test]
fn a_node_keeps_its_promises_while_its_processes_are_killed() {
    let Some(user) = User::of(Runtime::Native) else { return };
    if !has("busybox", image::has_its_parts()) {
        return;
    }
    _ = rustls::crypto::ring::default_provider().install_default();
    let cluster = user.cluster("storm");
    user.expect(0, &["cluster", "create", &cluster, "--runtime", "native", "--agents", "1", "--timeout", "120s"]);
    let archive = user.home().join("box.tar");
    image::write(&archive, IMAGE);
    user.expect(0, &["image", "import", archive.to_str().unwrap(), "--cluster", &cluster]);
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    executor.block_on(async {
        let pods = Api::default_namespaced(client(&user).await);
        Storm { pods, node: Node::of(&cluster), dice: Dice::new(), lives: BTreeMap::new() }.rages(kills()).await;
    });
}

fn kills() -> usize {
    #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
    let stated = std::env::var("K3RS_TEST_KILLS").ok();
    stated.map_or(KILLS, |it| it.parse().unwrap())
}

struct Storm {
    pods: Api<Pod>,
    node: Node,
    dice: Dice,
    /// Pods that were not yet seen to be gone, and all that were, by uid.
    lives: BTreeMap<String, Life>,
}

struct Life {
    name: String,
    deleted: bool,
    gone: bool,
    /// Its shim was killed: then nobody can tell its processes to end.
    struck: bool,
}

impl Storm {
    async fn rages(mut self, kills: usize) {
        // A first pod leaves the groups in which the others' will be.
        let first = self.begin("first").await;
        until(&self.pods, "first", "Ready", ready).await;
        self.end(&first.uid().unwrap()).await;
        self.all_are_gone().await;
        let before = self.node.at_rest().await;
        let mut bystanders = BTreeMap::new();
        for index in 0..BYSTANDERS {
            let pod = self.begin(&format!("bystander-{index}")).await;
            until(&self.pods, &pod.name_any(), "Ready", ready).await;
            bystanders.insert(pod.name_any(), self.facts(&pod.name_any()).await);
        }
        for round in 0..kills {
            // Who is not heard of for long loses its pods, and rightly.
            if round % HEARD_OF_EVERY == 0 {
                self.node_is_heard_of().await;
            }
            self.someone_comes_or_goes(round).await;
            self.someone_comes_or_goes(round + kills).await;
            // Any instant may be the one: there is nothing to wait for.
            let moment = Duration::from_millis(self.dice.below(400) as u64);
            tokio::time::sleep_until((Instant::now() + moment).into()).await;
            if self.dice.below(3) > 0 || !self.strike() {
                kill(self.node.agent().await);
            }
        }
        self.everybody_runs().await;
        for (name, facts) in &bystanders {
            assert_eq!(self.facts(name).await, *facts, "{name} was not touched");
        }
        self.a_killed_shim_is_noticed(&bystanders).await;
        let uids: Vec<String> = self.lives.keys().cloned().collect();
        for uid in uids {
            self.end(&uid).await;
        }
        self.all_are_gone().await;
        self.diaries_are_in_order();
        let after = self.node.at_rest().await;
        let (more, less) = (after.difference(&before), before.difference(&after));
        let changed: Vec<String> = more.map(|it| format!("+{it}")).chain(less.map(|it| format!("-{it}"))).collect();
        assert!(changed.is_empty(), "seed {}: the node is not as it was:\n{}", self.dice.seed, changed.join("\n"));
    }

    async fn node_is_heard_of(&self) {
        let leases: Api<Lease> = Api::namespaced(self.pods.clone().into_client(), "kube-node-lease");
        let renewed = |it: &Lease| json!(it.spec.as_ref().and_then(|it| it.renew_time.clone()));
        let before = renewed(&leases.get(&self.node.name).await.unwrap());
        until(&leases, &self.node.name, "heard of", |it| renewed(it) != before).await;
    }

    /// A pod is made where there is place, or ended.
    async fn someone_comes_or_goes(&mut self, number: usize) {
        let here = self.living(|name| name.starts_with("pod-"));
        let place = SLOTS.saturating_sub(here.len());
        match self.dice.below(SLOTS) < place {
            true => _ = self.begin(&format!("pod-{number}")).await,
            false => {
                let uid = here[self.dice.below(here.len())].clone();
                self.end(&uid).await;
            }
        }
    }

    fn living(&self, meant: impl Fn(&str) -> bool) -> Vec<String> {
        let lives = self.lives.iter().filter(|(_, life)| !life.deleted && meant(&life.name));
        lives.map(|(uid, _)| uid.clone()).collect()
    }

    async fn begin(&mut self, name: &str) -> Pod {
        let pod: Pod = serde_json::from_value(self.pod(name)).unwrap();
        let pod = self.pods.create(&PostParams::default(), &pod).await.unwrap();
        let life = Life { name: name.to_owned(), deleted: false, gone: false, struck: false };
        self.lives.insert(pod.uid().unwrap(), life);
        pod
    }

    fn pod(&self, name: &str) -> Value {
        json!({
            "metadata": {"name": name},
            "spec": {
                "nodeName": self.node.name,
                "terminationGracePeriodSeconds": 30,
                "containers": [{
                    "name": "main",
                    "image": IMAGE,
                    "command": ["sh", "-c", LIFE],
                    "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
                    "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >>/diaries/$POD_UID"]}}},
                    "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1},
                    "volumeMounts": [{"name": "diaries", "mountPath": "/diaries"}, {"name": "tmp", "mountPath": "/tmp"}],
                }],
                "volumes": [
                    {"name": "diaries", "hostPath": {"path": format!("/{DIARIES}"), "type": "DirectoryOrCreate"}},
                    {"name": "tmp", "emptyDir": {"medium": "Memory"}},
                ],
            },
        })
    }

    async fn end(&mut self, uid: &str) {
        let life = self.lives.get_mut(uid).unwrap();
        if !life.deleted {
            life.deleted = true;
            self.pods.delete(&life.name, &DeleteParams::default()).await.unwrap();
        }
    }

    /// Kills the shim of a pod that comes or goes, if one of them has any.
    fn strike(&mut self) -> bool {
        let coming_or_going = self.lives.iter().filter(|(_, life)| life.name.starts_with("pod-") && !life.gone);
        let shims: Vec<(String, i32)> =
            coming_or_going.filter_map(|(uid, _)| Some((uid.clone(), self.node.shim(uid)?))).collect();
        if shims.is_empty() {
            return false;
        }
        let (uid, shim) = &shims[self.dice.below(shims.len())];
        if let Some(life) = self.lives.get_mut(uid) {
            life.struck = true;
        }
        kill(*shim);
        true
    }

    /// Fault 4: with the shim its container ends; that is seen at once, told with a reason, and the pod begins anew.
    async fn a_killed_shim_is_noticed(&mut self, bystanders: &BTreeMap<String, Facts>) {
        let pod = self.begin("struck").await;
        let (name, uid) = (pod.name_any(), pod.uid().unwrap());
        until(&self.pods, &name, "Ready", ready).await;
        self.lives.get_mut(&uid).unwrap().struck = true;
        kill(self.node.shim(&uid).expect("a pod that is Ready has a shim"));
        let begun = Instant::now();
        let seen = until(&self.pods, &name, "seen to have ended", |it| restarts(it) > 0 || !ready(it)).await;
        // A second by the fault's row, on a machine that has nothing else to do.
        assert!(begun.elapsed() < Duration::from_secs(20), "seen after {:?}: {seen:?}", begun.elapsed());
        let again = until(&self.pods, &name, "Ready again", |it| restarts(it) == 1 && ready(it)).await;
        let status = serde_json::to_value(&again.status).unwrap();
        let last = &status["containerStatuses"][0]["lastState"]["terminated"];
        assert!(last["reason"].is_string() && last["exitCode"] != 0, "{status}");
        for (name, facts) in bystanders {
            assert_eq!(self.facts(name).await, *facts, "{name} is its neighbour");
        }
    }

    /// Waits until the storm's survivors are well again.
    async fn everybody_runs(&self) {
        for uid in self.living(|_| true) {
            until(&self.pods, &self.lives[&uid].name, "Ready after the storm", |it| {
                ready(it) && phase(it) == "Running"
            })
            .await;
        }
    }

    async fn all_are_gone(&mut self) {
        for (uid, life) in self.lives.iter_mut().filter(|(_, life)| !life.gone) {
            let waiting = await_condition(self.pods.clone(), &life.name, conditions::is_deleted(uid));
            if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
                let pod = self.pods.get_opt(&life.name).await;
                panic!("{} is still there after {PATIENCE:?}: {pod:#?}", life.name);
            }
            life.gone = true;
        }
    }

    fn diaries_are_in_order(&self) {
        let mut wrong = String::new();
        for (uid, life) in &self.lives {
            let diary = self.node.read(&format!("{DIARIES}/{uid}"));
            let lines: Vec<&str> = diary.lines().collect();
            let starts = lines.iter().filter(|it| **it == "start").count();
            // Without its shim it lives once more for each that was killed; one that had not begun may never have.
            let once = !lines.contains(&"twice") && (starts <= 1 || life.struck);
            let ended = starts == 0 || life.struck || (lines.contains(&"hook") && lines.contains(&"done"));
            if !once || !ended {
                writeln!(wrong, "{} {uid}, its shim killed: {}: {lines:?}", life.name, life.struck).unwrap();
            }
        }
        assert!(wrong.is_empty(), "seed {}: promises were broken to\n{wrong}", self.dice.seed);
    }

    async fn facts(&self, name: &str) -> Facts {
        let pod = self.pods.get(name).await.unwrap();
        let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
        let ready = conditions.into_iter().find(|it| it.type_ == "Ready").unwrap();
        Facts {
            ready: json!([ready.status, ready.last_transition_time]),
            restarts: restarts(&pod),
            process: self.node.process(&pod.uid().unwrap()),
        }
    }
}

/// What an agent's death must not change.
#[derive(Debug, PartialEq)]
struct Facts {
    ready: Value,
    restarts: i32,
    process: Option<i32>,
}

/// The cluster's agent, as its host sees it.
struct Node {
    name: String,
    init: i32,
}

impl Node {
    fn of(cluster: &str) -> Self {
        let name = format!("k3rs-{cluster}-agent-0");
        let agents = || processes().into_iter().filter(|it| is_agent(it, &name));
        let agent = agents().next().unwrap_or_else(|| panic!("{name} has no agent"));
        Self { init: parent(agent.0).expect("an agent's parent is its node's PID 1"), name }
    }

    /// The agent that runs; the one before it may have been killed just now.
    async fn agent(&self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let agents = processes().into_iter().filter(|it| is_agent(it, &self.name));
            if let Some((pid, _)) = agents.into_iter().next() {
                return pid;
            }
            assert!(Instant::now() < deadline, "{} is not started again", self.name);
            tokio::time::sleep_until((Instant::now() + Duration::from_millis(10)).into()).await;
        }
    }

    /// The first process of a pod's container.
    fn process(&self, uid: &str) -> Option<i32> {
        let group = format!("pod{uid}");
        let of_pod = |pid: &i32| read(format!("/proc/{pid}/cgroup")).contains(&group);
        processes().into_iter().map(|(pid, _)| pid).filter(of_pod).find(|pid| self.holder(*pid).is_some())
    }

    fn shim(&self, uid: &str) -> Option<i32> {
        self.holder(self.process(uid)?)
    }

    /// The shim whose child this is.
    fn holder(&self, pid: i32) -> Option<i32> {
        parent(pid).filter(|it| read(format!("/proc/{it}/cmdline")).contains("containerd-shim"))
    }

    fn read(&self, path: &str) -> String {
        read(self.root().join(path))
    }

    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// What is there when pods have been gone for a while; a node tells nobody when it has tidied up.
    async fn at_rest(&self) -> BTreeSet<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut found = self.inventory();
        loop {
            tokio::time::sleep_until((Instant::now() + Duration::from_secs(1)).into()).await;
            let now = self.inventory();
            if now == found && !now.iter().any(|it| it.contains("containerd-shim")) {
                return now;
            }
            assert!(Instant::now() < deadline, "{} does not come to rest", self.name);
            found = now;
        }
    }

    /// Everything that a pod could leave on the node.
    fn inventory(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mounts = read(format!("/proc/{}/mountinfo", self.init));
        let target = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
        found.extend(mounts.lines().map(|it| format!("mount {}", target(it))));
        let group = read(format!("/proc/{}/cgroup", self.init));
        for (pid, words) in processes() {
            let same_node = shares(&group, &read(format!("/proc/{pid}/cgroup")), &self.name);
            // What starts the node and what it starts are there anyway; its number is another after a kill.
            found.extend(same_node.then(|| format!("process {}", words.replace('\0', " "))));
        }
        let groups = folders(Path::new("/sys/fs/cgroup")).into_iter().filter(|it| it.contains(&self.name));
        found.extend(groups.map(|it| format!("cgroup {it}")));
        for place in ["agent/containers/state", "agent/containers/containers", "agent/kubelet", "agent/network"] {
            let data = self.root().join("var/lib/rancher/k3s");
            found.extend(files(&data.join(place)).into_iter().map(|it| format!("file {it}")));
        }
        for place in ["var/log/pods", "var/log/containers", "run/k3s", "run/netns", "run/k3rs"] {
            found.extend(files(&self.root().join(place)).into_iter().map(|it| format!("file {it}")));
        }
        found.extend(self.network());
        found
    }

    fn network(&self) -> Vec<String> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        // A thread of its own, which is in that network to its end.
        let look = std::thread::spawn(move || {
            namespaces::enter(network.as_fd(), Kind::Network).unwrap();
            let mut links = Links::open().unwrap();
            let mut found: Vec<String> =
                links.list().unwrap().into_iter().map(|it| format!("link {}", it.name)).collect();
            found.extend(links.routes().unwrap().into_iter().map(|it| format!("route {:?}", it.to)));
            found
        });
        look.join().unwrap()
    }
}

/// Whether both are in control groups of the node of this name.
fn shares(one: &str, other: &str, node: &str) -> bool {
    one.contains(node) && other.contains(node)
}

fn is_agent((_, words): &(i32, String), node: &str) -> bool {
    let words: Vec<&str> = words.split('\0').collect();
    matches!(words[..], ["/bin/k3rs", "agent", ..]) && words.contains(&node)
}

/// Numbers and words of all processes.
fn processes() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.map(|pid: i32| (pid, read(format!("/proc/{pid}/cmdline")))).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let status = read(format!("/proc/{pid}/status"));
    status.lines().find_map(|it| it.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Empty for what is not there any more.
fn read(path: impl AsRef<Path>) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn kill(pid: i32) {
    // It may have ended by itself.
    _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// A directory and all below it.
fn folders(directory: &Path) -> Vec<String> {
    let mut found = vec![directory.display().to_string()];
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            found.extend(folders(&entry.path()));
        }
    }
    found
}

fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            found.extend(files(&entry.path()));
        }
    }
    found
}

/// Chance that can be had again: the seed is in what a failure says.
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
    fn new() -> Self {
        let stated = std::env::var("K3RS_TEST_SEED").ok().map(|it| it.parse().unwrap());
        let seed = stated.unwrap_or_else(|| jiff::Timestamp::now().as_microsecond().cast_unsigned());
        eprintln!("seed {seed}");
        Self { seed, state: seed | 1 }
    }

    /// An index of so many (xorshift64).
    fn below(&mut self, many: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % many as u64).unwrap()
    }
}
