//! API servers under load: ours, and upstream's with its etcd where they are, round by round in turn, each round with
//! fresh servers. The servers have one core, the client the other.
//!
//! Pods name a scheduler that nobody runs: they are objects here, and stay as they were made.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Bench, milliseconds};
use crate::figures::{Outcome, percentile};
use crate::http::{APPLY, Access, Call, STRATEGIC};
use crate::load::{self, Tally, Until};
use crate::processes;
use crate::servers::{Kind, Server};

pub(super) const ROWS: &[&str] = &[
    "api-ready",
    "create-pod",
    "create-pod-p99",
    "create-pod-cpu",
    "get-pod",
    "get-pod-cpu",
    "patch-pod",
    "patch-pod-cpu",
    "apply-pod",
    "apply-pod-cpu",
    "list",
    "list-cpu",
    "list-label",
    "list-label-cpu",
    "watch-p99",
    "watch-p50",
    "memory",
];

const PODS: usize = 2000;
const WRITERS: usize = 32;
const LISTERS: usize = 4;
const WATCHERS: usize = 100;
/// Patches that the watchers see in a round.
const EVENTS: usize = 100;
/// How long each kind of request is sent in a round.
const WINDOW: Duration = Duration::from_secs(3);
/// Until what the load has set in motion is done, before memory is looked at.
const SETTLE: Duration = Duration::from_secs(10);
pub(super) const NAMESPACE: &str = "load";

/// The figures of a round, by row.
type Figures = BTreeMap<&'static str, f64>;

pub(super) fn run(bench: &Bench) -> Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ours, mut upstream) = (Kind::Ours(bench.program.clone()), Kind::upstream(&bench.peers));
    let (mut rounds, mut peers, mut failed) = (Vec::new(), Vec::new(), None);
    let _cores = processes::Cores::keep()?;
    runtime.block_on(async {
        for _ in 0..bench.runs {
            rounds.push(round(bench, &ours).await.context("k3rs server")?);
            // A peer that cannot run here is told of, and missed.
            if let Some(peer) = upstream.take() {
                match round(bench, &peer).await {
                    Ok(figures) => {
                        peers.push(figures);
                        upstream = Some(peer);
                    }
                    Err(why) => failed = Some(format!("without kube-apiserver: {why:#}")),
                }
            }
        }
        anyhow::Ok(())
    })?;
    let samples = |rounds: &[Figures], row: &str| rounds.iter().filter_map(|it| it.get(row).copied()).collect();
    let outcomes = ROWS.iter().map(|row| {
        let outcome = Outcome::new(row, samples(&rounds, row)).beside(samples(&peers, row));
        let beside = beside(row).and_then(|(name, what)| Some((what, rounds.last()?.get(name)?)));
        match beside {
            Some((what, figure)) => {
                let unit = outcome.row.unit;
                outcome.note(format!("{what}: {figure:.0} {unit}"))
            }
            None => outcome,
        }
    });
    let mut outcomes: Vec<Outcome> = outcomes.collect();
    if let (Some(first), Some(why)) = (outcomes.first_mut(), failed) {
        first.notes.push(why);
    }
    Ok(outcomes)
}

/// What a round keeps for a row's note, under which name, and what the note calls it.
fn beside(row: &str) -> Option<(&'static str, &'static str)> {
    const CLIENT: &str = "the client's own CPU";
    match row {
        "create-pod-cpu" => Some(("create-pod client", CLIENT)),
        "get-pod-cpu" => Some(("get-pod client", CLIENT)),
        "patch-pod-cpu" => Some(("patch-pod client", CLIENT)),
        "apply-pod-cpu" => Some(("apply-pod client", CLIENT)),
        "list-cpu" => Some(("list client", CLIENT)),
        "list-label-cpu" => Some(("list-label client", CLIENT)),
        "memory" => Some(("memory anonymous", "of which RssAnon")),
        _ => None,
    }
}

async fn round(bench: &Bench, kind: &Kind) -> Result<Figures> {
    let server = Server::start(kind, &bench.directory).await?;
    let mut figures = Figures::from([("api-ready", milliseconds(server.ready_after))]);
    let loaded = ROWS.iter().any(|row| *row != "api-ready" && bench.wants(row));
    if !loaded {
        return Ok(figures);
    }
    let (access, pids) = (server.access.clone(), server.pids());
    prepare(&access).await?;

    let load = async |connections, until, call: fn(usize) -> Call| {
        crate::programs::check_interrupted()?;
        load::run(&access, &pids, connections, until, call).await
    };
    let tally = load(WRITERS, Until::Answered(PODS), |number| Call::post(pods(), &pod(number))).await?;
    if let Some(slowest) = percentile(&tally.latencies, 99) {
        figures.insert("create-pod-p99", slowest);
    }
    note(&mut figures, ["create-pod", "create-pod-cpu", "create-pod client"], &tally);
    let tally = load(WRITERS, Until::Elapsed(WINDOW), |number| Call::get(pod_path(number))).await?;
    note(&mut figures, ["get-pod", "get-pod-cpu", "get-pod client"], &tally);
    let tally = load(WRITERS, Until::Elapsed(WINDOW), patch).await?;
    note(&mut figures, ["patch-pod", "patch-pod-cpu", "patch-pod client"], &tally);
    let tally = load(WRITERS, Until::Elapsed(WINDOW), apply).await?;
    note(&mut figures, ["apply-pod", "apply-pod-cpu", "apply-pod client"], &tally);
    let tally = load(LISTERS, Until::Elapsed(WINDOW), |_| Call::get(pods() + "?resourceVersion=0")).await?;
    note(&mut figures, ["list", "list-cpu", "list client"], &tally);
    let tally = load(LISTERS, Until::Elapsed(WINDOW), by_label).await?;
    note(&mut figures, ["list-label", "list-label-cpu", "list-label client"], &tally);

    let latencies = fan_out(&access).await.context("watching")?;
    figures.extend(percentile(&latencies, 50).map(|it| ("watch-p50", it)));
    figures.extend(percentile(&latencies, 99).map(|it| ("watch-p99", it)));

    let maps = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let make = move |number| Call::post(maps.clone(), &config_map(number));
    load::run(&access, &pids, WRITERS, Until::Answered(PODS), make).await?;
    // Nothing is awaited but time: memory that is given back late has no event.
    tokio::time::sleep_until(Instant::now() + SETTLE).await;
    let memory = processes::memory(&pids);
    figures.extend([("memory", memory.pss), ("memory anonymous", memory.anonymous)]);
    Ok(figures)
}

/// Makes the namespace that pods are created in.
pub(super) async fn prepare(access: &Access) -> Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    access.send(Call::post("/api/v1/namespaces", &namespace)).await?;
    // Upstream's controller manager, which would make it, is not part of this.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts");
    access.send(Call::post(accounts, &account).unless_exists()).await?;
    Ok(())
}

fn note(figures: &mut Figures, rows: [&'static str; 3], tally: &Tally) {
    figures.extend(rows.into_iter().zip([tally.per_second, tally.server_cpu, tally.client_cpu]));
}

fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

fn pod_path(number: usize) -> String {
    format!("{}/pod-{}", pods(), number % PODS)
}

/// A pod as a Deployment of an ordinary web server has them.
pub(super) fn pod(number: usize) -> Value {
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": format!("pod-{number}"),
            "labels": {"app": "web", "tenth": (number % 10).to_string(), "pod-template-hash": "6d4cf56db6"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "8080"},
        },
        "spec": {
            "schedulerName": "nobody",
            "containers": [{
                "name": "web",
                "image": "registry.example.com/team/web:1.2.3",
                "args": ["--listen=:8080", "--log-level=info"],
                "ports": [{"name": "http", "containerPort": 8080}],
                "env": [
                    {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "MODE", "value": "production"},
                ],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "readinessProbe": probe("/ready"),
                "livenessProbe": probe("/healthy"),
                "volumeMounts": [{"name": "config", "mountPath": "/etc/web", "readOnly": true}],
            }],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}],
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
        },
    })
}

fn patch(number: usize) -> Call {
    let changed = json!({"metadata": {"annotations": {"example.com/seen": number.to_string()}}});
    Call::patch(pod_path(number), STRATEGIC, &changed)
}

fn apply(number: usize) -> Call {
    let configuration = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("pod-{}", number % PODS), "labels": {"example.com/applied": number.to_string()}},
    });
    Call::patch(pod_path(number) + "?fieldManager=bench", APPLY, &configuration)
}

fn by_label(number: usize) -> Call {
    Call::get(format!("{}?resourceVersion=0&labelSelector=tenth%3D{}", pods(), number % 10))
}

fn config_map(number: usize) -> Value {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": format!("map-{number}"), "labels": {"app": "web"}},
        "data": {"settings": text, "mode": "production"},
    })
}

/// Patches one pod again and again; milliseconds from each patch's sending to each watcher's reading of its event.
async fn fan_out(access: &Access) -> Result<Vec<f64>> {
    let list: Value = access.send(Call::get(pods() + "?limit=1")).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    let path = format!("{}?watch=true&resourceVersion={revision}", pods());
    let connections = try_join_all((0..WATCHERS).map(|_| access.connect())).await?;
    let (told, mut seen) = mpsc::channel::<(usize, Instant)>(WATCHERS);
    let mut watchers = JoinSet::new();
    for connection in connections {
        let mut lines = connection.watch(&Call::get(&path)).await?;
        let told = told.clone();
        watchers.spawn(async move {
            for event in 0..EVENTS {
                let stamp = stamp(event);
                while memchr::memmem::find(&lines.next().await?, stamp.as_bytes()).is_none() {}
                told.send((event, Instant::now())).await?;
            }
            anyhow::Ok(())
        });
    }
    drop(told);
    let mut writer = access.connect().await?;
    let mut latencies = Vec::with_capacity(EVENTS * WATCHERS);
    for event in 0..EVENTS {
        let change = json!({"metadata": {"annotations": {"example.com/stamp": stamp(event)}}});
        let began = Instant::now();
        writer.send(&Call::patch(pod_path(0), STRATEGIC, &change)).await?;
        for _ in 0..WATCHERS {
            let (_, at) = seen.recv().await.context("the watchers have ended")?;
            latencies.push(milliseconds(at.saturating_duration_since(began)));
        }
    }
    while let Some(watcher) = watchers.join_next().await {
        watcher??;
    }
    Ok(latencies)
}

/// What no other object says.
fn stamp(event: usize) -> String {
    format!("stamp-{event}-of-{EVENTS}")
}
