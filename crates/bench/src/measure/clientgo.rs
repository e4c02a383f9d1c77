//! API servers as upstream's own client finds them, in JSON and in protobuf, at two sizes: ours, and upstream's with its
//! etcd where they are, round by round in turn. Each encoding has a fresh server. The servers have one core, the client
//! the other; it decodes what it is answered and is soon what is measured, so the servers' CPU stands beside each rate.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Bench, api, milliseconds};
use crate::clientgo::{Client, Done, program};
use crate::figures::{Outcome, middle};
use crate::processes;
use crate::rows::{CLIENT_GO, LARGE, ids};
use crate::servers::{Kind, Server};

pub(super) const SMALL_ROWS: &[&str] = &ids::<{ CLIENT_GO[0].len() * 2 }>(&[CLIENT_GO[0], CLIENT_GO[1]]);
pub(super) const LARGE_ROWS: &[&str] =
    &ids::<{ CLIENT_GO[2].len() * 2 + LARGE.len() }>(&[CLIENT_GO[2], CLIENT_GO[3], LARGE]);

/// How many pods there are, and how long they are read and written.
#[derive(Clone, Copy)]
struct Size {
    name: &'static str,
    /// How often it is measured at most: a round of the large one takes a quarter of an hour.
    rounds: usize,
    pods: usize,
    seconds: u64,
    list_seconds: u64,
}

const SMALL: Size = Size { name: "2k", rounds: usize::MAX, pods: 2000, seconds: 3, list_seconds: 3 };
/// A list takes upstream seconds.
const BIG: Size = Size { name: "20k", rounds: 1, pods: 20_000, seconds: 5, list_seconds: 15 };

const ENCODINGS: [(&str, &str); 2] =
    [("json", "application/json"), ("protobuf", "application/vnd.kubernetes.protobuf")];
const WRITERS: usize = 32;
const LISTERS: usize = 4;
/// Watchers, and the events that each of them sees.
const WATCHES: [(usize, usize); 2] = [(100, 100), (2000, 20)];

/// The figures of a round, by row.
type Figures = BTreeMap<String, f64>;

pub(super) fn small(bench: &Bench) -> Result<Vec<Outcome>> {
    run(bench, SMALL, SMALL_ROWS)
}

pub(super) fn large(bench: &Bench) -> Result<Vec<Outcome>> {
    run(bench, BIG, LARGE_ROWS)
}

fn run(bench: &Bench, size: Size, rows: &[&'static str]) -> Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ours, mut upstream) = (Kind::Ours(bench.program.clone()), Kind::upstream(&bench.peers));
    let (mut rounds, mut peers, mut failed) = (Vec::new(), Vec::new(), None);
    let _cores = processes::Cores::keep()?;
    for _ in 0..bench.runs.min(size.rounds) {
        rounds.push(runtime.block_on(round(bench, size, &ours)).context("k3rs server")?);
        // A peer that cannot run here is told of, and missed.
        if let Some(peer) = upstream.take() {
            match runtime.block_on(round(bench, size, &peer)) {
                Ok(figures) => {
                    peers.push(figures);
                    upstream = Some(peer);
                }
                Err(why) => failed = Some(format!("without kube-apiserver: {why:#}")),
            }
        }
    }
    let samples = |rounds: &[Figures], row: &str| -> Vec<f64> {
        rounds.iter().filter_map(|figures| figures.get(row).copied()).collect()
    };
    let outcomes = rows.iter().map(|row| {
        let outcome = Outcome::new(row, samples(&rounds, row)).beside(samples(&peers, row));
        let busy = format!("{row} busy");
        match (middle(&samples(&rounds, &busy)), middle(&samples(&peers, &busy))) {
            (Some(ours), Some(theirs)) => {
                outcome.note(format!("the client was busy for {ours:.0} % of the time, {theirs:.0} % with the peer"))
            }
            (Some(ours), None) => outcome.note(format!("the client was busy for {ours:.0} % of the time")),
            _ => outcome,
        }
    });
    let mut outcomes: Vec<Outcome> = outcomes.collect();
    if let (Some(first), Some(why)) = (outcomes.first_mut(), failed) {
        first.notes.push(why);
    }
    Ok(outcomes)
}

async fn round(bench: &Bench, size: Size, kind: &Kind) -> Result<Figures> {
    let mut figures = Figures::new();
    for (encoding, media_type) in ENCODINGS {
        let begin = format!("{}-{encoding}", size.name);
        let sweeps = orders(size).any(|(verb, _)| wants(bench, &format!("{begin}-{verb}")));
        let rests = size.pods == BIG.pods && encoding == "json" && LARGE.iter().any(|row| bench.wants(row.id));
        if !sweeps && !rests {
            continue;
        }
        let mut server = Server::start(kind, &bench.directory).await?;
        api::prepare(&server.access).await?;
        let mut client = Client::start(&program(&bench.peers)?, &server, media_type, api::NAMESPACE, &api::pod(0))?;
        for (verb, order) in orders(size) {
            let row = format!("{begin}-{verb}");
            // Nothing can be read that has not been made.
            if verb == "create" || wants(bench, &row) {
                crate::say(&format!("  {row} of {}", kind.name()));
                note(&mut figures, &row, client.carry_out(&order)?);
            }
        }
        drop(client);
        if rests {
            at_rest(bench, &mut server, &mut figures).await?;
        }
    }
    Ok(figures)
}

/// Whether a row that begins so is asked for.
fn wants(bench: &Bench, row: &str) -> bool {
    bench.wants(row) || bench.wanted.iter().any(|it| it.starts_with(row))
}

/// What is sent, in this order, by the end of the names of its rows.
fn orders(size: Size) -> impl Iterator<Item = (String, Value)> {
    let order = move |verb: &'static str, row: &str, workers, seconds| {
        let order = json!({"do": verb, "pods": size.pods, "workers": workers, "seconds": seconds});
        (row.to_owned(), order)
    };
    let requests = [
        order("create", "create", WRITERS, size.seconds),
        order("get", "get", WRITERS, size.seconds),
        order("patch", "patch", WRITERS, size.seconds),
        order("apply", "apply", WRITERS, size.seconds),
        order("list", "list", LISTERS, size.list_seconds),
        order("list-label", "label", LISTERS, size.list_seconds),
    ];
    let watches = WATCHES.map(|(watchers, events)| {
        (format!("watch{watchers}"), json!({"do": "watch", "pods": size.pods, "watchers": watchers, "events": events}))
    });
    requests.into_iter().chain(watches)
}

/// Rows that do not exist are not asked for.
fn note(figures: &mut Figures, row: &str, done: Done) {
    figures.extend([
        (row.to_owned(), done.per_second),
        (format!("{row}-p99"), done.p99),
        (format!("{row}-p50"), done.p50),
        (format!("{row}-cpu"), done.server_cpu),
        (format!("{row}-cpu busy"), done.client_busy),
    ]);
}

/// What the objects take when nobody asks for them, and how long a start with them takes.
async fn at_rest(bench: &Bench, server: &mut Server, figures: &mut Figures) -> Result<()> {
    // Nothing is awaited but time: memory that is given back late has no event.
    tokio::time::sleep_until(Instant::now() + bench.settle).await;
    crate::programs::check_interrupted()?;
    let memory = processes::memory(&server.pids());
    server.restart().await.context("starting again")?;
    figures.extend(
        [
            ("20k-memory", memory.pss),
            ("20k-memory-anon", memory.anonymous),
            ("20k-ready", milliseconds(server.ready_after)),
        ]
        .map(|(row, figure)| (row.to_owned(), figure)),
    );
    Ok(())
}
