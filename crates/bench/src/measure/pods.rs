//! Pods on one native node, from their creator's side: his clock, and a watch.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{Bench, milliseconds};
use crate::clusters::Home;
use crate::figures::Outcome;
use crate::http::{Access, Call, Lines};
use crate::programs::Precedence;
use crate::{image, processes};

const CLUSTER: &str = "bench-pods";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// Pods one after another, and pods at once.
const SINGLE: usize = 10;
const BURST: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Until what starting pods has set in motion is done, before memory is looked at.
const SETTLE: Duration = Duration::from_secs(5);

pub(super) fn run(bench: &Bench) -> Result<Vec<Outcome>> {
    let home = Home::new(&bench.program, &bench.directory)?;
    home.create(CLUSTER, &["--runtime", "native"])?;
    let archive = bench.directory.join("payload.tar");
    image::write(&bench.payload, &archive)?;
    home.run(&["image", "import", &archive.display().to_string(), "--cluster", CLUSTER])?;
    let nodes = home.nodes(CLUSTER)?;
    let node = nodes.values().next().context("a cluster has a node")?;
    Precedence::give(&processes::tree(node.host));
    let init = node.init;
    let access = home.access(CLUSTER)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut pods = Pods::watch(access).await?;
        let (single, obeyed) = pods.one_at_a_time("obey", SINGLE).await?;
        let (_, ignored) = pods.one_at_a_time("wait", bench.runs).await?;
        let (mut rates, mut each) = (Vec::new(), Vec::new());
        for round in 0..bench.runs {
            let before = processes::memory(&processes::tree(init)).pss;
            rates.push(pods.burst(round).await?);
            // Nothing is awaited but time: memory that is given back late has no event.
            tokio::time::sleep_until(Instant::now() + SETTLE).await;
            each.push((beyond_payloads(init) - before) / BURST as f64);
            pods.clear(round).await?;
        }
        let seconds = ignored.iter().map(|it| it / 1e3).collect();
        Ok(vec![
            Outcome::new("pod", single),
            Outcome::new("pod-burst", rates),
            Outcome::new("pod-delete", seconds),
            Outcome::new("pod-delete-obey", obeyed),
            Outcome::new("pod-memory", each),
        ])
    })
}

/// Memory of a node without what its pods' own programs use.
fn beyond_payloads(init: i32) -> f64 {
    let mut pids = processes::tree(init);
    pids.retain(|pid| !processes::command(*pid).starts_with(image::PROGRAM));
    processes::memory(&pids).pss
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
    async fn burst(&mut self, round: usize) -> Result<f64> {
        let mut connections = try_join_all((0..BURST).map(|_| self.access.connect())).await?;
        let calls: Vec<Call> = names(round).map(|name| Call::post(PODS, &pod(&name, "wait"))).collect();
        let began = Instant::now();
        try_join_all(connections.iter_mut().zip(&calls).map(|(connection, call)| connection.send(call))).await?;
        let mut last = began;
        for name in names(round) {
            last = last.max(self.until(&name, |it| &it.ready).await?);
        }
        Ok(BURST as f64 / last.saturating_duration_since(began).as_secs_f64())
    }

    async fn clear(&mut self, round: usize) -> Result<()> {
        let mut connection = self.access.connect().await?;
        for name in names(round) {
            connection.send(&Call::delete(format!("{PODS}/{name}?gracePeriodSeconds=0"))).await?;
        }
        for name in names(round) {
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

fn names(round: usize) -> impl Iterator<Item = String> {
    (0..BURST).map(move |number| format!("burst-{round}-{number}"))
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
