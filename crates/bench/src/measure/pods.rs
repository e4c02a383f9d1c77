//! Pods on one native node, from their creator's side: his clock, and a watch; beside them upstream's kubelet with
//! containerd and runc, under upstream's control plane.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{Bench, milliseconds};
use crate::clusters::Home;
use crate::figures::Outcome;
use crate::http::{Access, Call, Lines};
use crate::processes::Memory;
use crate::programs::Precedence;
use crate::servers::node::Node;
use crate::{image, processes};

const CLUSTER: &str = "bench-pods";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Pods one after another, and pods at once: some, and as many as a node takes by default.
const SINGLE: usize = 10;
const BURST: usize = 20;
const CROWD: usize = 100;
const PATIENCE: Duration = Duration::from_secs(120);
/// Until what starting pods has set in motion is done, before memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);
/// How long a crowd is watched doing nothing.
const IDLE: Duration = Duration::from_secs(20);

pub(super) const ROWS: &[&str] =
    &["pod", "pod-burst", "pod-crowd", "pod-crowd-cpu", "pod-delete", "pod-delete-obey", "pod-memory"];

/// Samples by row.
type Samples = BTreeMap<&'static str, Vec<f64>>;

pub(super) fn run(bench: &Bench) -> Result<Vec<Outcome>> {
    let ours = ours(bench)?;
    // In a thread, which keeps the network of its own that the peer is in.
    let peer = std::thread::scope(|scope| scope.spawn(|| upstream(bench)).join());
    let peer = peer.unwrap_or_else(|_| Err(anyhow!("it panicked")));
    let outcomes = ROWS.iter().map(|row| {
        let outcome = Outcome::new(row, ours[row].clone());
        match &peer {
            Ok(figures) => outcome.beside(figures[row].clone()),
            Err(_) => outcome,
        }
    });
    let mut outcomes: Vec<Outcome> = outcomes.collect();
    // A peer that cannot run here is told of, and missed.
    if let (Err(why), Some(first)) = (&peer, outcomes.first_mut()) {
        first.notes.push(format!("upstream's node did not run: {why:#}"));
    }
    Ok(outcomes)
}

fn ours(bench: &Bench) -> Result<Samples> {
    let home = Home::new(&bench.program, &bench.directory)?;
    home.create(CLUSTER, &["--runtime", "native"])?;
    let archive = bench.directory.join("payload.tar");
    image::write(&bench.payload, &archive, image::NAME, &[])?;
    home.run(&["image", "import", &archive.display().to_string(), "--cluster", CLUSTER])?;
    let nodes = home.nodes(CLUSTER)?;
    let node = nodes.values().next().context("a cluster has a node")?;
    Precedence::give(&processes::tree(node.host));
    let init = node.init;
    let access = home.access(CLUSTER)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(all(bench, access, "k3rs", || processes::tree(init)))
}

fn upstream(bench: &Bench) -> Result<Samples> {
    // Not below the benchmark's own, whose name may be longer than a socket's can.
    let directory = tempfile::Builder::new().prefix("peer-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let node = Node::start(&bench.peers, &bench.payload, directory.path()).await?;
        all(bench, node.access().clone(), "upstream", || node.pids()).await
    })
}

/// Fills every row of a cluster, whose processes are looked for anew each time.
async fn all(bench: &Bench, access: Access, name: &str, pids: impl Fn() -> Vec<i32>) -> Result<Samples> {
    let mut pods = Pods::watch(access).await?;
    let mut samples = Samples::new();
    crate::say(&format!("  pods one at a time of {name}"));
    let (single, obeyed) = pods.one_at_a_time("obey", SINGLE).await?;
    let (_, ignored) = pods.one_at_a_time("wait", bench.runs).await?;
    samples.insert("pod", single);
    samples.insert("pod-delete-obey", obeyed);
    samples.insert("pod-delete", ignored.iter().map(|it| it / 1e3).collect());
    crate::say(&format!("  pods at once of {name}"));
    for round in 0..bench.runs {
        let before = beyond_payloads(pids()).pss;
        samples.entry("pod-burst").or_default().push(pods.burst(round, BURST).await?);
        // Nothing is awaited but time: memory that is given back late has no event.
        tokio::time::sleep_until(Instant::now() + SETTLE).await;
        let each = (beyond_payloads(pids()).pss - before) / BURST as f64;
        samples.entry("pod-memory").or_default().push(each);
        pods.clear(round, BURST).await?;
    }
    for round in bench.runs..bench.runs + bench.runs.min(2) {
        samples.entry("pod-crowd").or_default().push(pods.burst(round, CROWD).await?);
        tokio::time::sleep_until(Instant::now() + SETTLE).await;
        let (busy, began) = (processes::cpu(&pids()), Instant::now());
        // What is measured is that nothing happens.
        tokio::time::sleep_until(began + IDLE).await;
        let used = processes::cpu(&pids()).saturating_sub(busy).as_secs_f64();
        samples.entry("pod-crowd-cpu").or_default().push(used / began.elapsed().as_secs_f64() * 1e2);
        pods.clear(round, CROWD).await?;
    }
    Ok(samples)
}

/// Memory of a node's processes without what its pods' own programs use.
fn beyond_payloads(mut pids: Vec<i32>) -> Memory {
    pids.retain(|pid| !processes::command(*pid).starts_with(image::PROGRAM));
    processes::memory(&pids)
}

/// The pods of a cluster, as a watch tells of them.
struct Pods {
    access: Access,
    lines: Lines,
    /// When each was seen Ready, and when it was seen no more.
    ready: HashMap<String, Instant>,
    gone: HashMap<String, Instant>,
}

impl Pods {
    async fn watch(access: Access) -> Result<Self> {
        let list: Value = access.send(Call::get(PODS)).await?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path = format!("{PODS}?watch=true&resourceVersion={revision}");
        let lines = access.connect().await?.watch(&Call::get(path)).await?;
        Ok(Self { access, lines, ready: HashMap::new(), gone: HashMap::new() })
    }

    /// Milliseconds from the creation of pods to their being Ready, and from their deletion to their end.
    async fn one_at_a_time(&mut self, word: &str, count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut connection = self.access.connect().await?;
        let (mut ready, mut gone) = (Vec::new(), Vec::new());
        // The first one warms what a second one finds warm, and does not count.
        for number in 0..=count {
            let name = format!("{word}-{number}");
            let began = Instant::now();
            connection.send(&Call::post(PODS, &pod(&name, word))).await?;
            let ready_at = self.until(&name, |it| &it.ready).await?;
            let deleted = Instant::now();
            connection.send(&Call::delete(format!("{PODS}/{name}?gracePeriodSeconds=1"))).await?;
            let gone_at = self.until(&name, |it| &it.gone).await?;
            if number > 0 {
                ready.push(milliseconds(ready_at.saturating_duration_since(began)));
                gone.push(milliseconds(gone_at.saturating_duration_since(deleted)));
            }
        }
        Ok((ready, gone))
    }

    /// Pods a second, from the first creation to the last that is Ready.
    async fn burst(&mut self, round: usize, count: usize) -> Result<f64> {
        let mut connections = try_join_all((0..BURST).map(|_| self.access.connect())).await?;
        let calls: Vec<Call> = names(round, count).map(|name| Call::post(PODS, &pod(&name, "wait"))).collect();
        let began = Instant::now();
        for calls in calls.chunks(BURST) {
            try_join_all(connections.iter_mut().zip(calls).map(|(connection, call)| connection.send(call))).await?;
        }
        let mut last = began;
        for name in names(round, count) {
            last = last.max(self.until(&name, |it| &it.ready).await?);
        }
        Ok(count as f64 / last.saturating_duration_since(began).as_secs_f64())
    }

    async fn clear(&mut self, round: usize, count: usize) -> Result<()> {
        let mut connection = self.access.connect().await?;
        for name in names(round, count) {
            connection.send(&Call::delete(format!("{PODS}/{name}?gracePeriodSeconds=0"))).await?;
        }
        for name in names(round, count) {
            self.until(&name, |it| &it.gone).await?;
        }
        Ok(())
    }

    /// When `moments` came to have `name`.
    async fn until(&mut self, name: &str, moments: fn(&Self) -> &HashMap<String, Instant>) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = moments(self).get(name) {
                return Ok(*at);
            }
            let line = timeout(deadline.saturating_duration_since(Instant::now()), self.lines.next()).await;
            let Ok(line) = line else {
                let pod: Value = self.access.send(Call::get(format!("{PODS}/{name}"))).await.unwrap_or_default();
                bail!("pod {name} takes longer than {PATIENCE:?}: {}", pod["status"]);
            };
            self.note(&line?);
        }
    }

    fn note(&mut self, line: &[u8]) {
        let at = Instant::now();
        let event: Value = serde_json::from_slice(line).unwrap_or_default();
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let conditions = event["object"]["status"]["conditions"].as_array();
        let ready = conditions.is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"));
        if event["type"] == "DELETED" {
            self.gone.entry(name).or_insert(at);
        } else if ready {
            self.ready.entry(name).or_insert(at);
        }
    }
}

fn names(round: usize, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("burst-{round}-{number}"))
}

fn pod(name: &str, word: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            // A developer's disk is often nearly full, which a node rightly finds pressing.
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": "main", "image": image::NAME, "imagePullPolicy": "IfNotPresent", "args": [word]}],
        },
    })
}
