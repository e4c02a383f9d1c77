//! What a cluster costs that nobody uses.

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::Instant;

use std::time::Duration;

use super::Bench;
use crate::clusters::{Home, NodeProcesses};
use crate::figures::Outcome;
use crate::http::{Access, Call};
use crate::processes;
use crate::programs::check_interrupted;

const CLUSTER: &str = "bench-idle";
/// Until what a start has set in motion is done.
const SETTLE: Duration = Duration::from_secs(30);

pub(super) fn run(bench: &Bench) -> Result<Vec<Outcome>> {
    let home = Home::new(&bench.program, &bench.directory)?;
    let agents = home.create(CLUSTER, &["--runtime", "native", "--agents", "2"]).map(|_| ());
    if let Err(why) = &agents {
        crate::say(&format!("without agents: {why:#}"));
        home.create(CLUSTER, &["--runtime", "native"])?;
    }
    let nodes = home.nodes(CLUSTER)?;
    let server = *nodes.iter().find(|it| it.0.contains("server")).context("a cluster has a server")?.1;
    let access = home.access(CLUSTER)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut outcomes = runtime.block_on(watch(bench, server, &access))?;
    match (agents, nodes.iter().find(|it| it.0.contains("agent"))) {
        (Ok(()), Some((_, agent))) => outcomes.extend(memory("idle-agent", "idle-agent-anon", *agent)),
        (Err(why), _) => outcomes.extend(["idle-agent", "idle-agent-anon"].map(|row| Outcome::missing(row, &why))),
        (Ok(()), None) => {}
    }
    Ok(outcomes)
}

async fn watch(bench: &Bench, server: NodeProcesses, access: &Access) -> Result<Vec<Outcome>> {
    // Nothing is awaited but time: an idle cluster has no event to tell of.
    tokio::time::sleep_until(Instant::now() + SETTLE).await;
    check_interrupted()?;
    let pids = processes::tree(server.init);
    let revision = revision(access).await?;
    let before = processes::memory(&pids).anonymous;
    let (cpu, written, began) = (processes::cpu(&pids), processes::written(&pids), Instant::now());
    let (leases, nodes, newest) = tokio::try_join!(
        changes(access, "/apis/coordination.k8s.io/v1/leases", revision, bench.window),
        changes(access, "/api/v1/nodes", revision, bench.window),
        async {
            tokio::time::sleep_until(began + bench.window).await;
            self::revision(access).await
        },
    )?;
    let upto = |changes: Vec<u64>| changes.into_iter().filter(|revision| *revision <= newest).count() as f64;
    let (leases, nodes) = (upto(leases), upto(nodes));
    let window = began.elapsed();
    let cpu = processes::cpu(&pids).saturating_sub(cpu);
    let written = processes::written(&pids).saturating_sub(written);
    let writes = (newest - revision) as f64;
    let minutes = window.as_secs_f64() / 60.0;
    let percent = cpu.as_secs_f64() / window.as_secs_f64() * 100.0;
    let mut outcomes = memory("idle-server", "idle-server-anon", server);
    outcomes.push(
        Outcome::new("idle-cpu", vec![percent])
            .note(format!("over {:.0} s, nothing asked of it", window.as_secs_f64())),
    );
    outcomes.push(Outcome::new("idle-growth", vec![processes::memory(&pids).anonymous - before]));
    outcomes.push(Outcome::new("idle-writes", vec![writes / minutes]));
    outcomes.push(
        Outcome::new("idle-other", vec![writes - leases - nodes]).note(format!("of {writes}; {nodes} were of nodes")),
    );
    outcomes.push(Outcome::new("idle-disk", vec![written as f64 / 1e3 / minutes]));
    Ok(outcomes)
}

fn memory(pss: &str, anonymous: &str, node: NodeProcesses) -> Vec<Outcome> {
    let memory = processes::memory(&processes::tree(node.init));
    let outside = processes::memory(&[node.host]);
    let note = format!("and {:.1} MB for the process that holds the node on the host's side", outside.pss);
    vec![Outcome::new(pss, vec![memory.pss]).note(note), Outcome::new(anonymous, vec![memory.anonymous])]
}

/// The datastore's revision, which counts its writes.
async fn revision(access: &Access) -> Result<u64> {
    let answer: Value = access.send(Call::get("/api/v1/namespaces?limit=1")).await?;
    let revision = answer["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    Ok(revision.parse()?)
}

/// The revisions that objects at `path` change in, for a little longer than the window.
async fn changes(access: &Access, path: &str, revision: u64, window: Duration) -> Result<Vec<u64>> {
    let query = format!("watch=1&resourceVersion={revision}&timeoutSeconds={}", window.as_secs() + 2);
    let events = access.connect().await?.send(&Call::get(format!("{path}?{query}"))).await?;
    let lines = events.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let event: Value = serde_json::from_slice(line)?;
            let revision = event["object"]["metadata"]["resourceVersion"].as_str().unwrap_or_default();
            revision.parse().with_context(|| format!("watching {path}: {event}"))
        })
        .collect()
}
